"""Composes what the console reads: the overview with its history, the calendar, the events."""

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from proxy.app_admin import AdminRooms
from proxy.backends.database import Database
from proxy.backends.stamps import SqliteStamps
from proxy.background import Background
from proxy.clock import Clock
from proxy.handlers.admin import record_as_json
from proxy.handlers.admin_live import AdminLive
from proxy.handlers.admin_pipeline import AdminPipeline
from proxy.handlers.admin_request import instant
from proxy.live.calendar_days import CalendarDays
from proxy.live.counters import counters_of
from proxy.live.day_stamps import DayStamps
from proxy.live.history import History
from proxy.live.overheard import OverheardLooks
from proxy.live.overview import overview_of
from proxy.live.runs import Runs
from proxy.looks import Looks
from proxy.settings import Settings
from proxy.telemetry import Telemetry
from proxy.watermarks import Watermarks


class ConsoleParts:
    """`looks` are those to follow the pipeline by: the calendar hears what they see.

    Entered before the tasks that read there, so that it is closed after them.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        looks: Looks,
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        self._memory_bytes = settings.memory_mb * 2**20
        self._telemetry = telemetry
        self._clock = clock
        self._runs, self._stamps = Runs(), DayStamps()
        self._reader = SqliteStamps(database, telemetry, clock, timeout_s=settings.query_timeout_s)
        self._history = History()
        self._closing = ExitStack()
        self.looks = OverheardLooks(looks, self._runs, self._stamps, clock)

    def furnish(self, admin: AdminRooms, watermarks: Watermarks, background: Background) -> None:
        """Put the rooms of the console into /admin, and begin to count."""

        async def overview() -> Mapping[str, Any]:
            told = await admin.status()
            return overview_of(
                counters_of(self._telemetry.counted()),
                self._history.points,
                self._history.step_s,
                {"at": instant(self._clock.now()), **told},
                max_bytes=self._memory_bytes,
            )

        async def newest_record() -> Mapping[str, Any] | None:
            return next(map(record_as_json, admin.audit.latest(1)), None)

        days = CalendarDays(self._stamps, self._runs, self._reader, background, self._clock)
        pipeline = AdminPipeline(days, watermarks, self._clock)
        live = AdminLive(overview, background, pipeline=pipeline.collect, audit=newest_record)
        admin.rooms.extend([pipeline, live])
        self._closing.callback(live.close)
        background.spawn(days.follow(watermarks.settling), name="runs", endless=True)
        background.spawn(
            self._history.follow(lambda: counters_of(self._telemetry.counted()), self._clock),
            name="history",
            endless=True,
        )

    def hang_up(self) -> None:
        """End the streams of events: they would hold up the leaving."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.close()
