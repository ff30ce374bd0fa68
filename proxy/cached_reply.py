"""What the legacy answered on a cached route, and whether that may be kept or shared. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

import orjson

_LONGEST_HEADERS = 1024
"""Characters of names and values: they stand in the head of a stored entry."""
_KEYED_ON = frozenset({"accept-encoding", "origin"})
# Those that we write ourselves, and those that are true of one transfer only.
_NOT_KEPT = frozenset(
    {
        "accept-ranges",
        "age",
        "cache-control",
        "cache-status",
        "content-length",
        "content-type",
        "date",
        "etag",
        "expires",
        "last-modified",
        "pragma",
        "server",
        "server-timing",
        "vary",
        "via",
        "x-data-watermark",
        "x-request-id",
    }
)
_NO_DATA = frozenset({"success", "metadata", "meta", "error", "errors", "message", "warnings"})


@dataclass(frozen=True, slots=True)
class LegacyReply:
    """A whole answer of the legacy; of `headers` only those that are the caller's to see."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def get(self, name: str) -> str:
        """The values of `name` (in lower case), joined as HTTP has it; empty without any."""
        return ", ".join(self._values(name))

    @property
    def content_type(self) -> str:
        return self.get("content-type")

    @property
    def is_failure(self) -> bool:
        """Whether the legacy itself failed, as far as it admits."""
        return self.status >= 500

    def _values(self, name: str) -> Iterator[str]:
        return (value for known, value in self.headers if known.lower() == name)


def why_not_shared(reply: LegacyReply, *, is_shared: bool) -> str:
    """Why `reply` is for its own caller alone; empty when it may be given to others.

    `is_shared`: the operator says that all users may see each other's answers.
    """
    if reply.get("set-cookie"):
        return "set-cookie"
    directives = set(_tokens(reply.get("cache-control")))
    if "no-store" in directives:
        return "no-store"
    if "private" in directives and not is_shared:
        return "private"
    if not _KEYED_ON.issuperset(_tokens(reply.get("vary"))):
        return "vary"
    if reply.get("content-encoding").lower() not in ("", "identity"):
        return "encoding"
    return ""


def why_not_kept(reply: LegacyReply, *, is_shared: bool) -> str:
    """Why `reply` is not worth keeping, in a word; empty when it is."""
    if reply.status != 200:
        return "status"
    if reason := why_not_shared(reply, is_shared=is_shared):
        return reason
    if reason := why_no_data(reply):
        return reason
    kept = (("content-type", reply.content_type), *kept_headers(reply))
    return "" if _are_keepable(kept) else "headers"


def why_no_data(reply: LegacyReply) -> str:
    """`no-json`, `no-success` or `empty`: why a 200 holds nothing; empty when it holds data."""
    media_type = reply.content_type.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        return "no-json"
    try:
        parsed = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return "no-json"
    if not isinstance(parsed, dict):
        return "no-json"
    if parsed.get("success") is not True:
        return "no-success"
    if "data" in parsed:
        return "" if _has_content(parsed["data"]) else "empty"
    # Other names than `data`: a list that came out empty hides a failure as
    # well as an empty `data` does, whatever stands beside it.
    others = [
        value
        for name, value in parsed.items()
        if name not in _NO_DATA and (value is None or isinstance(value, list | dict))
    ]
    return "" if others and all(map(_has_content, others)) else "empty"


def kept_headers(reply: LegacyReply) -> tuple[tuple[str, str], ...]:
    """The headers that are kept with the body: CORS, and whatever else tells of the answer."""
    kept: dict[str, str] = {}
    for name, _ in reply.headers:
        if not _is_ours(name.lower()):
            # Under the first spelling; several of one name become one.
            kept.setdefault(name.lower(), name)
    told = ((name, reply.get(lowered)) for lowered, name in kept.items())
    vary = _without_encoding(reply.get("vary"))
    return (*told, ("Vary", vary)) if vary else tuple(told)


def _is_ours(name: str) -> bool:
    return name in _NOT_KEPT or name.startswith("x-dashboard-")


def _without_encoding(vary: str) -> str:
    """Every answer of ours varies on Accept-Encoding."""
    parts = [part.strip() for part in vary.split(",")]
    return ", ".join(part for part in parts if part and part.lower() != "accept-encoding")


def _has_content(value: object) -> bool:
    """Whether a list has items, or an object anything but nothing in it."""
    if isinstance(value, dict):
        return any(map(_holds_something, value.values()))
    return isinstance(value, list) and bool(value)


def _holds_something(value: object) -> bool:
    return _has_content(value) if isinstance(value, list | dict) else value not in (None, "")


def _are_keepable(headers: tuple[tuple[str, str], ...]) -> bool:
    texts = [text for pair in headers for text in pair]
    return sum(map(len, texts)) <= _LONGEST_HEADERS and all(
        text.isascii() and text.isprintable() for text in texts
    )


def _tokens(value: str) -> Iterator[str]:
    """The directives of a list header in lower case, without their arguments."""
    for part in value.split(","):
        if token := part.partition("=")[0].strip().lower():
            yield token
