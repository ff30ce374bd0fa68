"""/admin/overview and /admin/events: how the proxy is, once or for as long as somebody looks."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import web

from proxy.background import Background
from proxy.handlers.admin_access import failure
from proxy.handlers.admin_pipeline import lasting
from proxy.handlers.admin_request import respond
from proxy.live.broadcast import Broadcast, News, Topic, Watch

MOST_STREAMS = 32
_BEAT_S = 15.0
_PATIENCE_S = 30.0
"""How long a reader may take for what was written to him, before he is given up."""
_NO_NEWS = b": nothing new\n\n"
_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    # A proxy in front must hand on each event as it comes.
    "X-Accel-Buffering": "no",
}

Collect = Callable[[], Awaitable[Mapping[str, Any] | None]]


class AdminLive:
    """`snapshot` collects an overview, `pipeline` the calendar, `audit` the newest audit entry.

    Where these come from is not its business: one process, or several added up.
    A reader who falls behind gets the newest state when he reads on; nothing
    queues up for him. `close` ends all streams at once.
    """

    def __init__(
        self,
        snapshot: Callable[[], Awaitable[Mapping[str, Any]]],
        background: Background,
        *,
        pipeline: Collect | None = None,
        audit: Collect | None = None,
        every_s: float = 1.0,
        longest_s: float = 30.0,
        beat_s: float = _BEAT_S,
        patience_s: float = _PATIENCE_S,
        most_streams: int = MOST_STREAMS,
    ) -> None:
        topics = [Topic("overview", snapshot, _lasting)]
        if pipeline is not None:
            topics.append(Topic("pipeline", pipeline, lasting))
        if audit is not None:
            topics.append(Topic("audit", audit, is_event=True))
        self._snapshot = snapshot
        self._broadcast = Broadcast(topics, background, every_s=every_s, longest_s=longest_s)
        self._beat_s = beat_s
        self._patience_s = patience_s
        self._most_streams = most_streams
        self._writing: set[asyncio.Transport] = set()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/overview", self._overview),
            web.get("/events", self._events, allow_head=False),
        ]

    def close(self) -> None:
        self._broadcast.close()
        for transport in list(self._writing):
            # Its reader does not read: an orderly end would wait for him.
            transport.abort()

    async def _overview(self, request: web.Request) -> web.Response:
        return respond(await self._snapshot())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if len(self._broadcast) >= self._most_streams:
            return failure(
                503, f"{self._most_streams} event streams are open already: close one of them"
            )
        response = web.StreamResponse(headers=_HEADERS)
        # Before the first wait: who comes at the same moment must find the place taken.
        with self._broadcast.watching() as watch, suppress(ConnectionError):
            await response.prepare(request)
            await self._tell(request, response, watch)
        return response

    async def _tell(self, request: web.Request, response: web.StreamResponse, watch: Watch) -> None:
        """Until the reader has gone or all is over. Raises ConnectionError."""
        loop = asyncio.get_running_loop()
        last_point: int | None = None
        beat_at = loop.time() + self._beat_s
        # Each round wakes it: a reader who has gone is noticed when there is nothing to write.
        while request.transport is not None:
            news: list[News] | None = []
            with suppress(TimeoutError):
                async with asyncio.timeout_at(beat_at):
                    news = await watch.next()
            if news is None:
                return
            for one in news:
                told = one.told
                if one.topic == "overview":
                    told, last_point = _news_of(told, last_point)
                await self._write(request, response, _event(one.topic, told))
            if not news and loop.time() >= beat_at:
                await self._write(request, response, _NO_NEWS)
            elif not news:
                continue
            beat_at = loop.time() + self._beat_s

    async def _write(self, request: web.Request, response: web.StreamResponse, data: bytes) -> None:
        """Raises ConnectionError when the reader has gone, or does not read."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the reader has gone")
        self._writing.add(transport)
        try:
            async with asyncio.timeout(self._patience_s):
                await response.write(data)
        except TimeoutError as error:
            transport.abort()
            raise ConnectionAbortedError("the reader does not read") from error
        finally:
            self._writing.discard(transport)

    def __repr__(self) -> str:
        return f"<AdminLive streams={len(self._broadcast)}>"


def _news_of(
    overview: Mapping[str, Any], last_point: int | None
) -> tuple[Mapping[str, Any], int | None]:
    """The overview without the points told before; the newest one is always told."""
    history = overview.get("history") or []
    if last_point is None:
        return overview, history[-1]["at"] if history else None
    unseen = [point for point in history if point["at"] > last_point] or history[-1:]
    return {**overview, "history": unseen}, unseen[-1]["at"] if unseen else last_point


def _lasting(overview: Mapping[str, Any]) -> object:
    return {name: value for name, value in overview.items() if name not in ("at", "uptime_s")}


def _event(name: str, told: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(told))
