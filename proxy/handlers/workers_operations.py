"""Health and metrics of several workers together, for orchestrators and Prometheus."""

import asyncio

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from proxy.workers.link import LinkError
from proxy.workers.post import Post
from proxy.workers.supervisor import Supervisor, Why
from proxy.workers.totals import exposition

_WHY: tuple[Why, ...] = ("crash", "hang", "rolling")
_PATIENCE_S = 2.0
"""Whoever looks after the processes gives a readiness probe a few seconds."""


class WorkerMetrics:
    """What only the supervisor can count."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.workers = Gauge(
            "proxy_workers", "Worker processes that answer.", registry=self.registry
        )
        self.restarts = Counter(
            "proxy_worker_restarts",
            "Workers that were replaced, by reason: crash (it ended by itself), hang (it did not "
            "answer and was ended), rolling (it was told to leave).",
            ["reason"],
            registry=self.registry,
        )
        for why in _WHY:
            self.restarts.labels(why)

    def restarted(self, why: Why) -> None:
        self.restarts.labels(why).inc()


class WorkersOperations:
    """`/health/live`, `/health/ready`, `/metrics`. Ready while at least one worker is."""

    def __init__(self, supervisor: Supervisor, metrics: WorkerMetrics) -> None:
        self._supervisor = supervisor
        self._metrics = metrics
        metrics.workers.set_function(lambda: len(supervisor.answering()))

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/health/live", self._live),
            web.get("/health/ready", self._ready),
            web.get("/metrics", self._read_metrics),
        ]

    async def _live(self, request: web.Request) -> web.Response:
        return _json(b'{"status":"live"}')

    async def _ready(self, request: web.Request) -> web.Response:
        status, body = await self._readiness()
        return _json(body, status=status)

    async def _readiness(self) -> tuple[int, bytes]:
        """As soon as one is ready; else what the lead says."""
        async with asyncio.TaskGroup() as group:
            posts = self._supervisor.answering()
            asked = [group.create_task(_readiness(post)) for post in posts]
            for one in asyncio.as_completed(asked):
                told = await one
                if told[0] == 200:
                    for rest in asked:
                        rest.cancel()
                    return told
        if asked:
            return asked[0].result()
        return 503, orjson.dumps({"status": "not ready", "not_ready": ["workers"], "parts": {}})

    async def _read_metrics(self, request: web.Request) -> web.Response:
        supervisor = self._supervisor
        await supervisor.scrape()
        body = exposition(supervisor.totals.families()) + generate_latest(self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _readiness(post: Post) -> tuple[int, bytes]:
    try:
        return await post.worker.link.probe("/health/ready", timeout_s=_PATIENCE_S)
    except LinkError:
        nothing = {"status": "not ready", "not_ready": ["worker"], "parts": {}}
        return 503, orjson.dumps(nothing)


def _json(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
