"""Which questions are worth having ready: how often asked × what they cost to compute. Pure.

Fed with samples of the memory tier, so that the hit path knows nothing of it.
A question is remembered after its entry went stale or was pushed out.
"""

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass

from proxy.query import Query

HALF_LIFE_S = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """An entry of the memory tier: how often it was got since it came, what making it cost."""

    query: Query
    uses: int
    cost_ms: float


@dataclass(frozen=True, slots=True)
class _Score:
    """Times asked, as of `at` (seconds): older ones count less."""

    asked: float
    at: float
    cost_ms: float

    def asked_by(self, now: float, half_life_s: float) -> float:
        return self.asked * math.exp2(-max(0.0, now - self.at) / half_life_s)


class Popularity:
    """Remembers at most `most` questions, the least valuable are forgotten first.

    A question asked `half_life_s` ago counts half. Times are seconds of one clock.
    """

    def __init__(self, *, most: int = 1000, half_life_s: float = HALF_LIFE_S) -> None:
        self._most = most
        self._half_life_s = half_life_s
        self._scores: dict[Query, _Score] = {}
        self._uses: dict[Query, int] = {}

    def observe(self, samples: Iterable[Sample], now: float) -> None:
        """Count what was asked since the last call. `samples` are all that is held."""
        uses: dict[Query, int] = {}
        for sample in samples:
            # Held for two keys (the program changed): the newer stands later.
            uses[sample.query] = sample.uses
            asked = _asked(self._uses.get(sample.query), sample.uses)
            if asked:
                self._add(sample, asked, now)
        self._uses = uses
        if len(self._scores) > self._most:
            kept = heapq.nlargest(self._most, self._scores, key=lambda q: self.value(q, now))
            self._scores = {query: self._scores[query] for query in kept}

    def overlook(self, query: Query, uses: int) -> None:
        """`query` was got `uses` times by now: what was not observed before was not a caller."""
        self._uses[query] = uses

    def value(self, query: Query, now: float) -> float:
        """Milliseconds that having `query` ready saves, by what was asked lately."""
        score = self._scores.get(query)
        return 0.0 if score is None else score.asked_by(now, self._half_life_s) * score.cost_ms

    def most_valuable(self, now: float, limit: int) -> list[Query]:
        """The most valuable first."""
        return heapq.nlargest(limit, self._scores, key=lambda query: self.value(query, now))

    def _add(self, sample: Sample, asked: int, now: float) -> None:
        before = self._scores.get(sample.query)
        earlier = 0.0 if before is None else before.asked_by(now, self._half_life_s)
        self._scores[sample.query] = _Score(earlier + asked, now, sample.cost_ms)

    def __len__(self) -> int:
        return len(self._scores)

    def __repr__(self) -> str:
        return f"<Popularity {len(self)}/{self._most}>"


def _asked(before: int | None, uses: int) -> int:
    """How often it was asked between two samples.

    One that was not held before, or left and came back, was also asked by
    whoever made it come.
    """
    return uses + 1 if before is None or uses < before else uses - before
