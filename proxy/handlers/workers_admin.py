"""/admin where there are several workers: asked of one, of all, or put together."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from proxy.clock import Clock
from proxy.errors import BackendUnavailable
from proxy.handlers.admin import Room
from proxy.handlers.admin_access import make_guard
from proxy.handlers.admin_request import limit_of, respond
from proxy.handlers.worker_forwarding import Forwarding, Reply, body_of
from proxy.workers.link import LinkError
from proxy.workers.merging import merged_audit, merged_entries, merged_purge, merged_status
from proxy.workers.post import Post
from proxy.workers.supervisor import Supervisor

_MOST_RECORDS = 1000
_MOST_GONE = 50


class WorkersAdmin:
    """What concerns each worker's own memory goes to all, the rest to the lead.

    The audit of a worker that is gone is kept here.
    """

    def __init__(self, supervisor: Supervisor, clock: Clock) -> None:
        self._supervisor = supervisor
        self._clock = clock
        self._started = clock.monotonic()
        self._audits: dict[int, Sequence[Mapping[str, Any]]] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/status", self._status),
            web.get("/cache", self._cache),
            web.get("/audit", self._audit),
            web.post("/purge", self._purge),
            web.post("/rebuild", self._all),
            web.post("/warm", self._all),
            web.get("/jobs/{id}", self._job),
            web.route("*", "/{rest:.*}", self._forward),
        ]

    async def newest_record(self) -> Mapping[str, Any] | None:
        """The newest entry of the audit."""
        await self._note_all()
        return next(iter(merged_audit(self._audits, 1)), None)

    async def _status(self, request: web.Request) -> web.Response:
        lead, *others = await self._told("/admin/status")
        supervisor = self._supervisor
        now = self._clock.monotonic()
        await supervisor.scrape()
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
            lead, others, {"uptime_s": round(now - self._started, 3), "workers": workers}
        )
        status["cache"] |= {name: int(count) for name, count in counts.items()}
        return respond(status)

    async def _cache(self, request: web.Request) -> web.Response:
        limit = limit_of(request, default=100, most=10_000)
        parts = await self._told(f"/admin/cache?limit={limit}")
        return respond({"entries": merged_entries([part["entries"] for part in parts], limit)})

    async def _audit(self, request: web.Request) -> web.Response:
        limit = limit_of(request, default=100, most=_MOST_RECORDS)
        await self._note_all()
        return respond({"entries": merged_audit(self._audits, limit)})

    async def _purge(self, request: web.Request) -> web.Response:
        lead, others = await self._ask_all(request)
        if lead.status != 200:
            return lead.response()
        told = [
            reply.json() if reply is not None and reply.status == 200 else None for reply in others
        ]
        return respond(merged_purge(lead.json(), told))

    async def _all(self, request: web.Request) -> web.Response:
        lead, _ = await self._ask_all(request)
        return lead.response()

    async def _job(self, request: web.Request) -> web.Response:
        """Of whichever worker has it: each numbers its own."""
        forwarding = Forwarding(self._supervisor)
        unknown: Reply | None = None
        for post in self._supervisor.answering():
            reply = await forwarding.ask(post, request, b"")
            if reply is not None and reply.status != 404:
                return reply.response()
            unknown = unknown or reply
        if unknown is None:
            raise _nobody()
        return unknown.response()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        response = await Forwarding(self._supervisor).forward(request)
        if request.method not in ("GET", "HEAD"):
            await self._note_all()
        return response

    async def _ask_all(self, request: web.Request) -> tuple[Reply, list[Reply | None]]:
        """The answers of the first that gave one, and of the others. Who refuses is the only one
        asked: what is wrong with a request is so for all."""
        supervisor = self._supervisor
        forwarding = Forwarding(supervisor)
        body = await body_of(request)
        lead: Reply | None = None
        others: list[Reply | None] = []
        asked: set[int] = set()
        # Again until no new one has come meanwhile, whom nobody has asked.
        while rest := [post for post in supervisor.answering() if post.number not in asked]:
            if lead is None:
                rest = rest[:1]
            asked |= {post.number for post in rest}
            replies = await asyncio.gather(*(forwarding.ask(post, request, body) for post in rest))
            if lead is None:
                lead = replies[0]
                if lead is not None and lead.status >= 400:
                    return lead, []
            else:
                others += replies
            await asyncio.gather(*(self._note(post) for post in rest))
        if lead is None:
            raise _nobody()
        return lead, others

    async def _told(self, path: str) -> list[dict[str, Any]]:
        """What all that can be asked say, the lead first. At least one."""

        async def tell(post: Post) -> dict[str, Any] | None:
            try:
                return await post.worker.link.read_json(path)
            except LinkError:
                return None

        posts = self._supervisor.answering()
        told = [one for one in await asyncio.gather(*map(tell, posts)) if one is not None]
        if not told:
            raise _nobody()
        return told

    async def _note_all(self) -> None:
        await asyncio.gather(*(self._note(post) for post in self._supervisor.answering()))

    async def _note(self, post: Post) -> None:
        """Keep what its audit says now: it is gone with the worker."""
        try:
            told = await post.worker.link.read_json(f"/admin/audit?limit={_MOST_RECORDS}")
        except LinkError:
            return
        if told["entries"]:
            self._audits[post.number] = told["entries"]
        here = {one.number for one in self._supervisor}
        gone = [number for number in sorted(self._audits) if number not in here]
        for number in gone[:-_MOST_GONE]:
            del self._audits[number]


def _nobody() -> BackendUnavailable:
    return BackendUnavailable("no worker is there to answer: try again in a moment")


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
