"""A replay: what it asks, whom it gives way to, and what ends it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.background import Background
from proxy.errors import BackendError, BackendUnavailable
from proxy.jobs import Job, JobCancelledError
from proxy.query import Query
from proxy.warmup_replay import Replay
from tests.read_path import ReadPath, make_read_path
from tests.waiting import until
from tests.warming import FakeShelf, question, write_days


class House:
    def __init__(self, background: Background, *, has_legacy: bool = False) -> None:
        self.path: ReadPath = make_read_path(background, has_legacy=has_legacy)
        self.shelf = FakeShelf(self.path)
        self.overlooked: list[tuple[Query, int]] = []
        self.is_ours = True
        self.job = Job("warm-1", "warm", "queries")
        self.replay = Replay(
            self.path.read_through,
            self.path.watermarks,
            self.shelf,
            fingerprint=self.path.backend.fingerprint,
            written=self._written,
            overlook=lambda query, uses: self.overlooked.append((query, uses)),
        )
        write_days(self.path, 5)

    def run(self, *numbers: int) -> "asyncio.Task[None]":
        self.job = Job("warm-1", "warm", "queries")
        questions = [question(number) for number in numbers]
        return asyncio.create_task(self.replay.run(self.job, questions, self._is_on_duty))

    def fetched(self) -> int:
        return self.path.gates.steps.count("fetch")

    def at(self, step: str) -> bool:
        return self.path.gates.waiting[step] > 0

    async def _written(self) -> None:
        await self.path.gates.come_to("written")

    async def _is_on_duty(self) -> bool:
        return self.is_ours


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with Background() as background:
        yield House(background)


@pytest.fixture
async def backed() -> AsyncIterator[House]:
    async with Background() as background:
        yield House(background, has_legacy=True)


async def test_what_was_replayed_is_a_hit_for_the_next_caller(house: House) -> None:
    await house.run(0, 1)
    assert (house.job.done, house.job.total, house.job.errors) == (2, 2, 0)
    house.path.taken()
    assert (await house.path.ask(question(1))).result == "hit"
    assert house.path.taken() == []


async def test_only_what_is_stale_is_computed(house: House) -> None:
    await house.run(0, 1, 2)
    house.path.looks.write(9, day="2024-01-02")
    await house.run(0, 1, 2)
    assert house.fetched() == 4
    assert house.job.done == 3


async def test_a_fresh_entry_is_not_even_used(house: House) -> None:
    await house.run(0)
    house.path.taken()
    await house.run(0)
    assert house.path.taken() == []


async def test_a_question_without_rows_is_put_to_nobody(backed: House) -> None:
    await backed.run(100)
    assert backed.job.done == 1
    assert "fetch" not in backed.path.gates.steps
    assert "legacy" not in backed.path.gates.steps


async def test_questions_are_asked_one_by_one_in_their_order(house: House) -> None:
    house.path.gates.shut("written")
    running = house.run(2, 0)
    await until(lambda: house.at("written"))
    assert house.fetched() == 1
    assert [entry.query for entry in house.path.store.memory.values()] == [question(2)]
    house.path.gates.open("written")
    await running
    assert house.fetched() == 2


async def test_what_the_replay_itself_asked_is_overlooked(house: House) -> None:
    house.shelf.used[question(0)] = 7
    await house.run(0)
    assert house.overlooked == [(question(0), 7)]


async def test_it_waits_for_callers_that_wait_for_a_load(house: House) -> None:
    house.path.gates.shut("fetch")
    caller = asyncio.create_task(house.path.ask(question(3)))
    await until(lambda: house.at("fetch"))
    running = house.run(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert house.fetched() == 1
    house.path.gates.open("fetch")
    await asyncio.gather(caller, running)
    assert house.fetched() == 2


async def test_a_caller_that_asks_the_same_meanwhile_shares_its_load(house: House) -> None:
    house.path.gates.shut("fetch")
    running = house.run(0)
    await until(lambda: house.at("fetch"))
    caller = asyncio.create_task(house.path.ask(question(0)))
    await until(lambda: len(house.path.read_through.live) == 1)
    house.path.gates.open("fetch")
    answer, _ = await asyncio.gather(caller, running)
    assert answer.is_collapsed
    assert house.fetched() == 1


async def test_it_stops_when_a_rebuild_begins(house: House) -> None:
    await house.run(0, 1, 2)
    house.path.looks.rename("Summer")
    house.path.gates.shut("written")
    running = house.run(0, 1, 2)
    await until(lambda: house.at("written"))
    house.path.looks.delete(9, day="2024-01-02")
    await house.path.watermarks.poll()
    await house.path.watermarks.reconsider(question(1))
    assert house.path.watermarks.state == "rebuilding"
    house.path.gates.open("written")
    with pytest.raises(JobCancelledError, match="the pipeline is rebuilding"):
        await running
    assert (house.job.done, house.fetched()) == (1, 4)


async def test_a_rebuild_that_only_the_fill_finds_out_about_stops_it_too(house: House) -> None:
    await house.run(1)
    house.path.looks.delete(9, day="2024-01-02")
    house.path.looks.rename("Summer")
    with pytest.raises(JobCancelledError):
        await house.run(1, 0)
    assert house.job.done == 0


async def test_it_stops_when_another_process_is_on_duty(house: House) -> None:
    house.is_ours = False
    with pytest.raises(JobCancelledError, match="another process"):
        await house.run(0)
    assert house.fetched() == 0


async def test_an_error_is_counted_and_the_next_question_asked(house: House) -> None:
    house.path.gates.shut("fetch")
    house.path.backend.failure = BackendError("no such column")
    running = house.run(0, 1)
    await until(lambda: house.at("fetch"))
    gate = house.path.gates.hold_back("fetch")
    house.path.gates.shut("written")
    gate.set()
    await until(lambda: house.job.errors == 1)
    house.path.backend.failure = None
    house.path.gates.open("written")
    await running
    assert (house.job.done, house.job.errors, house.job.note) == (2, 1, "no such column")


async def test_a_source_that_stays_down_is_not_asked_for_all_of_them(backed: House) -> None:
    backed.path.backend.failure = BackendError("no such column")
    with pytest.raises(BackendError, match="the tables did not answer"):
        await backed.run(0, 1, 2, 3, 4)
    assert backed.job.errors == 3
    assert backed.path.gates.steps.count("legacy") == 3


async def test_a_database_that_cannot_be_looked_at_is_an_error(house: House) -> None:
    house.path.looks.failures["counter"] = BackendUnavailable("gone", reason="no_database")
    with pytest.raises(BackendError, match="cannot be looked at"):
        await house.run(0, 1, 2, 3)
    assert house.fetched() == 0


async def test_it_leaves_half_of_the_memory_to_what_callers_asked_for(house: House) -> None:
    house.shelf.limit_bytes = 2
    await house.run(0, 1, 2)
    assert (house.job.done, house.job.total) == (1, 1)
    assert house.job.note == "half of the memory tier is filled: 2 left out"


@pytest.mark.parametrize("step", ["changes", "get", "fetch", "put", "written"])
async def test_cancelled_in_the_middle_it_leaves_nobody_waiting(house: House, step: str) -> None:
    house.path.gates.shut(step)
    running = house.run(0)
    await until(lambda: house.at(step))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    house.path.gates.open(step)
    assert (await house.path.ask(question(0))).source == "optimized"
    assert len(house.path.read_through.live) == 0
