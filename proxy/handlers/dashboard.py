"""The routes that we answer ourselves: request to Query, Answer to response."""

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog
from aiohttp import web

from proxy.answer import Answer
from proxy.canonical import (
    Limits,
    UnknownParameterError,
    canonicalize,
    parse_body,
    parse_query_string,
)
from proxy.clock import Clock
from proxy.errors import BackendError, RequestError
from proxy.handlers.cors import Cors
from proxy.handlers.encodings import Encodings
from proxy.handlers.failures import failure_response
from proxy.handlers.fast_lane import Lane, Question
from proxy.handlers.lane_protocol import raw_bytes_of
from proxy.handlers.passthrough import Passthrough
from proxy.handlers.responses import CACHE_NAME, Wanted, render_answer
from proxy.query import Query, ShapeName
from proxy.read_through import ReadThrough
from proxy.rollout.split import Split
from proxy.telemetry import Telemetry

log = structlog.get_logger(__name__)

LARGEST_BODY = 2**20
"""Bytes of a question's body: real ones have a few hundred."""
BODY_TIMEOUT_S = 30.0
_MOST_PARSED = 8192


@dataclass(frozen=True, slots=True)
class Route:
    """`word` names it in metrics; `is_split`: the legacy knows this path too and judges errors."""

    word: str
    shape: ShapeName
    is_split: bool = False


