"""DayStamps: how many rows each date has and how new they are, as far as looks have told. Pure."""

from collections.abc import Iterable, Mapping

from proxy.looks import DayState, TableWord
from proxy.timestamps import newer


class DayStamps:
    """Rows and newest `computed_at` per table and date.

    `doubt` lets it be read again how new dates are. `mark` grows with it: what was
    read since an older mark may be from before the change, and `learn` does not take
    it. A date whose rows are gone stays as new as it was.
    """

    def __init__(self) -> None:
        self._rows: dict[TableWord, Mapping[str, int]] = {}
        self._newest: dict[TableWord, dict[str, str | None]] = {"daily": {}, "breakdown": {}}
        self._before: dict[TableWord, dict[str, str | None]] = {"daily": {}, "breakdown": {}}
        self.mark = 0

    def is_counted(self, table: TableWord) -> bool:
        return table in self._rows

    def rows(self, table: TableWord, day: str) -> int:
        return self._rows.get(table, {}).get(day, 0)

    def dates(self, table: TableWord) -> list[str]:
        """Those that have rows, in order."""
        return sorted(day for day, rows in self._rows.get(table, {}).items() if rows)

    def newest(self, table: TableWord, day: str) -> str | None:
        """None for a date of which it is not known, or that has no rows and never had."""
        if day not in self._newest[table] and not self.rows(table, day):
            return self._before[table].get(day)
        return self._newest[table].get(day)

    def missing(self, table: TableWord) -> list[str]:
        """Dates with rows of which nobody knows how new they are, the newest date first."""
        known = self._newest[table]
        return [day for day in reversed(self.dates(table)) if day not in known]

    def count(self, table: TableWord, rows: Mapping[str, int]) -> None:
        self._rows[table] = {str(day): count for day, count in rows.items()}

    def doubt(self, table: TableWord, days: Iterable[str] | None) -> None:
        """None: all of them."""
        known = self._newest[table]
        for day in list(known) if days is None else days:
            if day in known:
                self._before[table][day] = known.pop(day)
        self.mark += 1

    def learn(self, table: TableWord, newest: Mapping[str, str | None], mark: int) -> None:
        """What was read of `table` from `mark` on."""
        if mark == self.mark:
            self._newest[table].update(newest)
            for day in newest:
                self._before[table].pop(day, None)

    def learn_states(self, table: TableWord, states: Mapping[str, DayState], mark: int) -> None:
        self.learn(table, {day: _newest(state) for day, state in states.items()}, mark)

    def __repr__(self) -> str:
        known = {table: len(days) for table, days in self._newest.items()}
        return f"<DayStamps {known} mark={self.mark}>"


def _newest(state: DayState) -> str | None:
    found: str | None = None
    for group in state.values():
        found = newer(found, group.computed_at)
    return found
