"""Webhook: tells a URL of each change of the rollout."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime

import aiohttp
import orjson
import structlog
from yarl import URL

from proxy.background import Background
from proxy.errors import BackendError
from proxy.rollout.ramp import Event

log = structlog.get_logger(__name__)

Sleep = Callable[[float], Awaitable[None]]

_MOST_WAITING = 20


class Webhook:
    """POSTs each event as JSON, one after the other, up to `tries` times until it gets a 2xx.

    Who tells never waits and never hears of a failure, which is logged
    without the URL: it may hold a token. Events beyond 20 that wait are dropped.
    """

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        background: Background,
        *,
        timeout_s: float = 5.0,
        tries: int = 3,
        pause_s: float = 1.0,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._url = URL(url)
        self._session = session
        self._background = background
        self._timeout_s = timeout_s
        self._tries = tries
        self._pause_s = pause_s
        self._sleep = sleep
        self._in_order = asyncio.Lock()
        self._waiting = 0

    def tell(self, event: Event) -> None:
        if self._waiting >= _MOST_WAITING:
            log.warning("webhook_dropped", about=event.event)
            return
        # Refused when the proxy leaves: what the webhook is told of is in the log as well.
        with suppress(RuntimeError):
            self._background.spawn(self._deliver(event), name="webhook")
            self._waiting += 1

    async def _deliver(self, event: Event) -> None:
        at = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds")
        body = orjson.dumps(asdict(event) | {"at": at.replace("+00:00", "Z")})
        try:
            async with self._in_order:
                failure = await self._try(body)
                for attempt in range(1, self._tries):
                    if failure is None:
                        return
                    await self._sleep(self._pause_s * attempt)
                    failure = await self._try(body)
                if failure is not None:
                    log.warning("webhook_failed", about=event.event, error=failure)
        finally:
            self._waiting -= 1

    async def _try(self, body: bytes) -> str | None:
        """Why it was not delivered, in words that hold nothing of the URL."""
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.post(
                    self._url,
                    data=body,
                    headers={"Content-Type": "application/json"},
                    # It was told where to go; elsewhere the token has no business.
                    allow_redirects=False,
                ) as response,
            ):
                return None if 200 <= response.status < 300 else f"it answers {response.status}"
        except (aiohttp.ClientError, BackendError, OSError, ValueError) as error:
            # The session may speak in our own errors. TimeoutError is an OSError.
            return type(error).__name__

    def __repr__(self) -> str:
        return f"<Webhook {self._url.host} waiting={self._waiting}>"
