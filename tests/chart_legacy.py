"""A legacy with one chart whose answers a test makes up, and a proxy that keeps them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from yarl import URL

PATH = "/api/dashboard/analytics/overview-roas-chart"
JUNE = f"{PATH}?start_date=2024-06-28&end_date=2024-06-30"
ROUTE = {"path": PATH, "methods": ("GET", "POST"), "key": ("start_date", "end_date", "breakdown")}


def chart(number: int) -> bytes:
    """An answer worth keeping."""
    return orjson.dumps({"success": True, "data": [{"date": "2024-06-30", "roas": number}]})


@dataclass
class ChartLegacy:
    """Sends chart 1, chart 2 and so on, or what `body`, `status`, `headers` say; keeps what came.

    `before` is awaited ahead of each answer.
    """

    url: URL = field(default_factory=URL)
    asked: list[str] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    before: Callable[[], Awaitable[None]] | None = None
    has_come: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        sent = await request.content.read()
        self.asked.append(f"{request.method} {request.raw_path} {sent.decode()}".strip())
        self.seen.append({name.lower(): value for name, value in request.headers.items()})
        number = len(self.asked)
        self.has_come.set()
        if self.before is not None:
            await self.before()
        body = chart(number) if self.body is None else self.body
        return web.Response(status=self.status, body=body, headers=self.headers)


@asynccontextmanager
async def chart_legacy(**state: Any) -> AsyncIterator[ChartLegacy]:
    legacy = ChartLegacy(**state)
    server = web.Server(legacy, access_log=None, auto_decompress=False)
    runner = web.ServerRunner(server, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        legacy.url = URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1])
        yield legacy
    finally:
        await runner.cleanup()
