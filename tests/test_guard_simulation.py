"""A thousand rollouts at a time: no rollback without trouble, and how fast trouble is found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

import pytest

from proxy.rollout.evidence import Counters, Evidence, Marks
from proxy.rollout.guard import decide
from proxy.rollout.state import Rollout
from proxy.rollout.tallies import (
    COMPARED,
    NOISE,
    NOISE_MISMATCHED,
    NOISE_STRUCTURAL,
    OPTIMIZED_ERROR,
    OPTIMIZED_OK,
    STRUCTURAL,
    bucket,
)
from proxy.settings_tables import RolloutTable

PLAN = RolloutTable()
ROLLOUT = Rollout("running", since=0.0)
RUNS = 1000
NOISE_EVERY = 10
MISMATCHED = "total|mismatched"
FAST, SLOW = bucket(0.01), bucket(0.1)


@dataclass
class World:
    """What is true: shares of comparisons and answers that go wrong."""

    random: Random
    mismatched: float = 0.0
    structural: float = 0.0
    noise: float = 0.0
    structural_noise: float = 0.0
    errors: float = 0.0
    slow: float = 0.0
    counters: dict[str, float] = field(
        init=False,
        default_factory=lambda: dict.fromkeys(
            (COMPARED, MISMATCHED, STRUCTURAL, NOISE, NOISE_MISMATCHED, NOISE_STRUCTURAL,
             OPTIMIZED_OK, OPTIMIZED_ERROR, FAST, SLOW),
            0,
        ),
    )  # fmt: skip

    def sample(self) -> Counters:
        """One more comparison and one more answer."""
        chance, counters = self.random.random, self.counters
        counters[COMPARED] += 1
        # What the legacy does to itself it does to us as well.
        mismatched = max(self.mismatched, self.noise)
        structural = max(self.structural, self.structural_noise)
        counters[MISMATCHED] += chance() < mismatched
        counters[STRUCTURAL] += chance() < structural
        if counters[COMPARED] % NOISE_EVERY == 0:
            counters[NOISE] += 1
            counters[NOISE_MISMATCHED] += chance() < self.noise
            counters[NOISE_STRUCTURAL] += chance() < self.structural_noise
        if chance() < self.errors:
            counters[OPTIMIZED_ERROR] += 1
        else:
            counters[OPTIMIZED_OK] += 1
            counters[SLOW if chance() < self.slow else FAST] += 1
        return counters


def rolls_back(
    world: World, samples: int, *, every: int = 1, marks: Marks | None = None
) -> int | None:
    """The sample after which it is rolled back, looking after `every` so many."""
    for number in range(1, samples + 1):
        counters = world.sample()
        if number % every == 0:
            evidence = Evidence.between(counters, {})
            recent = [] if marks is None else marks.since_each(0.0, dict(counters))
            if decide(PLAN, ROLLOUT, evidence, 1.0, recent).action == "roll_back":
                return number
    return None


def false_alarms(samples: int, *, every: int, seed: int, **truth: float) -> int:
    """Of RUNS rollouts, half of them looking back to every mark as well."""
    found = 0
    for run in range(RUNS):
        marks = Marks() if run % 2 else None
        world = World(Random(seed * RUNS + run), **truth)
        found += rolls_back(world, samples, every=every, marks=marks) is not None
    return found


def test_a_thousand_clean_rollouts_are_not_rolled_back() -> None:
    # Some errors and slow answers, within what is allowed.
    assert false_alarms(400, every=20, seed=1, errors=0.003, slow=0.02) == 0


@pytest.mark.parametrize("noise", [0.001, 0.03, 0.3])
def test_a_thousand_with_noise_only_are_not_rolled_back(noise: float) -> None:
    assert false_alarms(400, every=20, seed=2, noise=noise, structural_noise=noise) == 0


def test_looking_after_every_single_sample_gives_no_false_alarm() -> None:
    for run in range(150):
        noise = (0.001, 0.03, 0.3)[run % 3]
        world = World(Random(run), noise=noise, structural_noise=noise, errors=0.002, slow=0.02)
        assert rolls_back(world, 500) is None


def test_a_long_look_back_on_a_noisy_legacy_gives_no_false_alarm() -> None:
    for run in range(30):
        world = World(Random(run), noise=0.3, structural_noise=0.03)
        assert rolls_back(world, 5000, every=25, marks=Marks()) is None


DETECTED: Mapping[str, tuple[dict[str, float], int]] = {
    "every answer is wrong": ({"mismatched": 1.0}, 200),
    "half of them are": ({"mismatched": 0.5}, 400),
    "one in five is": ({"mismatched": 0.2}, 1200),
    "one in ten is": ({"mismatched": 0.1}, 3000),
    "the structure is wrong in every answer": ({"structural": 1.0}, 30),
    "one in ten is an error": ({"errors": 0.1}, 240),
    "one in five is slow": ({"slow": 0.2}, 300),
}


@pytest.mark.parametrize("trouble", DETECTED)
def test_trouble_is_found_within_the_stated_samples(trouble: str) -> None:
    truth, samples = DETECTED[trouble]
    for run in range(20):
        assert rolls_back(World(Random(run), **truth), samples) is not None


@pytest.mark.parametrize(("before", "after"), [(1000, 300), (20_000, 300)])
def test_trouble_after_a_long_good_time_is_found_as_fast(before: int, after: int) -> None:
    """Every answer wrong: 300 samples instead of 200, however long all was well."""
    world = World(Random(7))
    marks = Marks()
    assert rolls_back(world, before, every=10, marks=marks) is None
    world.mismatched = 1.0
    assert rolls_back(world, after, every=10, marks=marks) is not None


def test_without_marks_a_long_good_time_would_hide_it() -> None:
    world = World(Random(7))
    assert rolls_back(world, 20_000, every=100) is None
    world.mismatched = 1.0
    assert rolls_back(world, 200, every=10) is None
