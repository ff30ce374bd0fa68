"""/admin: its rooms behind one door, and the calls that tell how the proxy is."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from aiohttp import web

from proxy import __version__
from proxy.audit import Audit, Record
from proxy.clock import Clock
from proxy.errors import RequestError
from proxy.handlers.admin_access import make_guard
from proxy.handlers.admin_jobs import job_as_json
from proxy.handlers.admin_request import instant, limit_of, read_asked, respond
from proxy.jobs import Jobs
from proxy.telemetry import Telemetry
from proxy.watermarks import Watermarks

_JOBS_SHOWN = 5


class Room(Protocol):
    """Some routes of /admin, their paths without that prefix."""

    def routes(self) -> list[web.RouteDef]: ...


class Held(Protocol):
    """The memory tier, as a number of entries and bytes."""

    @property
    def held_bytes(self) -> int: ...

    def __len__(self) -> int: ...


def make_admin(rooms: Sequence[Room], token: str | None, largest_body: int) -> web.Application:
    """The application to mount at /admin."""
    app = web.Application(middlewares=[make_guard(token)], client_max_size=largest_body)
    for room in rooms:
        app.add_routes(room.routes())
    return app


class Admin:
    """`status`, `rebuild` and `audit`. `sections` add what others know to the status."""

    def __init__(
        self,
        watermarks: Watermarks,
        memory: Held,
        jobs: Jobs,
        audit: Audit,
        telemetry: Telemetry,
        clock: Clock,
        *,
        sources: Callable[[], Awaitable[Mapping[str, str]]],
        sections: Mapping[str, Callable[[], object]],
    ) -> None:
        self._watermarks = watermarks
        self._memory = memory
        self._jobs = jobs
        self._audit = audit
        self._telemetry = telemetry
        self._clock = clock
        self._sources = sources
        self._sections = sections
        self._started = clock.monotonic()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/status", self._status),
            web.post("/rebuild", self._rebuild),
            web.get("/audit", self._read_audit),
        ]

    async def status(self) -> dict[str, object]:
        """How the proxy is, as JSON values."""
        status: dict[str, object] = {
            "version": __version__,
            "uptime_s": round(self._clock.monotonic() - self._started, 3),
            "freshness": self._freshness(),
            "cache": {
                "entries": len(self._memory),
                "bytes": self._memory.held_bytes,
                "hits": self._telemetry.answered("hit"),
                "misses": self._telemetry.answered("miss", "stale"),
            },
            "sources": await self._sources(),
            "jobs": [job_as_json(job) for job in self._jobs.latest(_JOBS_SHOWN)],
        }
        return status | {name: section() for name, section in self._sections.items()}

    async def _status(self, request: web.Request) -> web.Response:
        return respond(await self.status())

    async def _rebuild(self, request: web.Request) -> web.Response:
        asked = await read_asked(request, {"action"})
        if asked.fields.get("action") != "end":
            raise RequestError("Invalid action field. Must be: end")
        before = self._freshness()
        await self._watermarks.end_rebuild()
        after = self._freshness()
        self._audit.note(
            "rebuild end", author=asked.author, reason=asked.reason, before=before, after=after
        )
        return respond({"freshness": after})

    async def _read_audit(self, request: web.Request) -> web.Response:
        limit = limit_of(request, default=100, most=1000)
        return respond(
            {"entries": [record_as_json(record) for record in self._audit.latest(limit)]}
        )

    def _freshness(self) -> dict[str, str | None]:
        since = self._watermarks.since
        ago_s = None if since is None else self._clock.monotonic() - since
        return {
            "state": self._watermarks.state,
            "computed_at": self._watermarks.computed_at,
            "since": None if ago_s is None else instant(self._clock.now() - ago_s),
        }


def record_as_json(record: Record) -> dict[str, object]:
    return {
        "at": instant(record.at),
        "author": record.author,
        "action": record.action,
        "before": record.before,
        "after": record.after,
        "reason": record.reason,
    }
