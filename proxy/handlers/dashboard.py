"""The routes that we answer ourselves: request to Query, Answer to response."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog
from aiohttp import web

from proxy.access.doorman import Doorman, admitted
from proxy.answer import Answer
from proxy.canonical import Limits
from proxy.clock import Clock
from proxy.errors import BackendError, RequestError
from proxy.handlers.bypass import Bypass, printable, request_id
from proxy.handlers.cors import Cors
from proxy.handlers.encodings import Encodings
from proxy.handlers.failures import failure_response
from proxy.handlers.fast_lane import Lane, Question
from proxy.handlers.lane_protocol import raw_bytes_of
from proxy.handlers.questions import Questions, Refused
from proxy.handlers.responses import CACHE_NAME, Wanted, render_answer
from proxy.handlers.sampling import Sampling
from proxy.handlers.variants import TOKEN, Variants
from proxy.query import Query, ShapeName
from proxy.read_through import ReadThrough
from proxy.rollout.split import Variant
from proxy.telemetry import Telemetry
from proxy.tracing.parent import PARENT

log = structlog.get_logger(__name__)

LARGEST_BODY = 2**20
"""Bytes of a question's body: real ones have a few hundred."""
BODY_TIMEOUT_S = 30.0


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
MOUNTS = ("", "/api/dashboard")
ROUTES: Mapping[str, Route] = {
    f"{mount}{path}": route for path, route in _ROUTES.items() for mount in MOUNTS
}


class Dashboard:
    """Answers one request to one of ROUTES, or hands it to the legacy untouched."""

    def __init__(
        self,
        read_through: ReadThrough,
        bypass: Bypass,
        encodings: Encodings,
        lane: Lane,
        telemetry: Telemetry,
        clock: Clock,
        *,
        limits: Limits,
        cors: Cors,
        variants: Variants,
        has_legacy: bool,
        sampling: Sampling | None = None,
        doorman: Doorman | None = None,
    ) -> None:
        self._read_through = read_through
        self._bypass = bypass
        self._encodings = encodings
        self._lane = lane
        self._telemetry = telemetry
        self._clock = clock
        self._questions = Questions(limits)
        self._cors = cors
        self._variants = variants
        self._has_legacy = has_legacy
        self._doorman = doorman
        self._sampling = sampling

    async def handle(self, request: web.BaseRequest, route: Route) -> web.StreamResponse:
        started = self._clock.monotonic()
        side: Variant = "optimized"
        if route.is_split:
            side = self._variants.side(request.headers, request.remote or "")
        if request.method == "OPTIONS":
            return await self._options(request, route, side)
        if request.method not in ("GET", "HEAD", "POST"):
            return await self._bypass.forward(request, route.word, "method")
        if side == "legacy":
            return await self._by_legacy(request, route)
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
        asked = self._questions.read(request, body, route.shape, is_foreign=route.is_split)
        if isinstance(asked, Refused):
            if asked.is_foreign and self._has_legacy:
                return await self._bypass.forward(request, route.word, "not-understood", body)
            log.info("refused", route=route.word, error=str(asked.error))
            return self._failed(request, route, asked.error, 400)
        # Its own errors go on to the front: that nobody can say who may have an
        # answer is no failure of the answer.
        async with admitted(self._doorman, request.headers):
            try:
                answer = await self._answer(asked)
            except BackendError as error:
                log.warning("no_answer", route=route.word, reason=error.reason, error=str(error))
                if route.is_split and self._sampling is not None:
                    self._sampling.failed(error)
                return self._failed(request, route, error, 503)
        response = await self._respond(request, route, asked, answer)
        self._count(route, answer, self._clock.monotonic() - started)
        if route.is_split and self._sampling is not None:
            self._sampling.answered(asked, answer)
        return response

    async def _by_legacy(self, request: web.BaseRequest, route: Route) -> web.StreamResponse:
        """As the split has it. What is sampled is sent on as all else, only that we know it too."""
        sampling = self._sampling
        if sampling is None or not _is_short(request) or not sampling.wants():
            return await self._bypass.forward(request, route.word, "split")
        # No limit of ours: without the shadow the legacy would wait as long.
        body = await request.content.read()
        asked = self._questions.read(request, body, route.shape, is_foreign=route.is_split)
        if isinstance(asked, Refused):
            return await self._bypass.forward(request, route.word, "split", body)
        with sampling.shadow.watching(asked) as capture:
            return await self._bypass.forward(request, route.word, "split", body, capture)

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

    async def _respond(
        self, request: web.BaseRequest, route: Route, query: Query, answer: Answer
    ) -> web.StreamResponse:
        headers = request.headers
        more = self._more(route, answer, headers.get("Origin"))
        coding, body = await self._encodings.body(answer, headers.get("Accept-Encoding", ""))
        asked_id = printable(headers.get("X-Request-ID", ""))
        if_none_match = headers.get("If-None-Match", "")
        own_id = asked_id or ("" if answer.result == "hit" else request_id(request))
        wanted = Wanted(coding, if_none_match, own_id)
        rendered = render_answer(answer, wanted, body, now=self._clock.now(), more=more)
        is_kept = answer.is_stored and answer.source == "optimized"
        if is_kept and not asked_id and self._is_ours_by_its_bytes(request, route):
            question = Question(
                query, route.word, replace(wanted, request_id=""), more,
                is_head=request.method == "HEAD", is_split=route.is_split,
            )  # fmt: skip
            self._lane.remember(raw_bytes_of(request), question, headers)
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
                request_id=own_id,
                **query.as_parameters(),
            )
        return rendered.response()

    def _is_ours_by_its_bytes(self, request: web.BaseRequest, route: Route) -> bool:
        """By the split of this moment, not of the one when the request was dealt to us."""
        # Whoever is traced sends other bytes each time: they would only fill the lane.
        if TOKEN in request.headers or PARENT in request.headers:
            return False
        address = request.remote or ""
        return not route.is_split or self._variants.is_ours_by_its_bytes(request.headers, address)

    def _more(self, route: Route, answer: Answer, origin: str | None) -> Mapping[str, str]:
        more = dict(self._cors.answer_headers(origin))
        if route.is_split:
            more["X-Dashboard-Variant"] = "optimized"
        return more

    async def _options(
        self, request: web.BaseRequest, route: Route, side: Variant
    ) -> web.StreamResponse:
        allowed = self._cors.preflight_headers(
            request.headers.get("Origin"), request.headers.get("Access-Control-Request-Headers")
        )
        if allowed is None or "Access-Control-Request-Method" not in request.headers:
            return await self._bypass.forward(request, route.word, "method")
        told = {"X-Dashboard-Variant": side} if route.is_split else {}
        return web.Response(status=204, headers={**allowed, **told})

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
            "X-Request-ID": request_id(request),
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
        if answer.source == "optimized" and (answer.result != "hit" or answer.detail == "redis"):
            place = "redis" if answer.result == "hit" else "database"
            self._telemetry.beyond_memory_seconds.labels(route.word, place).observe(seconds)


def _is_short(request: web.BaseRequest) -> bool:
    """Whether its body is known beforehand to be no longer than a question's."""
    is_whole = "Transfer-Encoding" not in request.headers
    is_question = request.method in ("GET", "POST")
    return is_question and is_whole and (request.content_length or 0) <= LARGEST_BODY
