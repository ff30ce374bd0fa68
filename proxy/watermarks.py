"""Follows the pipeline, date by date, and says what state of the data a question stands on."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Literal

import structlog

from proxy.background import Background
from proxy.clock import Clock
from proxy.day_states import DayStates
from proxy.errors import BackendError
from proxy.freshness import Watermark
from proxy.looks import TABLES, Changes, Counter, Looks, Reading, Snapshot, TableWord
from proxy.reading import Span, Subject, batches, days_read, read_watermark
from proxy.rebuild import Quiet
from proxy.recount import Recount
from proxy.settling import Settling
from proxy.telemetry import Telemetry

log = structlog.get_logger(__name__)

_DATES_AHEAD = 4
"""Dates per poll whose states are read before anybody asks: a look waits for them this long."""
_NEWEST_DATES = 104
"""How far back that goes: a quarter and a sparkline before it. Older dates are rarely asked for."""


class Watermarks:
    """The watermark of any question, and of any span of dates.

    When strict, `current` looks at the commit counter; one that has moved
    makes it wait until the changed dates are known. Otherwise a look is taken
    every `poll_s`. The states of dates are read when a question first needs
    them and kept until a look finds them written. `generation` grows whenever
    anything known changes: a reading of the same generation is still true.
    """

    def __init__(
        self,
        looks: Looks,
        background: Background,
        telemetry: Telemetry,
        clock: Clock,
        *,
        is_strict: bool = True,
        poll_s: float = 0.25,
        recount_s: float = 1.0,
        rebuild_hold_s: float = 900.0,
    ) -> None:
        self._looks = looks
        self._background = background
        self._telemetry = telemetry
        self._clock = clock
        self._is_strict = is_strict
        self._poll_s = poll_s
        self._counter: Counter | None = None
        self._snapshot: Snapshot | None = None
        self._days = DayStates(rebuild_hold_s)
        self.holds = self._days.holds
        self._readings: dict[Subject, Reading] = {}
        self._look: asyncio.Task[BackendError | None] | None = None
        self._changed_at: float | None = None
        self._quiet = Quiet()
        self._is_blind = True
        self.generation = 0
        self._recount = Recount(
            looks, background, lambda: self.generation, self._compare_counts, after_s=recount_s
        )
        self.settling = Settling()

    async def follow(self) -> None:
        """Look every `poll_s`, for ever: a change is known before a question asks, too."""
        while True:
            await self.poll()
            await asyncio.sleep(self._poll_s)

    async def poll(self) -> None:
        """One look, and what time alone brings: a refill that has settled, a hold run out."""
        try:
            await self._catch_up()
            self._is_blind = False
            self._quiet.polled(self._counter)
            if self._is_hold_to_be_reviewed():
                await self._review_holds()
            if self._quiet.is_settled and self.state == "settled":
                self.settling.tell(self.generation)
                await self._learn_ahead()
        except BackendError as error:
            self._is_blind = error.reason != "locked"
            log.debug("look_failed", error=str(error))
        if self._changed_at is not None:
            age_s = self._clock.monotonic() - self._changed_at
            self._telemetry.watermark_age_seconds.set(age_s)

    async def _learn_ahead(self) -> None:
        """The states of a few more of the newest dates, before a question has to wait for them."""
        newest = self._days.dates("daily")[-_NEWEST_DATES:]
        await self._know("daily", self._days.missing("daily", reversed(newest))[:_DATES_AHEAD])

    @property
    def state(self) -> Literal["settled", "rebuilding", "unknown"]:
        if self._snapshot is None or self._is_blind:
            return "unknown"
        return "rebuilding" if self._days.holds.is_rebuilding else "settled"

    @property
    def since(self) -> float | None:
        """Monotonic seconds: since when the numbers are what they are, or dates are held."""
        return self._days.holds.since or self._changed_at

    @property
    def computed_at(self) -> str | None:
        """The newest `computed_at` of the daily table at the last look."""
        return None if self._snapshot is None else self._snapshot.newest["daily"]

    async def end_rebuild(self) -> None:
        """Believe the tables as they are now, held dates included. Raises BackendError."""
        for table in TABLES:
            counts = await self._looks.counts(table)
            self._let_go(table, self._days.holds.release_all(table, counts))
            self._compare_counts(table, counts)

    async def reconsider(self, subject: Subject) -> Reading | None:
        """The reading of `subject` with the states of all its dates read again."""
        for table, days in days_read(subject, self._days).items():
            self._days.doubt(table, days)
        self._changed()
        return await self.current(subject)

    async def confirms(self, subject: Subject, reading: Reading) -> bool:
        """Whether nothing has moved since `reading`: deletes are counted now, not a second later.

        For whoever read the data elsewhere and cannot count what he was given.
        """
        try:
            await self._catch_up()
            await self._recount.now()
        except BackendError:
            return False
        again = await self.current(subject)
        return again is not None and (again.watermark, again.is_rebuilding) == (
            reading.watermark,
            False,
        )

    def is_current(self, generation: int, *, has_looked: bool = False) -> bool:
        """Whether what was known as `generation` is still true: the check on each cached answer.

        `has_looked`: the caller has had a True for a request that came in at the same
        moment, and takes no second look. Raises BackendError while the database cannot be
        looked at.
        """
        if generation != self.generation:
            return False
        return has_looked or not self._is_strict or self._looks.counter() == self._counter

    async def current(self, subject: Subject) -> Reading | None:
        """The state that `subject` stands on now. None while the database cannot be looked at.

        While it is only locked, what was last known is believed.
        """
        try:
            if self._is_strict or self._snapshot is None:
                await self._catch_up()
            return await self._reading(subject)
        except BackendError as error:
            return self._last_known(subject) if error.reason == "locked" else None

    def believed(self, subject: Subject) -> Watermark | None:
        """The watermark as it was last known, without a look; None if it never was."""
        reading = self._last_known(subject)
        return None if reading is None else reading.watermark

    def _last_known(self, subject: Subject) -> Reading | None:
        if (reading := self._readings.get(subject)) is not None:
            return reading
        try:
            return self._read(subject)
        except (BackendError, KeyError):
            return None

    async def _catch_up(self) -> None:
        """Return once a look that began after this call, or an unmoved counter, vouches."""
        counter = self._looks.counter()
        if counter == self._counter:
            return
        if self._look is not None:
            # It began before the commit that this caller may have seen.
            await asyncio.wait([self._look])
            if self._counter == counter:
                return
        if self._look is None:
            try:
                self._look = self._background.spawn(self._take_look(counter), name="look")
            except RuntimeError as error:
                raise BackendError("no look is begun any more", reason="closing") from error
        look = self._look
        await asyncio.wait([look])
        if look.cancelled():
            raise BackendError("the look was ended", reason="closing")
        if (failure := look.result()) is not None:
            raise failure

    async def _take_look(self, counter: Counter) -> BackendError | None:
        """Learn what has changed; an error is for those who wait, if any do."""
        try:
            since = self._snapshot
            changes = await self._looks.changes(since)
            counts: dict[TableWord, Mapping[str, int]] = {}
            if since is not None:
                for table, dates in changes.dates.items():
                    if dates is None:
                        # Rows at the end are gone: is the table being emptied?
                        counts[table] = await self._looks.counts(table)
            self._learn(changes, counts)
            self._counter = counter
        except BackendError as error:
            return error
        finally:
            self._look = None
        return None

    def _learn(self, changes: Changes, counts: Mapping[TableWord, Mapping[str, int]]) -> None:
        before, after = self._snapshot, changes.snapshot
        written = {table: self._days.doubt(table, dates) for table, dates in changes.dates.items()}
        for table, rows in counts.items():
            self._days.compare(table, rows, self._clock.monotonic())
        self._snapshot = after
        if before is None or before.newest != after.newest:
            self._changed_at = self._clock.monotonic()
        self._changed()
        if before is not None:
            log.info("pipeline_wrote", newest=after.newest["daily"], dates=written)
        self._recount.again()

    def _changed(self) -> None:
        self.generation += 1
        self._readings.clear()

    def _compare_counts(self, table: TableWord, counts: Mapping[str, int]) -> None:
        if changed := self._days.compare(table, counts, self._clock.monotonic()):
            log.info("rows_deleted", table=table, dates=changed, state=self.state)
            self._changed()

    def _is_hold_to_be_reviewed(self) -> bool:
        holds = self._days.holds
        if not holds.is_rebuilding:
            return False
        return self._quiet.is_to_be_reviewed or holds.has_expired(self._clock.monotonic())

    async def _review_holds(self) -> None:
        holds = self._days.holds
        for table in TABLES:
            generation = self.generation
            counts = await self._looks.counts(table)
            if generation != self.generation or self._looks.counter() != self._counter:
                return
            back = holds.release_refilled(table, counts, self._quiet.polls)
            over = holds.release_expired(table, counts, self._clock.monotonic())
            self._let_go(table, back | over)
        self._quiet.is_reviewed = True

    def _let_go(self, table: TableWord, days: frozenset[str]) -> None:
        if days:
            log.info("rebuild_over", table=table, dates=len(days))
            self._days.let_go(table, days)
            self._changed()

    async def _reading(self, subject: Subject) -> Reading:
        while (found := self._readings.get(subject)) is None:
            if subject == Span():
                await self._recount.now()
            generation = self.generation
            for table, days in days_read(subject, self._days).items():
                await self._know(table, days)
            if generation == self.generation:
                if len(self._readings) > 4096:
                    self._readings.clear()
                self._readings[subject] = self._read(subject)
        return found

    async def _know(self, table: TableWord, days: Sequence[str]) -> None:
        for part in batches(self._days.missing(table, days)):
            generation = self.generation
            states = await self._looks.states(table, part)
            # What was read before a change became known may be from before that change.
            if generation == self.generation:
                self._days.learn(table, part, states, self._clock.monotonic())

    def _read(self, subject: Subject) -> Reading:
        if self._snapshot is None:
            raise BackendError("nothing is known of the database", reason="no_look")
        return read_watermark(subject, self._snapshot, self._days, self.generation)

    def __repr__(self) -> str:
        return f"<Watermarks {self.state} generation={self.generation} {self._days!r}>"
