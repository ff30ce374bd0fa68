"""What the span of a request says: our own words, and nothing that only its caller knows. Pure."""

from multidict import CIMultiDict

from proxy.tracing.http import METHOD, ROUTE, method_word
from proxy.tracing.tracer import Attributes, Value

PASSTHROUGH = "passthrough"
_SOURCES = frozenset({"optimized", "legacy", "stale"})
_RESULTS = frozenset({"hit", "miss", "stale", "bypass"})
_VARIANTS = frozenset({"optimized", "legacy"})


def described(method: str, path: str, word: str) -> tuple[str, dict[str, Value]]:
    """Name and attributes of a request's span. `path` is told only where it is one of ours."""
    known = method_word(method)
    name = "HTTP" if known == "_OTHER" else known
    attributes: dict[str, Value] = {METHOD: known, "proxy.route": word}
    if word != PASSTHROUGH:
        name = f"{name} {path}"
        attributes[ROUTE] = path
    return name, attributes


def said_of(headers: CIMultiDict[str]) -> Attributes:
    """What the headers of an answer to one of our routes say of how it came about."""
    found: dict[str, Value] = {}
    source = headers.get("X-Dashboard-Source", "")
    if source in _SOURCES:
        found["proxy.source"] = source
    variant = headers.get("X-Dashboard-Variant", "")
    if variant in _VARIANTS:
        found["proxy.variant"] = variant
    for part in headers.get("Cache-Status", "").split("; ")[1:]:
        name, _, value = part.partition("=")
        result = value if name == "fwd" else name
        if result in _RESULTS:
            found["proxy.cache"] = result
        elif name == "detail":
            found["proxy.cache.detail"] = value
    return found
