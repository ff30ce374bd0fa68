"""CORS for our own routes, where the operator named origins that may read our answers. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

_READABLE = (
    "ETag, Age, Cache-Status, Server-Timing, X-Dashboard-Source, X-Dashboard-Variant, "
    "X-Dashboard-Warning, X-Data-Watermark, X-Request-ID"
)
_USUAL = "Content-Type"
_PREFLIGHT_AGE_S = 600


@dataclass(frozen=True, slots=True)
class Cors:
    """`origins` as the browser sends them (`https://app.example`), or `*` for any."""

    origins: frozenset[str] = frozenset()

    @property
    def is_on(self) -> bool:
        return bool(self.origins)

    def answer_headers(self, origin: str | None) -> Mapping[str, str]:
        """What an answer to a request from `origin` carries."""
        if not self.is_on:
            return {}
        if origin is None or not self._may_read(origin):
            return {"Vary": "Origin"}
        return {
            "Vary": "Origin",
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Expose-Headers": _READABLE,
        }

    def preflight_headers(self, origin: str | None, asked: str | None) -> Mapping[str, str] | None:
        """The answer to a preflight of `origin`; None when it is not ours to answer."""
        if not self.is_on or origin is None or not self._may_read(origin):
            return None
        return {
            **self.answer_headers(origin),
            "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
            "Access-Control-Allow-Headers": asked if asked and _is_echoable(asked) else _USUAL,
            "Access-Control-Max-Age": str(_PREFLIGHT_AGE_S),
        }

    def _may_read(self, origin: str) -> bool:
        return origin in self.origins or ("*" in self.origins and _is_echoable(origin))


def _is_echoable(text: str) -> bool:
    """Whether a caller's own text may stand in a header: not every byte that came in may go out."""
    return text.isascii() and text.isprintable()
