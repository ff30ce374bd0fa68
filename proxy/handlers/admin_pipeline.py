"""/admin/pipeline: the dates of the pipeline as a calendar, and what its last run has changed."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from proxy.clock import Clock
from proxy.errors import BackendUnavailable
from proxy.handlers.admin_request import instant, respond
from proxy.live.calendar_days import CalendarDay, CalendarDays
from proxy.looks import TABLES
from proxy.timestamps import epoch_s
from proxy.watermarks import Watermarks

_PATIENCE_S = 2.0
"""What a caller waits for dates that were never read: with millions of rows it takes longer."""


class AdminPipeline:
    def __init__(self, days: CalendarDays, watermarks: Watermarks, clock: Clock) -> None:
        self._days = days
        self._watermarks = watermarks
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/pipeline", self._read)]

    async def collect(self, *, within_s: float = 0.2) -> dict[str, Any]:
        """As far as it is known `within_s`. Raises BackendUnavailable while nothing is."""
        watermarks = self._watermarks
        if watermarks.state == "unknown" and watermarks.computed_at is None:
            raise BackendUnavailable("the database was not looked at yet", reason="no_look")
        await self._days.know(within_s=within_s)
        now = self._clock.now()
        holds = watermarks.holds
        held = frozenset().union(*(holds.dates(table) for table in TABLES))
        since = watermarks.since
        ago_s = None if since is None else self._clock.monotonic() - since
        return {
            "at": instant(now),
            "dates": [_day_as_json(day, now) for day in self._days.days(held)],
            "is_complete": self._days.is_complete,
            "last_run": self._last_run(),
            "is_rebuilding": holds.is_rebuilding,
            "held": sorted(held),
            "since": None if ago_s is None else instant(now - ago_s),
            "computed_at": watermarks.computed_at,
        }

    async def _read(self, request: web.Request) -> web.Response:
        return respond(await self.collect(within_s=_PATIENCE_S))

    def _last_run(self) -> dict[str, Any] | None:
        run = self._days.last_run
        if run is None:
            return None
        return {
            "computed_at": run.computed_at or self._watermarks.computed_at,
            "seen_at": instant(run.seen_at),
            "changed": self._days.changed(run),
        }


def _day_as_json(day: CalendarDay, now: float) -> dict[str, Any]:
    computed_s = epoch_s(day.computed_at)
    return {
        "date": day.date,
        "computed_at": day.computed_at,
        "age_s": None if computed_s is None else round(max(0.0, now - computed_s), 3),
        "rows": day.rows,
        "breakdown_rows": day.breakdown_rows,
        "state": day.state,
    }


def lasting(pipeline: Mapping[str, Any]) -> object:
    """What of it is news when it changes: ages grow by themselves, and are told once a minute."""
    rest = {name: value for name, value in pipeline.items() if name not in ("at", "dates")}
    days = [(day["computed_at"], day["rows"], day["breakdown_rows"], day["state"])
            for day in pipeline["dates"]]  # fmt: skip
    return rest, [day["date"] for day in pipeline["dates"]], days, str(pipeline["at"])[:16]