_ROUTES = {
    "/data": Route("data", "dashboard"),
    "/analytics/data/optimized": Route("optimized", "analytics"),
    "/analytics/data": Route("analytics", "analytics", is_split=True),
}
ROUTES: Mapping[str, Route] = {
    f"{mount}{path}": route for path, route in _ROUTES.items() for mount in ("", "/api/dashboard")
}


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why a request is no question of ours. `is_foreign`: the legacy may know better."""

    error: RequestError
    is_foreign: bool


class Dashboard:
    """Answers one request to one of ROUTES, or hands it to the legacy untouched."""

    def __init__(
        self,
        read_through: ReadThrough,
        passthrough: Passthrough,
        encodings: Encodings,
        lane: Lane,
        telemetry: Telemetry,
        clock: Clock,
        *,
        limits: Limits,
        cors: Cors,
        split: Split,
        has_legacy: bool,
    ) -> None:
        self._read_through = read_through
        self._passthrough = passthrough
        self._encodings = encodings
        self._lane = lane
        self._telemetry = telemetry
        self._clock = clock
        self._limits = limits
        self._cors = cors
        self._split = split
        self._has_legacy = has_legacy
        self._parsed: dict[tuple[str, bool, bytes], Query] = {}

    async def handle(self, request: web.BaseRequest, route: Route) -> web.StreamResponse:
        started = self._clock.monotonic()
        if request.method == "OPTIONS":
            return await self._options(request, route)
        if request.method not in ("GET", "HEAD", "POST"):
            return await self._bypass(request, route, None, "method")
        if self._is_for_legacy(request, route):
            return await self._bypass(request, route, None, "split")
        try:
            body = await self._body(request)
        except TimeoutError:
            text = f"Request body incomplete. Must arrive within {BODY_TIMEOUT_S:g} s"
            return self._cut_short(request, route, RequestError(text), 408)
        except web.RequestPayloadError:
            text = "Invalid request body. Its chunks are malformed"
            return self._cut_short(request, route, RequestError(text), 400)
        if body is None:
            text = f"Request body too large. Must be at most {LARGEST_BODY} bytes"
            return self._cut_short(request, route, RequestError(text), 413)
        asked = self._query(request, route, body)
        if isinstance(asked, _Refused):
            if asked.is_foreign and self._has_legacy:
                return await self._bypass(request, route, body, "not-understood")
            log.info("refused", route=route.word, error=str(asked.error))
            return self._failed(request, route, asked.error, 400)
        try:
            answer = await self._answer(asked)
        except BackendError as error:
            log.warning("no_answer", route=route.word, reason=error.reason, error=str(error))
            return self._failed(request, route, error, 503)
        response = await self._respond(request, route, asked, answer)
        self._count(route, answer, self._clock.monotonic() - started)
        return response

    def _is_for_legacy(self, request: web.BaseRequest, route: Route) -> bool:
        if not route.is_split or not self._has_legacy:
            return False
        return self._split.variant(request.headers, request.remote or "") == "legacy"

    async def _answer(self, query: Query) -> Answer:
        held = self._read_through.held_now(query)
        return held if held is not None else await self._read_through.answer(query)

    async def _body(self, request: web.BaseRequest) -> bytes | None:
        """The whole body; None when it is longer than any question.

        Raises TimeoutError when it does not come, RequestPayloadError when it is malformed.
        """
        if not request.can_read_body:
            return b""
        if (request.content_length or 0) > LARGEST_BODY:
            return None
        body = bytearray()
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.content.iter_any():
                body += part
                if len(body) > LARGEST_BODY:
                    return None
        return bytes(body)

    def _query(self, request: web.BaseRequest, route: Route, body: bytes) -> Query | _Refused:
        is_post = request.method == "POST"
        _, _, query_string = request.raw_path.partition("?")
        text = body if is_post else query_string.encode("utf-8", "surrogateescape")
        memo = (route.shape, is_post, text)
        try:
            if is_post and query_string:
                raise UnknownParameterError(
                    "Unknown query string on POST. Parameters must stand in the body"
                )
            if body and not is_post:
                raise UnknownParameterError(
                    f"Unknown body on {request.method}. Parameters must stand in the query string"
                )
            if request.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise UnknownParameterError("Invalid request body. Must not be compressed")
            if (known := self._parsed.get(memo)) is not None:
                return known
            raw = parse_body(body) if is_post else parse_query_string(query_string)
            query = canonicalize(route.shape, raw, self._limits)
        except UnknownParameterError as error:
            return _Refused(error, is_foreign=True)
        except RequestError as error:
            return _Refused(error, is_foreign=route.is_split)
        if len(self._parsed) >= _MOST_PARSED:
            self._parsed.clear()
        if len(text) <= 4096:
            self._parsed[memo] = query
        return query

    async def _respond(
        self, request: web.BaseRequest, route: Route, query: Query, answer: Answer
    ) -> web.StreamResponse:
        headers = request.headers
        more = self._more(route, answer, headers.get("Origin"))
        coding, body = await self._encodings.body(answer, headers.get("Accept-Encoding", ""))
        asked_id = printable(headers.get("X-Request-ID", ""))
        if_none_match = headers.get("If-None-Match", "")
        request_id = asked_id or ("" if answer.result == "hit" else uuid.uuid4().hex)
        wanted = Wanted(coding, if_none_match, request_id)
        rendered = render_answer(answer, wanted, body, now=self._clock.now(), more=more)
        is_repeatable = not route.is_split or self._split.is_told_by_headers(headers)
        if answer.is_stored and answer.source == "optimized" and not asked_id and is_repeatable:
            question = Question(
                query, route.word, replace(wanted, request_id=""), more, request.method == "HEAD"
            )
            self._lane.remember(raw_bytes_of(request), question)
        if answer.result != "hit":
            log.info(
                "answered",
                route=route.word,
                source=answer.source,
                cache=answer.result,
                detail=answer.detail,
                status=rendered.status,
                bytes=len(rendered.body),
                fill_ms=round(answer.cost_ms, 1),
                request_id=request_id,
                **query.as_parameters(),
            )
        return rendered.response()

    def _more(self, route: Route, answer: Answer, origin: str | None) -> Mapping[str, str]:
        more = dict(self._cors.answer_headers(origin))
        if route.is_split:
            more["X-Dashboard-Variant"] = "optimized"
        return more

    async def _bypass(
        self, request: web.BaseRequest, route: Route, body: bytes | None, detail: str
    ) -> web.StreamResponse:
        started = self._clock.monotonic()
        headers = {
            "X-Dashboard-Source": "legacy",
            "X-Dashboard-Variant": "legacy",
            "Cache-Status": f"{CACHE_NAME}; fwd=bypass; detail={detail}",
            "X-Request-ID": _request_id(request),
        }
        response = await self._passthrough.forward(request, body=body, extra_headers=headers)
        self._telemetry.requests.labels(route.word, "legacy", "bypass").inc()
        self._telemetry.request_seconds.labels(route.word, "legacy").observe(
            self._clock.monotonic() - started
        )
        log.info("bypassed", route=route.word, detail=detail, status=response.status)
        return response

    async def _options(self, request: web.BaseRequest, route: Route) -> web.StreamResponse:
        allowed = self._cors.preflight_headers(
            request.headers.get("Origin"), request.headers.get("Access-Control-Request-Headers")
        )
        if allowed is None or "Access-Control-Request-Method" not in request.headers:
            return await self._bypass(request, route, None, "method")
        return web.Response(status=204, headers=allowed)

    def _failed(
        self,
        request: web.BaseRequest,
        route: Route,
        error: RequestError | BackendError,
        unavailable: int,
    ) -> web.Response:
        self._telemetry.requests.labels(route.word, "none", "error").inc()
        headers = dict(self._cors.answer_headers(request.headers.get("Origin")))
        went = "detail=refused"
        if isinstance(error, BackendError):
            went = f"fwd=miss; detail={error.reason}"
        headers |= {
            "Cache-Control": "no-store",
            "Cache-Status": f"{CACHE_NAME}; {went}",
            "X-Dashboard-Source": "optimized",
            "X-Request-ID": _request_id(request),
        }
        if route.is_split:
            headers["X-Dashboard-Variant"] = "optimized"
        return failure_response(error, unavailable=unavailable, headers=headers)

    def _cut_short(
        self, request: web.BaseRequest, route: Route, error: RequestError, status: int
    ) -> web.Response:
        """The answer to a request whose rest nobody wants to read."""
        response = self._failed(request, route, error, 400)
        response.set_status(status)
        response.force_close()
        return response

    def _count(self, route: Route, answer: Answer, seconds: float) -> None:
        self._telemetry.requests.labels(route.word, answer.source, answer.result).inc()
        self._telemetry.request_seconds.labels(route.word, answer.source).observe(seconds)


def _request_id(request: web.BaseRequest) -> str:
    """The caller's, else a new one."""
    return printable(request.headers.get("X-Request-ID", "")) or uuid.uuid4().hex


def printable(request_id: str) -> str:
    """A caller's request id as far as it may stand in a header and a log line."""
    if len(request_id) > 200 or not request_id.isascii() or not request_id.isprintable():
        return ""
    return request_id
