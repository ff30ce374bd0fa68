"""A shadow around the fakes of the read path, and what it tells its ledger, as a transcript."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.background import Background
from proxy.query import Query
from proxy.rollout.capture import Capture
from proxy.rollout.comparing import Comparing
from proxy.rollout.comparison import Comparison
from proxy.rollout.pace import Pace
from proxy.rollout.result import Result
from proxy.rollout.shadow import Shadow
from proxy.rollout.sides import LegacySide, OptimizedSide, Tables
from tests.clocks import HandClock
from tests.read_path import ReadPath, make_read_path


@dataclass
class Journal:
    """Everything it was told, in order; comparisons also by themselves."""

    told: list[tuple[object, ...]] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)

    def note(self, comparison: Comparison) -> None:
        self.comparisons.append(comparison)
        self.told.append(("compared", comparison.result.outcome))

    def noted_drop(self) -> None:
        self.told.append(("drop",))

    def noted_discard(self, word: str) -> None:
        self.told.append(("discard", word))

    def noted_error(self, word: str) -> None:
        self.told.append(("error", word))

    def served(self, is_ok: bool) -> None:
        self.told.append(("served", is_ok))

    def tried(self, is_ok: bool, seconds: float) -> None:
        self.told.append(("tried", is_ok))

    def samples(self) -> list[tuple[object, ...]]:
        """What came of the samples, without what the guard is told."""
        return [line for line in self.told if line[0] not in ("served", "tried")]


class Rests:
    """A sleep that moves the clock. While `is_long`, nobody wakes."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self.rested_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.rested_s.append(seconds)
        self._clock.pass_s(seconds)


def by_data(control: Any, candidate: Any, *, query: Query) -> Result:
    """Equal rows match."""
    is_same = control["data"] == candidate["data"]
    return Result("matched" if is_same else "mismatched", rows=len(control["data"]))


def by_number(
    legacy: Any, mean: Any, ratio: Any, *, query: Query
) -> Mapping[str, tuple[int, int, int]]:
    """One rate, told by the number of the first row."""
    theirs, one, other = (body["data"][0]["number"] for body in (legacy, mean, ratio))
    apart = abs(theirs - one) - abs(theirs - other)
    return {"rate": (int(apart < 0), int(apart > 0), int(apart == 0))}


@dataclass
class Stage:
    """`chance` is what the next question draws; below the rate means sampled."""

    path: ReadPath
    journal: Journal
    rests: Rests
    pace: Pace
    comparing: Comparing
    shadow: Shadow
    chance: list[float]

    async def caller_asks(self, query: Query) -> bytes:
        """Our side answers and offers what it answered, as the handler does."""
        answer = await self.path.ask(query)
        held = self.path.read_through.entry_now(query)
        assert held is not None
        if self.shadow.wants():
            self.shadow.offer(query, answer.payload.body, held[1].watermark.token)
        return answer.payload.body

    def legacy_answers(self, query: Query, *chunks: bytes, coding: str = "") -> None:
        """The legacy answers a caller, and that is watched."""
        with self.shadow.watching(query) as capture:
            if capture is not None:
                relay(capture, *chunks, coding=coding)


def relay(capture: Capture, *chunks: bytes, coding: str = "") -> None:
    capture.begin(200, coding)
    for chunk in chunks:
        capture.add(chunk)
    capture.end()


def make_stage(
    background: Background,
    *,
    compare: Callable[..., Result] = by_data,
    other_mode: Tables | None = None,
    queue: int = 3,
    noise_every: int = 1000,
    timeout_s: float = 30.0,
) -> Stage:
    """At rate 1, not yet working: `shadow.start` lets it."""
    path = make_read_path(background, has_legacy=True)
    journal, rests = Journal(), Rests(path.clock)
    pace = Pace(path.clock, sleep=rests)
    comparing = Comparing(compare, by_number, spent=pace.spent)
    chance = [0.0]
    shadow = Shadow(
        LegacySide(path.legacy, pace, timeout_s=timeout_s),
        OptimizedSide(
            path.read_through, journal, path.clock, pace, timeout_s=timeout_s,
            other_mode=other_mode,
        ),
        comparing,
        path.watermarks,
        journal,
        pace,
        path.clock,
        chance=lambda: chance[0],
        queue=queue,
        noise_every=noise_every,
    )  # fmt: skip
    shadow.rate = 1.0
    return Stage(path, journal, rests, pace, comparing, shadow, chance)
