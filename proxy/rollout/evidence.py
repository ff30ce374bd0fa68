"""Evidence: what the ledger's counters say about a window of time. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

from proxy.rollout.tallies import (
    COMPARED,
    NOISE,
    NOISE_MISMATCHED,
    NOISE_STRUCTURAL,
    OPTIMIZED_ERROR,
    OPTIMIZED_MS,
    OPTIMIZED_OK,
    STRUCTURAL,
    Tally,
    sum_of,
    total_of,
)
from proxy.telemetry import LATENCY_BUCKETS_S

Counters = Mapping[str, float]
"""Sums of the ledger under its own names; they only grow while the ledger is kept."""

_MISMATCHED = total_of("mismatched")
_NAMES = frozenset(
    {
        COMPARED,
        _MISMATCHED,
        STRUCTURAL,
        NOISE,
        NOISE_MISMATCHED,
        NOISE_STRUCTURAL,
        OPTIMIZED_OK,
        OPTIMIZED_ERROR,
    }
)
_LOWER_EDGES_MS = {
    round(upper * 1000, 6): lower * 1000
    for lower, upper in pairwise((0.0, *LATENCY_BUCKETS_S, float("inf")))
}
_DENSITY = 0.5


def counters_of(tallies: Iterable[Tally]) -> Counters:
    """The counters that evidence is made of, summed over some days."""
    counts = sum_of(tallies).counts
    return {
        name: count
        for name, count in counts.items()
        if name in _NAMES or name.startswith(OPTIMIZED_MS)
    }


@dataclass(frozen=True, slots=True)
class Evidence:
    """Counts of one window. `latencies` has answers by upper edge in milliseconds."""

    compared: int = 0
    mismatched: int = 0
    structural: int = 0
    noise_compared: int = 0
    noise_mismatched: int = 0
    noise_structural: int = 0
    answers: int = 0
    errors: int = 0
    latencies: Mapping[float, int] = field(default_factory=dict)

    @classmethod
    def between(cls, counters: Counters, baseline: Counters) -> Self | None:
        """What came since `baseline`. None: counters fell, so the ledger was emptied meanwhile."""
        grown = {
            name: int(counters.get(name, 0) - baseline.get(name, 0))
            for name in counters.keys() | baseline.keys()
        }
        if any(count < 0 for count in grown.values()):
            return None
        return cls(
            compared=grown.get(COMPARED, 0),
            mismatched=grown.get(_MISMATCHED, 0),
            structural=grown.get(STRUCTURAL, 0),
            noise_compared=grown.get(NOISE, 0),
            noise_mismatched=grown.get(NOISE_MISMATCHED, 0),
            noise_structural=grown.get(NOISE_STRUCTURAL, 0),
            answers=grown.get(OPTIMIZED_OK, 0) + grown.get(OPTIMIZED_ERROR, 0),
            errors=grown.get(OPTIMIZED_ERROR, 0),
            latencies={
                float(name.removeprefix(OPTIMIZED_MS)): count
                for name, count in sorted(grown.items())
                if name.startswith(OPTIMIZED_MS) and count
            },
        )

    @property
    def timed(self) -> int:
        return sum(self.latencies.values())

    def slower_than(self, limit_ms: float) -> int:
        """Answers that took longer for sure: a bucket that `limit_ms` lies in does not count."""
        return sum(count for edge, count in self.latencies.items() if _lower_edge(edge) >= limit_ms)

    @property
    def p95_ms(self) -> float | None:
        """Estimated as if answers were spread evenly in their bucket. None without any."""
        wanted = 0.95 * self.timed
        seen = 0
        for edge in sorted(self.latencies):
            count = self.latencies[edge]
            if seen + count >= wanted:
                lower = _lower_edge(edge)
                return (
                    lower
                    if edge == float("inf")
                    else lower + (edge - lower) * ((wanted - seen) / count)
                )
            seen += count
        return None


class Marks:
    """What the counters of one window were at past looks, to find when trouble began.

    Evidence since each mark shows trouble that began in the middle of the
    window nearly as fast as if it had been looked for from there. The gaps
    between marks grow with their age, so their number grows with the
    logarithm of what was counted.
    """

    def __init__(self) -> None:
        self._marks: tuple[Counters, ...] = ()
        self._window: float | None = None

    def forget(self) -> None:
        self._marks = ()

    def since_each(self, window: float | None, counters: Counters) -> list[Evidence]:
        """Evidence up to `counters`, the earliest mark first; leaves a mark there.

        `window` is when the window began: marks of another one are of no use.
        """
        if window != self._window:
            self._window = window
            self._marks = ()
        found = [Evidence.between(counters, mark) for mark in self._marks]
        recent = [evidence for evidence in found if evidence is not None]
        if len(recent) < len(found):
            self._marks = ()
        if not self._marks or self._marks[-1] != counters:
            self._marks = thinned((*self._marks, counters))
        return recent

    def __len__(self) -> int:
        return len(self._marks)

    def __repr__(self) -> str:
        return f"<Marks {len(self)}>"


def thinned(marks: tuple[Counters, ...]) -> tuple[Counters, ...]:
    """Fewer of them: one goes when the gap that it leaves is small for its age."""
    if len(marks) < 2:
        return marks
    newest = _progress(marks[-1])
    kept = [marks[0]]
    for mark, following in pairwise(marks[1:]):
        gap = _progress(following) - _progress(kept[-1])
        if gap > _DENSITY * (newest - _progress(following)):
            kept.append(mark)
    return (*kept, marks[-1])


def _progress(counters: Counters) -> float:
    counted = (COMPARED, OPTIMIZED_OK, OPTIMIZED_ERROR)
    return sum(counters.get(name, 0) for name in counted)


def _lower_edge(edge_ms: float) -> float:
    known = _LOWER_EDGES_MS.get(round(edge_ms, 6))
    if known is not None:
        return known
    # Counted by another version with other edges.
    return max((lower for lower in _LOWER_EDGES_MS.values() if lower < edge_ms), default=0.0)
