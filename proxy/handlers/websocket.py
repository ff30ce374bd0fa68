"""A WebSocket through the proxy: bytes both ways once the legacy has switched protocols.

The frames are not looked at, so subprotocols, extensions, pings, close codes
and messages of any size are the two ends' own affair.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

import aiohttp
from aiohttp import web
from aiohttp.http_writer import StreamWriter

_BUFFER_BYTES = 65536


class _Connection(Protocol):
    """What the tunnel needs of aiohttp's protocols, the server's and the client's."""

    @property
    def connected(self) -> bool: ...


class Tunnel:
    """Two upgraded connections that live and die together.

    `run` returns when either side is gone; cancelled, it leaves the same way.
    The caller's connection closes after the handler, the legacy's in `hang_up`.
    A side that reads slowly holds the other back: neither is buffered whole.
    """

    def __init__(
        self, request: web.BaseRequest, response: web.StreamResponse, legacy: aiohttp.ClientResponse
    ) -> None:
        self._request = request
        self._response = response
        self._legacy = legacy

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        connection = self._legacy.connection
        if (
            connection is None
            or connection.protocol is None
            or not self._request.protocol.connected
        ):
            return
        far, near = connection.protocol, self._request.protocol
        from_legacy = _Feed(far, loop)
        from_caller = _Feed(near, loop)
        far.set_parser(from_legacy, None)
        near.set_parser(cast(Any, from_caller))
        to_legacy = StreamWriter(far, loop)
        async with asyncio.TaskGroup() as group:
            down = group.create_task(_pump(from_legacy, self._response.write))
            up = group.create_task(_pump(from_caller, to_legacy.write))
            down.add_done_callback(lambda _: up.cancel())
            up.add_done_callback(lambda _: down.cancel())

    def hang_up(self) -> None:
        self._legacy.close()


class _Feed:
    """Takes the place of aiohttp's frame parser and keeps the bytes as they are."""

    def __init__(self, connection: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._connection: _Connection = connection
        self._stream = aiohttp.StreamReader(connection, _BUFFER_BYTES, loop=loop)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._stream.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        self._stream.feed_eof()

    async def read(self) -> bytes:
        """The bytes that have come, at least one; b"" once the connection is gone."""
        # A connection lost before the feed was set never tells it.
        if not self._connection.connected and not self._stream.is_eof():
            self._stream.feed_eof()
        return await self._stream.readany()


async def _pump(feed: _Feed, write: Callable[[bytes], Awaitable[None]]) -> None:
    while data := await feed.read():
        try:
            await write(data)
        except ConnectionError:
            return
