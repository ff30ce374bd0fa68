"""HTTP in spans, by the names of OpenTelemetry's semantic conventions."""

from collections.abc import MutableMapping

from yarl import URL

from proxy.tracing.parent import PARENT, STATE, TraceParent
from proxy.tracing.tracer import Attributes, Span, Tracer, here

METHOD = "http.request.method"
STATUS = "http.response.status_code"
ROUTE = "http.route"
_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}
)


def method_word(method: str) -> str:
    """A method that everybody knows, else `_OTHER`: a caller may send any word."""
    return method if method in _METHODS else "_OTHER"


def client_span(tracer: Tracer, method: str, url: URL) -> Span:
    """The span of a request that we make to `url`, of which only host and port are told."""
    if not tracer.is_on:
        return tracer.span(method)
    word = method_word(method)
    attributes: Attributes = {
        METHOD: word,
        "server.address": url.host or "",
        "server.port": url.port or 0,
    }
    return tracer.span("HTTP" if word == "_OTHER" else word, "client", attributes)


def answered(span: Span, status: int, *, failed_from: int = 400) -> None:
    """`failed_from`: the status from which on the answer is an error: 500 where we gave it."""
    span.set(STATUS, status)
    if status >= failed_from:
        span.failed(str(status))


def replace_parent(headers: MutableMapping[str, str]) -> None:
    """Let the next hop stand below our span, or know that the trace begun here is not recorded.

    `headers` are the caller's, and ignore case. Without tracing, and where the
    caller names a place that we record nothing at, they stay as they are.
    """
    position = here()
    if position is None or isinstance(position, TraceParent):
        return
    if position.is_ours:
        for name in (PARENT, STATE):
            while headers.pop(name, None) is not None:
                pass
    elif PARENT in headers:
        return
    headers.update(position.headers())
