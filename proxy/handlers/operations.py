"""The admin port's health and metrics: for orchestrators and Prometheus."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

import orjson
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from proxy.telemetry import Telemetry

State = Literal["up", "down", "off"]
Check = Callable[[], Awaitable[State]]


class Operations:
    """`/health/live`, `/health/ready`, `/metrics`.

    Ready means that questions are answered from the tables. Redis and the
    legacy are told beside it: without them the proxy still does its work.
    """

    def __init__(self, telemetry: Telemetry, checks: Mapping[str, Check]) -> None:
        self._telemetry = telemetry
        self._checks = checks

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/health/live", self._live),
            web.get("/health/ready", self._ready),
            web.get("/metrics", self._metrics),
        ]

    async def sources(self) -> dict[str, State]:
        return {name: await check() for name, check in self._checks.items()}

    async def _live(self, request: web.Request) -> web.Response:
        return _json({"status": "live"})

    async def _ready(self, request: web.Request) -> web.Response:
        parts = await self.sources()
        is_ready = parts.get("database") == "up"
        not_ready = [] if is_ready else ["database"]
        body = {
            "status": "ready" if is_ready else "not ready",
            "not_ready": not_ready,
            "parts": parts,
        }
        return _json(body, status=200 if is_ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        body = generate_latest(self._telemetry.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _json(body: object, *, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
