"""Where results of comparing are kept over restarts: counts per day and the newest samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.query import ShapeName
from proxy.rollout.result import Difference, Outcome
from proxy.rollout.split import Variant
from proxy.rollout.tallies import Tally, day_of

MOST_DAYS = 92
MOST_SAMPLES = 100
"""Of the mismatched ones, and as many of all others: the many do not push out the few."""
MOST_SAMPLE_BYTES = 16 * 2**20
"""Likewise, of each of the two."""


@dataclass(frozen=True, slots=True)
class SampleHead:
    """A comparison without its bodies. `at` is in seconds since the epoch.

    `query` has the canonical parameters. `note` says why bodies were not kept.
    """

    id: str
    at: float
    shape: ShapeName
    query: Mapping[str, str | int | bool]
    outcome: Outcome
    control_side: Variant
    differences: tuple[Difference, ...] = ()
    rows: int = 0
    note: str = ""

    @property
    def is_mismatched(self) -> bool:
        return self.outcome == "mismatched"

    @property
    def day(self) -> str:
        return day_of(self.at)


@dataclass(frozen=True, slots=True)
class Sample:
    """`control` and `candidate` are zstd frames of JSON without user ids; empty: not kept."""

    head: SampleHead
    control: bytes = b""
    candidate: bytes = b""


@dataclass(frozen=True, slots=True)
class Batch:
    """Tallies by day, the `number`-th that `writer` adds. Numbers rise."""

    writer: str
    number: int
    tallies: Mapping[str, Tally]


class Ledger(Protocol):
    """Shared by processes; all that is here may be called by many at once. All raise StoreError.

    It holds the newest MOST_DAYS days, MOST_NAMES names a day, and the newest
    samples within their bounds.
    """

    async def add(self, batch: Batch) -> None:
        """Add to the days' tallies, all or nothing.

        A batch whose number is not above the last one of its writer is taken
        for one that was added already: it may be sent again when its answer
        was lost.
        """
        ...

    async def keep(self, sample: Sample) -> None:
        """Keep `sample`, in place of the one with its id, and let go of the oldest."""
        ...

    async def tallies(self, since: str | None = None) -> Mapping[str, Tally]:
        """By day, from the day `since` on."""
        ...

    async def heads(self) -> Sequence[SampleHead]:
        """Of all samples, the newest first."""
        ...

    async def sample(self, sample_id: str) -> Sample | None: ...
