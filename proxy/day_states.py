"""What is believed of each date's rows: their state, and whether they went missing. No I/O."""

from collections.abc import Iterable, Mapping, Sequence

from proxy.looks import DayState, GroupState, TableWord
from proxy.rebuild import Holds

_NO_STATE: DayState = {}


class DayStates:
    """The believed states per table and date.

    `doubt` marks dates as written: `missing` then names them until `learn`
    brings their state. A state with clearly fewer rows than before is not
    believed: the date is held, and what was known before stays.
    """

    def __init__(self, hold_s: float) -> None:
        self.holds = Holds(hold_s)
        self._known: dict[TableWord, dict[str, DayState]] = {"daily": {}, "breakdown": {}}
        self._before: dict[TableWord, dict[str, DayState]] = {"daily": {}, "breakdown": {}}

    def missing(self, table: TableWord, days: Iterable[str]) -> list[str]:
        known = self._known[table]
        return [day for day in days if day not in known]

    def group(self, table: TableWord, day: str, name: str) -> GroupState | None:
        """Raises KeyError for a date that is `missing`."""
        return self._known[table][day].get(name)

    def state(self, table: TableWord, day: str) -> DayState:
        """Raises KeyError for a date that is `missing`."""
        return self._known[table][day]

    def dates(self, table: TableWord) -> list[str]:
        """All dates that have rows, as far as counts and states have told."""
        return sorted(self.holds.believed_dates(table))

    def doubt(self, table: TableWord, days: Iterable[str] | None) -> int:
        """Let `days` (None: all) be read again before they are used; return how many were known.

        A held date stands for what was known before, whatever is written to it.
        """
        known = self._known[table]
        doubted = list(known) if days is None else [day for day in days if day in known]
        hit = [day for day in doubted if not self.holds.is_held(table, day)]
        for day in hit:
            self._before[table][day] = known.pop(day)
        return len(hit)

    def learn(
        self, table: TableWord, days: Sequence[str], states: Mapping[str, DayState], now: float
    ) -> None:
        for day in days:
            state = states.get(day, _NO_STATE)
            before = self._before[table].pop(day, self._known[table].get(day))
            if self.holds.saw(table, day, _rows(state), now) or before is None:
                self._known[table][day] = state
            else:
                self._known[table][day] = before

    def compare(self, table: TableWord, counts: Mapping[str, int], now: float) -> int:
        """Hold `counts` of all dates against what is believed; return how many dates changed."""
        begun = self.holds.saw_all(table, counts, now)
        for day in begun & self._before[table].keys():
            # Reading it again would tell nothing: what was known before is what holds.
            self._known[table][day] = self._before[table].pop(day)
        differing = [
            day
            for day, state in self._known[table].items()
            if not self.holds.is_held(table, day) and _rows(state) != counts.get(day, 0)
        ]
        return len(begun) + self.doubt(table, differing)

    def let_go(self, table: TableWord, days: Iterable[str]) -> None:
        """`days` are held no longer: read them again, and believe what is there."""
        for day in days:
            self._known[table].pop(day, None)
            self._before[table].pop(day, None)

    def is_held(self, table: TableWord, days: Iterable[str]) -> bool:
        return any(self.holds.is_held(table, day) for day in days)

    def __repr__(self) -> str:
        known = {table: len(days) for table, days in self._known.items()}
        return f"<DayStates {known} {self.holds!r}>"


def _rows(state: DayState) -> int:
    return sum(group.rows for group in state.values())
