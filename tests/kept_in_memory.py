"""A ledger in memory that can be down, lose its answers, or hang."""

import asyncio
from collections.abc import Mapping, Sequence

from proxy.errors import StoreError
from proxy.rollout.ledger import Batch, Sample, SampleHead
from proxy.rollout.tallies import Tally, sum_of


class LedgerInMemory:
    """`is_lossy`: what is written is there, but the writer hears of an error.

    A gate (`add`, `keep`) holds back the answers to such writes.
    """

    def __init__(self) -> None:
        self.days: dict[str, Tally] = {}
        self.kept: dict[str, Sample] = {}
        self.batches: list[Batch] = []
        self.is_down = False
        self.is_lossy = False
        self.is_refusing_samples = False
        self.gates: dict[str, asyncio.Event] = {}
        self.asked = 0
        self._last: dict[str, int] = {}

    @property
    def all(self) -> Tally:
        return sum_of(self.days.values())

    async def add(self, batch: Batch) -> None:
        await self._ask()
        if batch.number > self._last.get(batch.writer, 0):
            self._last[batch.writer] = batch.number
            self.batches.append(batch)
            for day, tally in batch.tallies.items():
                self.days[day] = self.days.get(day, Tally()) + tally
        await self._answer("add")

    async def keep(self, sample: Sample) -> None:
        await self._ask()
        if self.is_refusing_samples:
            raise StoreError("no sample is taken")
        self.kept[sample.head.id] = sample
        await self._answer("keep")

    async def tallies(self, since: str | None = None) -> Mapping[str, Tally]:
        await self._ask()
        return {day: tally for day, tally in sorted(self.days.items()) if day >= (since or "")}

    async def heads(self) -> Sequence[SampleHead]:
        await self._ask()
        heads = [sample.head for sample in self.kept.values()]
        return sorted(heads, key=lambda head: head.at, reverse=True)

    async def sample(self, sample_id: str) -> Sample | None:
        await self._ask()
        return self.kept.get(sample_id)

    async def _ask(self) -> None:
        self.asked += 1
        if self.is_down:
            raise StoreError("the ledger is down")

    async def _answer(self, what: str) -> None:
        if what in self.gates:
            await self.gates[what].wait()
        if self.is_lossy:
            raise StoreError("the answer was lost")
