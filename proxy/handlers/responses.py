"""An Answer as HTTP: headers, content coding, 304. The same headers whichever way they are sent."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from proxy.answer import Answer
from proxy.handlers.negotiation import etag_of, has_already

CACHE_NAME = "dashboard-proxy"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller's headers ask of any answer to its question."""

    coding: str | None
    if_none_match: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """Status, headers and body of a response; an empty body with 304."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def response(self) -> web.Response:
        return web.Response(status=self.status, headers=self.headers, body=self.body)


def render_answer(
    answer: Answer, wanted: Wanted, body: bytes, *, now: float, more: Mapping[str, str]
) -> Rendered:
    """`body` is the answer's in `wanted.coding`; `now` is seconds since the epoch."""
    etag = etag_of(answer.payload.etag, wanted.coding)
    headers = {
        "Content-Type": answer.content_type,
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Vary": "Accept-Encoding",
        "Cache-Status": cache_status(answer),
        "Age": str(age_s(answer.stored_at, now)),
        "Server-Timing": server_timing(answer),
        "X-Dashboard-Source": answer.source,
        "X-Data-Watermark": answer.watermark or "none",
    }
    if wanted.coding is not None:
        headers["Content-Encoding"] = wanted.coding
    if answer.warnings:
        headers["X-Dashboard-Warning"] = ", ".join(answer.warnings)
    if wanted.request_id:
        headers["X-Request-ID"] = wanted.request_id
    if "Vary" in more:
        headers["Vary"] = f"{headers['Vary']}, {more['Vary']}"
    headers.update((name, value) for name, value in more.items() if name != "Vary")
    if wanted.if_none_match and has_already(wanted.if_none_match, answer.payload.etag):
        for name in ("Content-Type", "Content-Encoding"):
            headers.pop(name, None)
        return Rendered(304, headers, b"")
    return Rendered(200 if answer.status == 200 else answer.status, headers, body)


def cache_status(answer: Answer) -> str:
    """RFC 9211: `hit`, or why the request went forward and whether what came is kept."""
    parts = [CACHE_NAME]
    if answer.result == "hit":
        parts.append("hit")
    else:
        parts.append(f"fwd={answer.result}")
        if answer.is_stored:
            parts.append("stored")
        if answer.is_collapsed:
            parts.append("collapsed")
    if answer.detail:
        parts.append(f"detail={answer.detail}")
    return "; ".join(parts)


def server_timing(answer: Answer) -> str:
    """What making the body took; on a hit, what it took back then."""
    return f'cache;desc="{answer.result}", fill;dur={answer.cost_ms:.1f}'


def age_s(stored_at: float | None, now: float) -> int:
    """Whole seconds since `stored_at`; 0 for what is not kept."""
    return 0 if stored_at is None else max(0, int(now - stored_at))
