"""A request to one of our routes that the legacy answers: handed on, marked, counted."""

import structlog
from aiohttp import web

from proxy.clock import Clock
from proxy.handlers.passthrough import Passthrough
from proxy.handlers.responses import CACHE_NAME
from proxy.rollout.capture import Capture
from proxy.telemetry import Telemetry
from proxy.tracing.request import printable as printable
from proxy.tracing.request import request_id_of

log = structlog.get_logger(__name__)


class Bypass:
    """Hands a request to the legacy untouched. `detail` says why it is not answered by us."""

    def __init__(self, passthrough: Passthrough, telemetry: Telemetry, clock: Clock) -> None:
        self._passthrough = passthrough
        self._telemetry = telemetry
        self._clock = clock

    async def forward(
        self,
        request: web.BaseRequest,
        word: str,
        detail: str,
        body: bytes | None = None,
        capture: Capture | None = None,
    ) -> web.StreamResponse:
        """`word` is the route's in metrics; `body` the request's, where it has been read."""
        started = self._clock.monotonic()
        headers = {
            "X-Dashboard-Source": "legacy",
            "X-Dashboard-Variant": "legacy",
            "Cache-Status": f"{CACHE_NAME}; fwd=bypass; detail={detail}",
            "X-Request-ID": request_id(request),
        }
        response = await self._passthrough.forward(
            request, body=body, extra_headers=headers, capture=capture
        )
        self._telemetry.requests.labels(word, "legacy", "bypass").inc()
        self._telemetry.request_seconds.labels(word, "legacy").observe(
            self._clock.monotonic() - started
        )
        log.info("bypassed", route=word, detail=detail, status=response.status)
        return response


def request_id(request: web.BaseRequest) -> str:
    """The caller's, else a new one: the same for all that is done for the request."""
    return request_id_of(request.headers)
