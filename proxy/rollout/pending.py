"""What was noted and is not in the ledger yet: bounded, however long that cannot be asked."""

from collections import deque
from dataclasses import dataclass

from proxy.rollout.comparison import Comparison
from proxy.rollout.ledger import MOST_DAYS, Batch
from proxy.rollout.tallies import Tally, bounded

_MOST_SAMPLES = 20
_MOST_MISMATCHED_BYTES = 16 * 2**20
_MOST_OTHER_BYTES = 2 * 2**20
"""To be packed at each flush: samples that matched are not worth more of the processor."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A comparison on its way to become a sample."""

    id: str
    comparison: Comparison

    @property
    def bytes(self) -> int:
        return len(self.comparison.control) + len(self.comparison.candidate)


class Pending:
    """Tallies by day, and the newest comparisons of each of the two kinds of samples."""

    def __init__(self) -> None:
        self._days: dict[str, Tally] = {}
        self._mismatched = _Newest(_MOST_MISMATCHED_BYTES)
        self._others = _Newest(_MOST_OTHER_BYTES)

    def count(self, day: str, tally: Tally) -> None:
        held = self._days.get(day, Tally())
        self._days[day] = held + bounded(tally, held.counts)
        if len(self._days) > MOST_DAYS:
            del self._days[min(self._days)]

    def offer(self, noted: Noted) -> None:
        is_mismatched = noted.comparison.result.outcome == "mismatched"
        (self._mismatched if is_mismatched else self._others).push(noted)

    def take_batch(self, writer: str, number: int) -> Batch | None:
        """All that was counted, or None for nothing. It is the caller's from then on."""
        taken, self._days = {day: tally for day, tally in self._days.items() if tally}, {}
        return Batch(writer, number, taken) if taken else None

    def take_sample(self) -> Noted | None:
        """The one to be kept next, mismatched ones first."""
        return self._mismatched.pop() or self._others.pop()

    @property
    def samples(self) -> int:
        return len(self._mismatched) + len(self._others)

    def __repr__(self) -> str:
        return f"<Pending days={len(self._days)} samples={self.samples}>"


class _Newest:
    """The newest few, the oldest out first. One is held whatever its size."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._held: deque[Noted] = deque()
        self._bytes = 0

    def push(self, noted: Noted) -> None:
        self._held.append(noted)
        self._bytes += noted.bytes
        while len(self) > 1 and (len(self) > _MOST_SAMPLES or self._bytes > self._most_bytes):
            self.pop()

    def pop(self) -> Noted | None:
        if not self._held:
            return None
        oldest = self._held.popleft()
        self._bytes -= oldest.bytes
        return oldest

    def __len__(self) -> int:
        return len(self._held)
