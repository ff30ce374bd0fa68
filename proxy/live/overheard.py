"""OverheardLooks: what following the pipeline sees is told to whoever shows it. Reads nothing."""

from collections.abc import Mapping, Sequence

from proxy.clock import Clock
from proxy.live.day_stamps import DayStamps
from proxy.live.runs import Runs
from proxy.looks import Changes, Counter, DayState, Looks, Snapshot, TableWord


class OverheardLooks:
    """`looks`, of which `runs` and `stamps` hear."""

    def __init__(self, looks: Looks, runs: Runs, stamps: DayStamps, clock: Clock) -> None:
        self._looks = looks
        self._runs = runs
        self._stamps = stamps
        self._clock = clock

    def counter(self) -> Counter:
        return self._looks.counter()

    async def changes(self, since: Snapshot | None) -> Changes:
        changes = await self._looks.changes(since)
        if since is not None:
            self._runs.wrote(since, changes, self._clock.now())
        for table, dates in changes.dates.items():
            self._stamps.doubt(table, dates)
        return changes

    async def states(self, table: TableWord, dates: Sequence[str]) -> Mapping[str, DayState]:
        mark = self._stamps.mark
        states = await self._looks.states(table, dates)
        self._stamps.learn_states(table, states, mark)
        return states

    async def counts(self, table: TableWord) -> Mapping[str, int]:
        mark = self._runs.mark
        counts = await self._looks.counts(table)
        if changed := self._runs.counted(table, counts, mark, self._clock.now()):
            self._stamps.doubt(table, changed)
        self._stamps.count(table, counts)
        return counts

    def __repr__(self) -> str:
        return f"<OverheardLooks {self._looks!r}>"
