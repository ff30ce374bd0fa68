"""CalendarDays: the pipeline's dates, one by one, for whoever looks at them."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Literal, Protocol

import structlog

from proxy.background import Background
from proxy.clock import Clock
from proxy.errors import BackendError
from proxy.live.day_stamps import DayStamps
from proxy.live.runs import Run, Runs
from proxy.looks import TABLES, TableWord
from proxy.settling import Settling
from proxy.single_flight import SingleFlight
from proxy.timestamps import newer

DayWord = Literal["settled", "rebuilding", "missing"]

_ROWS_AT_ONCE = 40_000
"""Rows per statement, some twenty milliseconds: in rollback mode a writer waits for a reader."""
_LONGEST_GAP_DAYS = 1100

log = structlog.get_logger(__name__)


class StampReader(Protocol):
    """What reads the tables for the calendar. Both raise BackendError."""

    async def counts(self, table: TableWord) -> Mapping[str, int]:
        """Date -> rows."""
        ...

    async def newest(self, table: TableWord, dates: Sequence[str]) -> Mapping[str, str | None]:
        """The newest `computed_at` of each of `dates`."""
        ...


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """One date: the newest `computed_at` of both tables, None while it is not known.

    `missing`: a date without rows between others that have some.
    """

    date: str
    computed_at: str | None
    rows: int
    breakdown_rows: int
    state: DayWord


class CalendarDays:
    """Rows and times come from what looks saw anyway; what they did not see is read on demand.

    That is done once for all who ask, in small statements with pauses between
    them. Until a date's rows are written again it is known.
    """

    def __init__(
        self,
        stamps: DayStamps,
        runs: Runs,
        reader: StampReader,
        background: Background,
        clock: Clock,
    ) -> None:
        self._stamps = stamps
        self._runs = runs
        self._reader = reader
        self._clock = clock
        self._flights = SingleFlight[str, None](background)

    @property
    def is_complete(self) -> bool:
        stamps = self._stamps
        return all(stamps.is_counted(table) and not stamps.missing(table) for table in TABLES)

    @property
    def last_run(self) -> Run | None:
        return self._runs.last

    async def follow(self, settling: Settling) -> None:
        """Tell one run from the next, for ever."""
        known: int | None = None
        while True:
            known = await settling.after(known)
            self._runs.settled()

    async def know(self, *, within_s: float) -> None:
        """Read what is not known of the dates. What takes longer goes on without this caller."""
        if not self.is_complete:
            with suppress(BackendError, TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._flights.run("dates", self._read)

    def days(self, held: frozenset[str]) -> list[CalendarDay]:
        """The oldest first. `held` dates are those whose rows went missing."""
        stamps = self._stamps
        present = {day for table in TABLES for day in stamps.dates(table)}
        return [
            CalendarDay(
                day,
                newer(stamps.newest("daily", day), stamps.newest("breakdown", day)),
                stamps.rows("daily", day),
                stamps.rows("breakdown", day),
                "rebuilding" if day in held else "settled" if day in present else "missing",
            )
            for day in sorted(_without_gaps(present | held))
        ]

    def changed(self, run: Run) -> list[str]:
        """The dates that `run` has touched."""
        dates = {table: self._stamps.dates(table) for table in TABLES}
        return run.changed(dates, self._stamps.newest)

    async def _read(self) -> None:
        stamps = self._stamps
        try:
            for table in TABLES:
                if not stamps.is_counted(table):
                    counts = await self._reader.counts(table)
                    # The looks may have counted meanwhile, and know better.
                    if not stamps.is_counted(table):
                        stamps.count(table, counts)
                for part in self._parts(table):
                    mark, started = stamps.mark, self._clock.monotonic()
                    stamps.learn(table, await self._reader.newest(table, part), mark)
                    # Half of one core at most, and the disk is others' as long again.
                    await asyncio.sleep(self._clock.monotonic() - started)
        except BackendError as error:
            log.debug("dates_not_read", error=str(error))

    def _parts(self, table: TableWord) -> Iterator[list[str]]:
        part: list[str] = []
        rows = 0
        for day in self._stamps.missing(table):
            if part and rows + self._stamps.rows(table, day) > _ROWS_AT_ONCE:
                yield part
                part, rows = [], 0
            part.append(day)
            rows += self._stamps.rows(table, day)
        if part:
            yield part

    def __repr__(self) -> str:
        return f"<CalendarDays {self._stamps!r} complete={self.is_complete}>"


def _without_gaps(days: set[str]) -> set[str]:
    """`days` and those between them; what is no date, or too far away, is left as it is."""
    found = set(days)
    dates = sorted(filter(None, map(_date, days)))
    for one, next_one in pairwise(dates):
        if (next_one - one).days <= _LONGEST_GAP_DAYS:
            found.update(str(one + timedelta(days=n)) for n in range(1, (next_one - one).days))
    return found


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
