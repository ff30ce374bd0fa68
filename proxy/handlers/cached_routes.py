"""Legacy routes whose answers are kept: request to question, answer to response."""

import asyncio
from collections.abc import Iterable, Mapping

import structlog
from aiohttp import web
from multidict import CIMultiDict

from proxy.access.doorman import Doorman, admitted
from proxy.answer import Answer
from proxy.cached_answers import CachedAnswers, Unkept
from proxy.cached_reply import LegacyReply
from proxy.cached_route import Asked, PastCacheError, Target, check_headers, understand
from proxy.clock import Clock
from proxy.errors import BackendError, RequestError, SettingsError
from proxy.handlers.bypass import printable, request_id
from proxy.handlers.dashboard import BODY_TIMEOUT_S, ROUTES
from proxy.handlers.encodings import Encodings
from proxy.handlers.failures import failure_response
from proxy.handlers.passthrough import Passthrough
from proxy.handlers.responses import CACHE_NAME, Wanted, render_answer
from proxy.handlers.whole_reply import TOO_LONG, LegacyDesk
from proxy.settings_tables import CachedRoute
from proxy.telemetry import Telemetry

log = structlog.get_logger(__name__)

WORD = "cached"
"""The route in metrics, whichever of them it was."""


class CachedRoutes:
    """Answers requests to the configured routes; what it must not answer goes on untouched."""

    def __init__(
        self,
        routes: Iterable[CachedRoute],
        answers: CachedAnswers,
        desk: LegacyDesk,
        passthrough: Passthrough,
        encodings: Encodings,
        telemetry: Telemetry,
        clock: Clock,
        *,
        site: str,
        max_range_days: int,
        doorman: Doorman | None = None,
    ) -> None:
        self._routes = routes_by_request(routes)
        self._answers = answers
        self._desk = desk
        self._passthrough = passthrough
        self._encodings = encodings
        self._telemetry = telemetry
        self._clock = clock
        self._site = site
        self._max_range_days = max_range_days
        self._doorman = doorman

    def find(self, method: str, path: str) -> CachedRoute | None:
        return self._routes.get((method, path))

    def keep_no_load_under_way(self) -> None:
        """As ReadThrough has it."""
        self._answers.keep_no_load_under_way()

    async def handle(self, request: web.BaseRequest, route: CachedRoute) -> web.StreamResponse:
        """The answer to `request`. RefusedError when its caller is not let in."""
        started = self._clock.monotonic()
        response, source, result = await self._respond(request, route)
        self._telemetry.requests.labels(WORD, source, result).inc()
        self._telemetry.request_seconds.labels(WORD, source).observe(
            self._clock.monotonic() - started
        )
        return response

    async def _respond(
        self, request: web.BaseRequest, route: CachedRoute
    ) -> tuple[web.StreamResponse, str, str]:
        """The response, its source and what the cache said, for the metrics."""
        body: bytes | None = None
        try:
            check_headers(route, request.method, request.headers)
            if request.method == "POST":
                body = await _body(request)
            _, _, query_string = request.raw_path.partition("?")
            target = Target(request.method, query_string, request.headers, body or b"")
            asked = understand(route, target, self._site, self._max_range_days)
        except PastCacheError as past:
            return await self._bypass(request, body, past.reason)
        except TimeoutError:
            text = f"Request body incomplete. Must arrive within {BODY_TIMEOUT_S:g} s"
            return _cut_short(RequestError(text)), "none", "error"
        onward = self._desk.onward(request, body or b"")
        try:
            async with admitted(self._doorman, request.headers):
                answer = await self._answers.answer(asked, lambda: self._desk.ask(onward))
        except BackendError as error:
            if error.reason == TOO_LONG:
                return await self._bypass(request, body, "too-long")
            self._telemetry.upstream_errors.labels(error.reason).inc()
            log.warning("no_answer", route=route.path, reason=error.reason, error=str(error))
            return self._failed(request, error), "none", "error"
        if isinstance(answer, Answer):
            return await self._kept(request, asked, answer), answer.source, answer.result
        if answer.reply is None:
            return await self._bypass(request, body, answer.detail)
        log.info("not_kept", route=route.path, detail=answer.detail, status=answer.reply.status)
        return self._unkept(request, answer, answer.reply), "legacy", answer.result

    async def _kept(self, request: web.BaseRequest, asked: Asked, answer: Answer) -> web.Response:
        headers = request.headers
        coding, body = await self._encodings.body(answer, headers.get("Accept-Encoding", ""))
        request_id = _request_id(request, is_hit=answer.result == "hit")
        wanted = Wanted(coding, headers.get("If-None-Match", ""), request_id)
        rendered = render_answer(
            answer, wanted, body, now=self._clock.now(), more=dict(answer.headers)
        )
        if answer.result != "hit":
            log.info(
                "answered",
                route=asked.route.path,
                source=answer.source,
                cache=answer.result,
                detail=answer.detail,
                status=rendered.status,
                bytes=len(rendered.body),
                fill_ms=round(answer.cost_ms, 1),
                request_id=request_id,
            )
        return rendered.response()

    def _unkept(self, request: web.BaseRequest, unkept: Unkept, reply: LegacyReply) -> web.Response:
        headers = CIMultiDict(reply.headers)
        headers["X-Dashboard-Source"] = "legacy"
        headers["X-Request-ID"] = _request_id(request)
        parts = [CACHE_NAME, f"fwd={unkept.result}"]
        if unkept.is_collapsed:
            parts.append("collapsed")
        headers["Cache-Status"] = "; ".join([*parts, f"detail={unkept.detail}"])
        if unkept.warnings:
            headers["X-Dashboard-Warning"] = ", ".join(unkept.warnings)
        return web.Response(
            status=reply.status, reason=reply.reason, headers=headers, body=reply.body
        )

    async def _bypass(
        self, request: web.BaseRequest, body: bytes | None, detail: str
    ) -> tuple[web.StreamResponse, str, str]:
        headers = {
            "X-Dashboard-Source": "legacy",
            "Cache-Status": f"{CACHE_NAME}; fwd=bypass; detail={detail}",
        }
        response = await self._passthrough.forward(request, body=body, extra_headers=headers)
        return response, "legacy", "bypass"

    def _failed(self, request: web.BaseRequest, error: BackendError) -> web.Response:
        headers = {"Cache-Control": "no-store", "X-Request-ID": _request_id(request)}
        return failure_response(error, headers=headers)


