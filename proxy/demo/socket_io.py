"""Just enough of `/socket.io/` to try a proxy on: whatever is sent comes back."""

import asyncio
import json
from itertools import count

from aiohttp import WSMsgType, web


class SocketIo:
    """Echoes over WebSocket and over long polling.

    A poll waits up to `hold_s` seconds for something to have been posted to
    its session, then answers with a no-op packet. `close` ends all that wait.
    """

    def __init__(self, *, hold_s: float) -> None:
        self._hold_s = hold_s
        self._posted: dict[str, asyncio.Queue[str]] = {}
        self._sockets: set[web.WebSocketResponse] = set()
        self._numbers = count(1)

    async def get(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request)
        sid = request.query.get("sid")
        if sid is None:
            sid = f"demo{next(self._numbers)}"
            self._posted[sid] = asyncio.Queue()
            opening = {"sid": sid, "upgrades": ["websocket"], "pingInterval": 25000}
            return web.Response(text="0" + json.dumps(opening))
        if sid not in self._posted:
            return web.json_response({"code": 1, "message": "Session ID unknown"}, status=400)
        try:
            async with asyncio.timeout(self._hold_s):
                return web.Response(text=await self._posted[sid].get())
        except TimeoutError:
            return web.Response(text="6")

    async def post(self, request: web.Request) -> web.Response:
        sid = request.query.get("sid", "")
        if sid not in self._posted:
            return web.json_response({"code": 1, "message": "Session ID unknown"}, status=400)
        self._posted[sid].put_nowait(await request.text())
        return web.Response(text="ok")

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await socket.send_str(message.data)
                elif message.type is WSMsgType.BINARY:
                    await socket.send_bytes(message.data)
        finally:
            self._sockets.discard(socket)
        return socket

    async def close(self) -> None:
        for posted in self._posted.values():
            posted.put_nowait("1")
        for socket in list(self._sockets):
            await socket.close(code=1001)
