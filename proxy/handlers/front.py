"""The public port: our routes to the dashboard handler, all else to the legacy."""

import structlog
from aiohttp import web
from aiohttp.http import HttpVersion11

from proxy.access.doorman import Doorman
from proxy.access.verdict import REFUSALS, RefusedError
from proxy.clock import Clock
from proxy.errors import BackendError
from proxy.handlers.bypass import request_id
from proxy.handlers.cached_routes import WORD, CachedRoutes
from proxy.handlers.cors import Cors
from proxy.handlers.dashboard import ROUTES, Dashboard
from proxy.handlers.failures import failure_response
from proxy.handlers.passthrough import Passthrough
from proxy.handlers.refused import refusal_response
from proxy.telemetry import Telemetry

log = structlog.get_logger(__name__)


_NO_ORIGINS = Cors()


class Front:
    """Called for each request that the fast lane did not answer.

    `doorman` hears of every refusal of the legacy that goes out here.
    """

    def __init__(
        self,
        dashboard: Dashboard,
        passthrough: Passthrough,
        telemetry: Telemetry,
        clock: Clock,
        *,
        cached_routes: CachedRoutes | None = None,
        doorman: Doorman | None = None,
        cors: Cors = _NO_ORIGINS,
    ) -> None:
        self._dashboard = dashboard
        self._passthrough = passthrough
        self._telemetry = telemetry
        self._clock = clock
        self._cached_routes = cached_routes
        self._doorman = doorman
        self._cors = cors

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = await self._answer(request)
        except (RefusedError, BackendError) as error:
            return self._turned_away(request, error)
        if self._doorman is not None and response.status in REFUSALS:
            self._doorman.withdraw(request.headers)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if "Expect" in request.headers:
            await _go_ahead(request)
        path, _, _ = request.raw_path.partition("?")
        route = ROUTES.get(path)
        if route is not None:
            return await self._dashboard.handle(request, route)
        if self._cached_routes is not None and (
            cached := self._cached_routes.find(request.method, path)
        ):
            return await self._cached_routes.handle(request, cached)
        started = self._clock.monotonic()
        response = await self._passthrough.forward(request)
        seconds = self._clock.monotonic() - started
        self._telemetry.requests.labels("passthrough", "legacy", "bypass").inc()
        self._telemetry.request_seconds.labels("passthrough", "legacy").observe(seconds)
        # Without the query string: on other people's paths it may hold secrets.
        log.info(
            "passed",
            method=request.method,
            path=path,
            status=response.status,
            ms=round(seconds * 1000, 1),
        )
        return response

    def _turned_away(
        self, request: web.BaseRequest, error: RefusedError | BackendError
    ) -> web.Response:
        """The answer to who is not let in, or of whom nobody can say whether he is."""
        path, _, _ = request.raw_path.partition("?")
        route = ROUTES.get(path)
        word = WORD if route is None else route.word
        answer_id = request_id(request)
        if isinstance(error, RefusedError):
            self._telemetry.requests.labels(word, "legacy", "refused").inc()
            response = refusal_response(error.refusal, answer_id)
        else:
            self._telemetry.requests.labels(word, "none", "error").inc()
            log.warning("no_verdict", route=word, reason=error.reason, error=str(error))
            headers = {"Cache-Control": "no-store", "X-Request-ID": answer_id}
            response = failure_response(error, unavailable=503, headers=headers)
        if route is not None:
            if route.is_split:
                response.headers["X-Dashboard-Variant"] = "optimized"
            response.headers.update(self._cors.answer_headers(request.headers.get("Origin")))
        return response


async def _go_ahead(request: web.BaseRequest) -> None:
    """Tell a caller that waits for it to send the body. Any other expectation is overlooked."""
    expected = request.headers["Expect"].lower()
    if expected == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The answer itself has not begun: an error may still become one.
        request.writer.output_size = 0
