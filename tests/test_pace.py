"""How long work rests, so that it takes its share and no more."""

import pytest

from proxy.clock import SystemClock
from proxy.rollout.pace import Pace
from tests.clocks import HandClock
from tests.shadowing import Rests


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def rests(clock: HandClock) -> Rests:
    return Rests(clock)


@pytest.fixture
def pace(clock: HandClock, rests: Rests) -> Pace:
    return Pace(clock, share=0.05, sleep=rests)


async def test_the_first_turn_is_at_once(pace: Pace, rests: Rests) -> None:
    await pace.turn()
    assert rests.rested_s == []


async def test_work_is_rested_from_in_proportion(pace: Pace, rests: Rests) -> None:
    pace.spent(0.1)
    assert repr(pace) == "<Pace next turn in 1.90 s>"
    await pace.turn()
    assert rests.rested_s == [pytest.approx(1.9)]
    await pace.turn()
    assert len(rests.rested_s) == 1


async def test_those_who_work_at_a_time_keep_to_the_share_together(
    pace: Pace, rests: Rests
) -> None:
    pace.spent(0.1)
    pace.spent(0.1)
    await pace.turn()
    assert sum(rests.rested_s) == pytest.approx(3.8)


async def test_time_that_was_idle_is_not_saved_up(
    pace: Pace, clock: HandClock, rests: Rests
) -> None:
    clock.pass_s(3600)
    pace.spent(0.1)
    await pace.turn()
    assert sum(rests.rested_s) == pytest.approx(1.9)


async def test_what_is_spent_while_one_rests_is_rested_from_too(
    pace: Pace, clock: HandClock
) -> None:
    rested = []

    async def sleep(seconds: float) -> None:
        rested.append(seconds)
        clock.pass_s(seconds)
        if len(rested) == 1:
            pace.spent(0.1)

    pace._sleep = sleep
    pace.spent(0.1)
    await pace.turn()
    assert rested == [pytest.approx(1.9), pytest.approx(1.9)]


async def test_it_sleeps_by_itself() -> None:
    pace = Pace(SystemClock(), share=0.5)
    pace.spent(0.001)
    await pace.turn()
    assert repr(pace) == "<Pace next turn in 0.00 s>"
