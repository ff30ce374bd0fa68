"""/admin where there are several workers: asked of one, of all, or put together."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from proxy.clock import Clock
from proxy.errors import BackendUnavailable
from proxy.handlers.admin import Room
from proxy.handlers.admin_access import failure, make_guard
from proxy.handlers.admin_request import limit_of, respond
from proxy.handlers.worker_forwarding import USUAL, Forwarding, Patience, Reply, body_of, nobody
from proxy.handlers.workers_audit import MOST_RECORDS, WorkersAudit
from proxy.workers.merging import merged_entries, merged_jobs, merged_purge, merged_status
from proxy.workers.supervisor import Supervisor

_SCRAPE_S = 2.0


class WorkersAdmin:
    """What concerns each worker's own memory goes to all, the rest to the lead."""

    def __init__(self, supervisor: Supervisor, clock: Clock, patience: Patience = USUAL) -> None:
        self._supervisor = supervisor
        self._clock = clock
        self._started = clock.monotonic()
        self._forwarding = Forwarding(supervisor, patience)
        self._audit = WorkersAudit(supervisor, self._forwarding)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/status", self._status),
            web.get("/cache", self._cache),
            web.get("/audit", self._read_audit),
            web.get("/jobs", self._jobs),
            web.get("/jobs/{id}", self._job),
            web.post("/purge", self._purge),
            web.post("/rebuild", self._all),
            web.post("/warm", self._all),
            web.route("*", "/{rest:.*}", self._forward),
        ]

    async def newest_record(self) -> Mapping[str, Any] | None:
        """The newest entry of the audit."""
        return await self._audit.newest()

    async def _status(self, request: web.Request) -> web.Response:
        told, _ = await asyncio.gather(self._told("/admin/status"), self._scrape())
        supervisor = self._supervisor
        now = self._clock.monotonic()
        workers = [
            {
                "number": post.number,
                "pid": post.worker.pid,
                "state": post.member.stage,
                "uptime_s": round(now - post.member.began_at, 3),
                "requests": int(supervisor.totals.sum("proxy_requests_total", post.number)),
            }
            for post in supervisor
        ]
        # Counted over all there were: not less because one has left.
        totals = supervisor.totals
        counts = {
            "hits": totals.sum("proxy_requests_total", result="hit"),
            "misses": sum(
                totals.sum("proxy_requests_total", result=result) for result in ("miss", "stale")
            ),
        }
        status = merged_status(
            told, {"uptime_s": round(now - self._started, 3), "workers": workers}
        )
        status["cache"] |= {name: int(count) for name, count in counts.items()}
        return respond(status)

    async def _cache(self, request: web.Request) -> web.Response:
        limit = limit_of(request, default=100, most=10_000)
        parts = await self._told(f"/admin/cache?limit={limit}")
        entries = [part["entries"] for part in parts.values()]
        return respond({"entries": merged_entries(entries, limit)})

    async def _read_audit(self, request: web.Request) -> web.Response:
        limit = limit_of(request, default=100, most=MOST_RECORDS)
        return respond({"entries": await self._audit.latest(limit)})

    async def _jobs(self, request: web.Request) -> web.Response:
        limit = limit_of(request, default=100, most=1000)
        parts = await self._told(f"/admin/jobs?limit={limit}")
        jobs = {number: part["jobs"] for number, part in parts.items()}
        return respond({"jobs": merged_jobs(jobs, limit)})

    async def _job(self, request: web.Request) -> web.Response:
        """Of whichever worker has it: no two jobs have the same id."""
        posts = self._supervisor.answering()
        path = request.rel_url.raw_path
        found = await asyncio.gather(*(self._forwarding.read(post, path) for post in posts))
        silent: list[int] = []
        for post, one in zip(posts, found, strict=True):
            if one is None:
                silent.append(post.number)
            elif one[0] == 200:
                return respond({**orjson.loads(one[1]), "worker": post.number})
        if silent:
            raise BackendUnavailable(
                f"it may be a job of worker {silent[0]}, which does not answer"
            )
        if not posts:
            raise nobody()
        return failure(404, "no such job: it never was, or is long over, or its worker has left")

    async def _purge(self, request: web.Request) -> web.Response:
        lead, others = await self._ask_all(request)
        if lead.status >= 400:
            return lead.response()
        told = [None if reply is None else reply.json() for reply in others]
        return respond(merged_purge(lead.json(), told))

    async def _all(self, request: web.Request) -> web.Response:
        lead, others = await self._ask_all(request)
        if lead.status >= 400:
            return lead.response()
        return respond({**lead.json(), "is_complete": None not in others}, status=lead.status)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        post, reply = await self._forwarding.forward(request)
        if request.method not in ("GET", "HEAD"):
            await self._audit.note(post)
        return reply.response()

    async def _ask_all(self, request: web.Request) -> tuple[Reply, list[Reply | None]]:
        """The answer of the first that gave one, and of all others; None: it has not done it.

        Who refuses first is the only one asked: what is wrong with a request is so for all.
        """
        forwarding = self._forwarding
        body = await body_of(request)
        lead: Reply | None = None
        others: list[Reply | None] = []
        asked: set[int] = set()
        # Again until no new one has come meanwhile, whom nobody has asked.
        while rest := [post for post in self._supervisor.answering() if post.number not in asked]:
            if lead is None:
                rest = rest[:1]
            asked |= {post.number for post in rest}
            replies = await asyncio.gather(
                *(forwarding.try_ask(post, request, body) for post in rest)
            )
            if lead is None and (lead := replies[0]) is not None:
                if lead.status >= 400:
                    return lead, []
            else:
                others += [
                    reply if reply is not None and reply.status < 400 else None for reply in replies
                ]
            answered = [post for post, reply in zip(rest, replies, strict=True) if reply]
            await asyncio.gather(*(self._audit.note(post) for post in answered))
        if lead is None:
            raise nobody()
        return lead, others

    async def _told(self, path: str) -> dict[int, dict[str, Any]]:
        """What all that can be asked say, the lead first. At least one."""
        told = await self._forwarding.read_all(path)
        if not told:
            raise nobody()
        return told

    async def _scrape(self) -> None:
        """What is known is told when one of them cannot say how it is now."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SCRAPE_S):
                await self._supervisor.scrape()


def make_workers_admin(
    rooms: Sequence[Room], token: Callable[[], str | None], largest_body: int
) -> web.Application:
    """The application to mount at /admin. `token` is the one in force now."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        made: Middleware = make_guard(token())
        return await made(request, handler)

    app = web.Application(middlewares=[guard], client_max_size=largest_body)
    for room in rooms:
        app.add_routes(room.routes())
    return app
