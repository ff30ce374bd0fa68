"""The overview of several workers: what was counted, whoever has gone since."""

from typing import Any

import pytest

from proxy.errors import BackendUnavailable
from proxy.handlers.workers_overview import WorkersOverview
from proxy.live.counters import NOTHING
from proxy.live.overview import overview_of
from proxy.workers.post import Times
from tests.clocks import HandClock
from tests.waiting import until
from tests.workers_room import LONG_S, Room, plan, room

START = 1_700_000_000.0
LOOKING = Times(0.001, 0.001, LONG_S, LONG_S, LONG_S, LONG_S)


def now(entries: int) -> dict[str, Any]:
    """How a worker says that it is."""
    told = {
        "at": "2024-01-01T00:00:00Z", "version": "1", "uptime_s": 1.0,
        "freshness": {"state": "settled"},
        "sources": {"redis": "off"}, "jobs": [], "split": {"percent": 5},
        "cache": {"entries": entries, "bytes": 0, "hits": 0, "misses": 0},
    }  # fmt: skip
    return overview_of(NOTHING, [], 5, told, max_bytes=100)


def answer(made: Room) -> None:
    for worker in made.started:
        worker.link.json = now(entries=1)


def requests(overview: Any) -> tuple[int, int]:
    told = overview["requests"]
    return told["total"], told["by_result"]["hit"]


async def test_one_that_crashes_is_forgotten_by_the_metrics_and_the_overview_alike() -> None:
    async with room(LOOKING) as made:
        overview = WorkersOverview(made.supervisor, HandClock(START))
        answer(made)
        for worker in made.started:
            worker.link.requests = 50
        # Nobody has looked at the overview; the watch has.
        await until(lambda: made.counted() == 100)
        made.started[0].end(-9)
        await made.serves(3)
        answer(made)
        told = await overview.snapshot()
        assert requests(told) == (100, 100)
        assert made.counted() == 100
        # What it held has gone with it.
        assert told["cache"]["entries"] == 2
        assert told["cache"]["max_bytes"] == 200


async def test_what_was_counted_up_to_now_is_told() -> None:
    async with room() as made:
        overview = WorkersOverview(made.supervisor, HandClock(START))
        answer(made)
        made.started[1].link.requests = 7
        assert requests(await overview.snapshot()) == (7, 7)


async def test_nothing_is_kept_of_workers_that_have_left() -> None:
    async with room(workers=1) as made:
        overview = WorkersOverview(made.supervisor, HandClock(START))

        async def roll(last: int) -> None:
            made.supervisor.turn_to(plan(1))
            await made.serves(last)
            await until(lambda: made.started[-2].orders == ["drain"])
            made.started[-2].link.requests = 1
            made.started[-2].leave()
            await until(lambda: len(made.stages) == 1)

        for last in range(2, 12):
            await roll(last)
        answer(made)
        assert requests(await overview.snapshot()) == (10, 10)
        held = [value for value in vars(overview).values() if isinstance(value, dict | list)]
        assert held == []


async def test_the_history_goes_on_when_workers_come_and_go() -> None:
    clock = HandClock(START)
    async with room() as made:
        overview = WorkersOverview(made.supervisor, clock)
        await overview.look()
        made.started[0].link.requests = 3
        await made.supervisor.scrape()
        made.started[0].end(-9)
        await made.serves(3)
        made.started[2].link.requests = 4
        clock.pass_s(5)
        await overview.look()
        answer(made)
        [point] = (await overview.snapshot())["history"]
        assert (point["at"], point["requests"], point["hits"]) == (START + 5, 7, 7)


async def test_one_that_hangs_costs_the_history_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.handlers.workers_overview._PATIENCE_S", 0.01)
    clock = HandClock(START)
    async with room() as made:
        overview = WorkersOverview(made.supervisor, clock)
        await overview.look()
        made.started[0].link.gate.clear()
        made.started[1].link.requests = 2
        clock.pass_s(5)
        await overview.look()
        made.started[0].link.gate.set()
        answer(made)
        [point] = (await overview.snapshot())["history"]
        assert point["requests"] == 2


async def test_one_that_hangs_holds_nobody_up_who_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.handlers.workers_overview._PATIENCE_S", 0.05)
    async with room() as made:
        overview = WorkersOverview(made.supervisor, HandClock(START))
        answer(made)
        for worker in made.started:
            worker.link.requests = 3
        await made.supervisor.scrape()
        made.started[0].link.gate.clear()
        told = await overview.snapshot()
        made.started[0].link.gate.set()
        assert requests(told) == (6, 6)
        assert told["cache"]["entries"] == 1


async def test_it_is_looked_at_once_per_step() -> None:
    clock = HandClock(START + 4.999)
    async with room() as made:
        overview = WorkersOverview(made.supervisor, clock)
        following = made.background.spawn(overview.follow(), name="history", endless=True)
        asked = made.started[0].link.asked
        await until(lambda: len(asked) == 1)
        clock.pass_s(5)
        await until(lambda: len(asked) > 1)
        following.cancel()


async def test_without_anybody_who_answers_it_is_refused() -> None:
    async with room() as made:
        with pytest.raises(BackendUnavailable, match="no worker is there to answer"):
            await WorkersOverview(made.supervisor, HandClock(START)).snapshot()
