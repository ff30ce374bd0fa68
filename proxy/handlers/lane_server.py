"""The server of the public port: makes its connections, and leaves them without a loss."""

import asyncio
from contextlib import suppress
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from proxy.handlers.fast_lane import Lane
from proxy.handlers.lane_protocol import LaneProtocol

_STEPS_TO_BE = 3
_BETWEEN_LOOKS_S = 0.1
_LATE_S = 1.0


class LaneRequest(web.BaseRequest):
    """A request that does not keep its connection when the port is being left.

    Asked when the head of the answer is made, the last moment to say so. What was
    sent behind it on the same connection is answered first.
    """

    def __init__(self, lane: Lane, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._lane = lane

    ATTRS = web.BaseRequest.ATTRS | {"_lane"}

    @property
    def keep_alive(self) -> bool:
        if self._lane.is_closed and not self._protocol._messages:
            return False
        return not self._message.should_close


class LaneServer(web.Server):
    """A server whose connections look at the lane first, and which can be left without a loss."""

    def __init__(self, handler: Any, lane: Lane, **kwargs: Any) -> None:
        super().__init__(handler, **kwargs)
        self._lane = lane
        self._open: set[RequestHandler] = set()
        self._stir = asyncio.Event()
        self._is_hurried = False
        self._is_late = False

    def __call__(self) -> RequestHandler:
        return LaneProtocol(self, self._lane, loop=self._loop, **self._kwargs)

    @property
    def is_draining(self) -> bool:
        return self._lane.is_closed

    async def drain(self, grace_s: float, limit_s: float) -> None:
        """Answer what still comes on the connections there are, each with a last answer.

        To be called when nothing listens any more. One that has been idle for `grace_s`
        is closed. Returns when none is left, after `limit_s`, or when hurried.
        """
        self._lane.close()
        # Connections that were accepted a moment ago come to be in these steps.
        for _ in range(_STEPS_TO_BE):
            await asyncio.sleep(0)
        begun_at = self._loop.time()
        try:
            async with asyncio.timeout(limit_s):
                while self._open and not self._is_hurried:
                    for one in list(self._open):
                        if isinstance(one, LaneProtocol):
                            one.leave(begun_at, grace_s)
                    self._stir.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_BETWEEN_LOOKS_S):
                            await self._stir.wait()
        except TimeoutError:
            self._is_late = True

    def hurry(self) -> None:
        """Have `drain` wait no longer."""
        self._is_hurried = True
        self._stir.set()

    async def shutdown(self, timeout: float | None = None) -> None:
        # Those that are left have had their time.
        await super().shutdown(_LATE_S if self._is_late else timeout)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._open.add(handler)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._open.discard(handler)
        self._stir.set()

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        return LaneRequest(
            self._lane, message, payload, protocol, writer, task, asyncio.get_running_loop()
        )
