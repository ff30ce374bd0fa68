"""Runs: which dates the pipeline's last run has touched. Pure: what looks saw is passed in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proxy.looks import TABLES, Changes, Snapshot, TableWord
from proxy.timestamps import is_later, newer

Stamp = Callable[[TableWord, str], str | None]
"""The newest `computed_at` of a date's rows in a table; None where it is not known."""


@dataclass(slots=True)
class Run:
    """Commits that came one after the other. `seen_at` (since the epoch) is when the last did.

    A look may name dates of which nothing has changed: everything of the newest
    hours is read again. What the run touched is later than all there was `before` it.
    """

    seen_at: float
    computed_at: str | None = None
    before: Mapping[TableWord, str | None] = field(default_factory=dict)
    named: dict[TableWord, set[str] | None] = field(default_factory=dict)
    counted: set[str] = field(default_factory=set)
    uncounted: set[TableWord] = field(default_factory=set)

    def changed(self, dates: Mapping[TableWord, list[str]], stamp: Stamp) -> list[str]:
        """The dates it has touched, of those known as `dates`, in order.

        Where none is later than before (the clock of the pipeline has gone back), all that
        the looks named.
        """
        found = set(self.counted)
        listed: set[str] = set()
        for table, named in self.named.items():
            listed |= named or set()
            for day in dates.get(table, []) if named is None else named:
                if is_later(stamp(table, day), self.before[table]):
                    found.add(day)
        return sorted(found or listed)


class Runs:
    """Remembers the last run. One goes on until it is told that the data have `settled`."""

    def __init__(self) -> None:
        self.last: Run | None = None
        self._is_open = False
        self._counts: dict[TableWord, Mapping[str, int]] = {}
        self.mark = 0
        """Grows with each commit seen: a count that began before it says nothing of it."""

    def wrote(self, before: Snapshot, changes: Changes, now: float) -> None:
        """A look saw `changes` since `before`. One that moved no row's time or id is no run."""
        after = changes.snapshot
        if (before.newest, before.last_row) == (after.newest, after.last_row):
            return
        run = self._current(now)
        run.before = run.before or dict(before.newest)
        run.computed_at = None
        for table in TABLES:
            run.computed_at = newer(run.computed_at, after.newest[table])
            dates = changes.dates.get(table, frozenset())
            known = run.named.get(table, set())
            run.named[table] = None if dates is None or known is None else known | dates
        run.uncounted = set(TABLES)
        self.mark += 1

    def counted(
        self, table: TableWord, counts: Mapping[str, int], mark: int, now: float
    ) -> frozenset[str]:
        """All rows of `table` by date, as a count has them that began at `mark`.

        Returns the dates whose number differs from the count before.
        """
        before = self._counts.get(table)
        self._counts[table] = dict(counts)
        if before is None:
            return frozenset()
        days = before.keys() | counts.keys()
        changed = frozenset(day for day in days if before.get(day, 0) != counts.get(day, 0))
        last = self.last
        is_of_the_last = last is not None and table in last.uncounted
        if changed:
            if last is not None and is_of_the_last:
                last.counted |= changed
            else:
                # Deleted rows leave no other trace.
                self._current(now).counted |= changed
        if last is not None and mark == self.mark:
            last.uncounted.discard(table)
        return changed

    def settled(self) -> None:
        """Nothing was written for a while: what comes next is another run."""
        self._is_open = False

    def _current(self, now: float) -> Run:
        if self.last is None or not self._is_open:
            self.last = Run(now)
            self._is_open = True
        self.last.seen_at = now
        return self.last

    def __repr__(self) -> str:
        return f"<Runs open={self._is_open} last={self.last!r}>"
