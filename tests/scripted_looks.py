"""A database that exists only as what looks at it would see. A test writes to it as it pleases."""

from collections.abc import Mapping, Sequence

from proxy.errors import BackendError
from proxy.keys import fingerprint_of
from proxy.looks import Changes, Counter, DayState, GroupState, Snapshot, TableWord
from tests.gates import Gates

DAY = "2024-01-01"
STAMP = "2024-01-02 06:00:00"


class ScriptedLooks:
    """Each method sees the state from when it was called, then waits at its gate.

    `failures` maps a method's name to what it raises. `numbers` holds, per
    table, date and group, (rows, computed_at, number).
    """

    def __init__(self, gates: Gates) -> None:
        self.gates = gates
        self.failures: dict[str, BackendError] = {}
        self.numbers: dict[TableWord, dict[str, dict[str, tuple[int, str, int]]]] = {
            "daily": {DAY: {"campaign": (10, STAMP, 1)}},
            "breakdown": {},
        }
        self.name = "Spring"
        self._commits: list[frozenset[tuple[TableWord, str]]] = [frozenset()]

    def write(
        self,
        number: int,
        *,
        day: str = DAY,
        table: TableWord = "daily",
        group: str = "campaign",
        stamp: str = STAMP,
        rows: int = 10,
    ) -> None:
        """A commit that rewrites one date of one group."""
        self.numbers[table].setdefault(day, {})[group] = (rows, stamp, number)
        self._commits.append(frozenset({(table, day)}))

    def delete(self, rows: int = 1, *, day: str = DAY) -> None:
        """A commit that only counts can show."""
        before, stamp, number = self.numbers["daily"][day]["campaign"]
        self.numbers["daily"][day]["campaign"] = (before - rows, stamp, number)
        self._commits.append(frozenset())

    def checkpoint(self) -> None:
        """The counter moves and nothing has changed."""
        self._commits.append(frozenset())

    def rename(self, name: str) -> None:
        self.name = name
        self._commits.append(frozenset())

    def number(self, day: str = DAY) -> int:
        return self.numbers["daily"][day]["campaign"][2]

    @property
    def newest(self) -> str:
        return max(stamp for day in self.numbers["daily"].values() for _, stamp, _ in day.values())

    def counter(self) -> Counter:
        self._fail("counter")
        return (1, len(self._commits))

    async def changes(self, since: Snapshot | None) -> Changes:
        seen = len(self._commits)
        dates: dict[TableWord, frozenset[str] | None] = {"daily": None, "breakdown": None}
        if since is not None:
            news = frozenset[tuple[TableWord, str]]().union(
                *self._commits[since.last_row["daily"] :]
            )
            for table in dates:
                dates[table] = frozenset(day for written, day in news if written == table)
        snapshot = Snapshot(
            schema="wide",
            names={"campaign": fingerprint_of(self.name)},
            hierarchy="tree",
            meta="",
            newest={"daily": self.newest, "breakdown": None},
            last_row={"daily": seen, "breakdown": 0},
        )
        await self._come_to("changes")
        return Changes(snapshot, dates)

    async def states(self, table: TableWord, dates: Sequence[str]) -> Mapping[str, DayState]:
        found = {
            day: {
                group: GroupState(rows, stamp, f"{rows} {stamp} {number}")
                for group, (rows, stamp, number) in self.numbers[table][day].items()
            }
            for day in dates
            if day in self.numbers[table]
        }
        await self._come_to("states")
        return found

    async def counts(self, table: TableWord) -> Mapping[str, int]:
        found = {
            day: sum(rows for rows, _, _ in groups.values())
            for day, groups in self.numbers[table].items()
        }
        await self._come_to(f"count {table}")
        return found

    async def _come_to(self, step: str) -> None:
        await self.gates.come_to(step)
        self._fail(step)

    def _fail(self, step: str) -> None:
        if (error := self.failures.get(step)) is not None:
            raise error
