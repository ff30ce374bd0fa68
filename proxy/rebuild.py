"""Dates whose rows went missing, and when to believe the tables again. Pure: time is passed in.

The pipeline may empty its tables and refill them minutes later. A date that
had rows and now has clearly fewer is held: what was known of it before stays
the truth. It is let go once the rows are back and nothing was written for a
while, when the hold has run out, or when an operator says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.looks import Counter, TableWord

ENOUGH = 0.9
"""Share of a date's former rows with which it counts as back."""
QUIET_POLLS = 2
"""Looks in a row that must find nothing written before a refill is believed."""


@dataclass(slots=True)
class Quiet:
    """How many polls in a row found nothing written, and whether what follows was seen to."""

    polls: int = 0
    is_reviewed: bool = False
    _last: Counter | None = None

    def polled(self, counter: Counter | None) -> None:
        """A poll found the database at `counter`. A question may have seen it there before."""
        if counter == self._last:
            self.polls += 1
        else:
            self.polls, self.is_reviewed, self._last = 0, False, counter

    @property
    def is_settled(self) -> bool:
        return self.polls >= QUIET_POLLS

    @property
    def is_to_be_reviewed(self) -> bool:
        return self.is_settled and not self.is_reviewed


@dataclass(slots=True)
class Holds:
    """Believed row counts per table and date, and the dates held since when (monotonic seconds)."""

    hold_s: float
    _believed: dict[TableWord, dict[str, int]] = field(
        default_factory=lambda: {"daily": {}, "breakdown": {}}
    )
    _since: dict[TableWord, dict[str, float]] = field(
        default_factory=lambda: {"daily": {}, "breakdown": {}}
    )

    def is_held(self, table: TableWord, day: str) -> bool:
        return day in self._since[table]

    @property
    def is_rebuilding(self) -> bool:
        return any(self._since.values())

    @property
    def since(self) -> float | None:
        """When the oldest hold began."""
        return min((at for held in self._since.values() for at in held.values()), default=None)

    def dates(self, table: TableWord) -> frozenset[str]:
        return frozenset(self._since[table])

    def believed_dates(self, table: TableWord) -> frozenset[str]:
        """The dates that have rows, or had them before they were held."""
        return frozenset(self._believed[table])

    def saw(self, table: TableWord, day: str, rows: int, now: float) -> bool:
        """Note that `day` has `rows`; return whether that is to be believed.

        A held date is not let go here: its rows may be half of a refill.
        """
        if day in self._since[table]:
            return False
        before = self._believed[table].get(day, 0)
        if rows < before * ENOUGH:
            self._since[table][day] = now
            return False
        if rows:
            self._believed[table][day] = rows
        return True

    def saw_all(self, table: TableWord, counts: Mapping[str, int], now: float) -> frozenset[str]:
        """`saw` for every date of `table`; return the dates whose hold begins with it."""
        before = self.dates(table)
        for day in self._believed[table].keys() | counts.keys():
            self.saw(table, day, counts.get(day, 0), now)
        return self.dates(table) - before

    def release_refilled(
        self, table: TableWord, counts: Mapping[str, int], quiet_polls: int
    ) -> frozenset[str]:
        """Let go of the dates that have enough rows again, if it has been quiet; return them."""
        if quiet_polls < QUIET_POLLS:
            return frozenset()
        believed = self._believed[table]
        back = {
            day for day in self._since[table] if counts.get(day, 0) >= believed.get(day, 0) * ENOUGH
        }
        return self._release(table, back, counts)

    def release_expired(
        self, table: TableWord, counts: Mapping[str, int], now: float
    ) -> frozenset[str]:
        """Let go of the dates held for longer than the hold, whatever they have; return them."""
        over = {day for day, at in self._since[table].items() if now - at >= self.hold_s}
        return self._release(table, over, counts)

    def release_all(self, table: TableWord, counts: Mapping[str, int]) -> frozenset[str]:
        """Believe the tables as they are now; return the dates that were held.

        Dates whose rows are gone without anybody having noticed yet included:
        noticed later, they would be held after all.
        """
        held = self.dates(table)
        self._since[table].clear()
        self._believed[table] = {day: rows for day, rows in counts.items() if rows}
        return held

    def has_expired(self, now: float) -> bool:
        return any(now - at >= self.hold_s for held in self._since.values() for at in held.values())

    def _release(
        self, table: TableWord, days: set[str], counts: Mapping[str, int]
    ) -> frozenset[str]:
        for day in days:
            del self._since[table][day]
            rows = counts.get(day, 0)
            if rows:
                self._believed[table][day] = rows
            else:
                self._believed[table].pop(day, None)
        return frozenset(days)

    def __repr__(self) -> str:
        held = {table: len(days) for table, days in self._since.items()}
        return f"<Holds {held}>"
