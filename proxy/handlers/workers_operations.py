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
_PATIENCE_S = 5.0


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
        posts = self._supervisor.answering()
        told = await asyncio.gather(*(_readiness(post) for post in posts))
        # The lead's, unless another is ready and it is not.
        for status, body in sorted(told, key=lambda one: one[0] != 200):
            return _json(body, status=status)
        nobody = {"status": "not ready", "not_ready": ["workers"], "parts": {}}
        return _json(orjson.dumps(nobody), status=503)

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