def routes_by_request(routes: Iterable[CachedRoute]) -> Mapping[tuple[str, str], CachedRoute]:
    """Method and path to route. SettingsError for a path of ours, or one that two tables have."""
    found: dict[tuple[str, str], CachedRoute] = {}
    for number, route in enumerate(routes):
        if route.path in ROUTES:
            raise SettingsError(
                f"cached_routes[{number}].path is {route.path!r}: the proxy answers it itself"
            )
        for method in route.methods:
            if found.setdefault((method, route.path), route) is not route:
                raise SettingsError(
                    f"cached_routes[{number}].path is {route.path!r}: "
                    f"another table has it for {method}"
                )
    return found


async def _body(request: web.BaseRequest) -> bytes:
    """The whole body, whose length is known and was looked at. Raises TimeoutError."""
    async with asyncio.timeout(BODY_TIMEOUT_S):
        return await request.content.read()


def _cut_short(error: RequestError) -> web.Response:
    response = failure_response(error)
    response.set_status(408)
    response.force_close()
    return response


def _request_id(request: web.BaseRequest, *, is_hit: bool = False) -> str:
    """The caller's own; one of ours where it has none, but not on a hit."""
    asked_id = printable(request.headers.get("X-Request-ID", ""))
    return asked_id or ("" if is_hit else request_id(request))
