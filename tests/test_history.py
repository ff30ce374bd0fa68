"""The history: a point per step, bounded, whatever the clock does."""

import asyncio
from contextlib import suppress

import pytest

from proxy.live.counters import NOTHING, Counters
from proxy.live.history import History
from tests.clocks import HandClock
from tests.waiting import until

START = 1_700_000_000.0


def counters(requests: int) -> Counters:
    return Counters({"optimized": requests}, {"hit": requests}, {}, {})


def told(history: History) -> list[tuple[int, int]]:
    return [(int(point["at"] - START), point["requests"]) for point in history.points]


def test_a_point_has_what_came_since_the_one_before() -> None:
    history = History()
    history.look(START, counters(100))
    history.look(START + 5, counters(103))
    history.look(START + 10.2, counters(103))
    history.look(START + 15, counters(110))
    assert told(history) == [(5, 3), (10, 0), (15, 7)]


def test_a_second_look_within_a_step_changes_nothing() -> None:
    history = History()
    history.look(START, counters(0))
    history.look(START + 5, counters(1))
    history.look(START + 9.9, counters(5))
    history.look(START + 10, counters(6))
    assert told(history) == [(5, 1), (10, 5)]


def test_a_step_nobody_looked_at_is_part_of_the_next_point() -> None:
    history = History()
    history.look(START, counters(0))
    history.look(START + 20, counters(8))
    assert told(history) == [(20, 8)]


def test_points_lie_on_whole_steps() -> None:
    history = History()
    history.look(START + 3, NOTHING)
    history.look(START + 8.7, counters(1))
    assert [point["at"] % 5 for point in history.points] == [0]


def test_the_oldest_are_forgotten() -> None:
    history = History(most=3)
    for step in range(10):
        history.look(START + 5 * step, counters(step))
    assert told(history) == [(35, 1), (40, 1), (45, 1)]
    assert repr(history) == "<History 3/3 of 5 s>"


def test_a_clock_set_back_forgets_what_is_in_the_future() -> None:
    history = History()
    for step in range(4):
        history.look(START + 5 * step, counters(step))
    history.look(START + 5, counters(9))
    history.look(START + 10, counters(10))
    assert told(history) == [(5, 6), (10, 1)]


async def test_following_looks_at_the_end_of_each_step() -> None:
    clock, history, looks = HandClock(START + 4.9999), History(), 0

    def count() -> Counters:
        nonlocal looks
        looks += 1
        return counters(looks)

    following = asyncio.create_task(history.follow(count, clock))
    await until(lambda: looks > 1)
    clock.pass_s(0.0001)
    await until(lambda: bool(history.points))
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    assert told(history) == [(5, looks - 1)]


@pytest.mark.timeout(10)
async def test_a_step_that_begins_while_it_counts_is_not_missed() -> None:
    hour = 3600
    clock, history, looks = HandClock(10 * hour - 0.0001), History(step_s=hour), 0

    def count() -> Counters:
        nonlocal looks
        looks += 1
        if looks == 1:
            clock.pass_s(0.0002)
        return counters(looks)

    following = asyncio.create_task(history.follow(count, clock))
    await until(lambda: looks > 1)
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    assert [(point["at"], point["requests"]) for point in history.points] == [(10 * hour, 1)]
