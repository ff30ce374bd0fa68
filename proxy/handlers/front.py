"""The public port: our routes to the dashboard handler, all else to the legacy."""

import structlog
from aiohttp import web
from aiohttp.http import HttpVersion11

from proxy.clock import Clock
from proxy.handlers.cached_routes import CachedRoutes
from proxy.handlers.dashboard import ROUTES, Dashboard
from proxy.handlers.passthrough import Passthrough
from proxy.telemetry import Telemetry

log = structlog.get_logger(__name__)


class Front:
    """Called for each request that the fast lane did not answer."""

    def __init__(
        self,
        dashboard: Dashboard,
        passthrough: Passthrough,
        telemetry: Telemetry,
        clock: Clock,
        *,
        cached_routes: CachedRoutes | None = None,
    ) -> None:
        self._dashboard = dashboard
        self._passthrough = passthrough
        self._telemetry = telemetry
        self._clock = clock
        self._cached_routes = cached_routes

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
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


async def _go_ahead(request: web.BaseRequest) -> None:
    """Tell a caller that waits for it to send the body. Any other expectation is overlooked."""
    expected = request.headers["Expect"].lower()
    if expected == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The answer itself has not begun: an error may still become one.
        request.writer.output_size = 0
