"""When a warm-up runs, on which questions, and which process does it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import pytest

from proxy.background import Background
from proxy.jobs import Job, Jobs
from proxy.query import Breakdown, Query
from proxy.usual import usual_questions
from proxy.warmup import Warmup
from tests.clocks import HandClock
from tests.read_path import ReadPath, make_read_path
from tests.waiting import until
from tests.warming import FakeDuty, FakeShelf, question, write_days


class House:
    def __init__(self, background: Background, *, sample_s: float = 3600) -> None:
        self.path: ReadPath = make_read_path(background)
        self.clock: HandClock = self.path.clock
        self.shelf = FakeShelf(self.path)
        self.duty = FakeDuty(self.path.gates)
        self.jobs = Jobs(background, self.clock)
        self.warmup = Warmup(
            self.path.read_through,
            self.path.watermarks,
            self.shelf,
            self.jobs,
            self.duty,
            self.clock,
            fingerprint=self.path.backend.fingerprint,
            breakdowns=self._breakdowns,
            written=self._written,
            sample_s=sample_s,
        )
        write_days(self.path, 5)

    async def settle(self) -> None:
        """The pipeline is quiet, and what it has written is known."""
        for _ in range(4):
            await self.path.watermarks.poll()

    def held(self) -> list[Query | None]:
        return [entry.query for entry in self.path.store.memory.values()]

    def runs(self) -> list[str]:
        return [job.about for job in reversed(self.jobs.latest())]

    async def _breakdowns(self) -> Sequence[Breakdown]:
        return ["all"]

    async def _written(self) -> None:
        return


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with Background() as background:
        house = House(background)
        async with house.jobs:
            yield house


async def over(job: Job) -> Job:
    await until(lambda: job.is_over)
    return job


async def test_what_was_asked_for_is_brought(house: House) -> None:
    job = await over(house.warmup.ask_for([question(0), question(1), question(0)]))
    assert (job.state, job.done, job.total, job.about) == ("done", 2, 2, "queries")
    assert house.held() == [question(0), question(1)]


async def test_the_most_valuable_come_first(house: House) -> None:
    for number in range(3):
        await house.path.fill(question(number))
    house.shelf.used = {question(0): 1, question(1): 9, question(2): 4}
    house.path.store.memory.clear()
    # Not sampled before they left: forgotten.
    assert (await over(house.warmup.ask("popular"))).total == 0
    for number in range(3):
        await house.path.fill(question(number))
    await over(house.warmup.ask("popular"))
    house.path.store.memory.clear()
    job = await over(house.warmup.ask("popular"))
    assert (job.state, job.done) == ("done", 3)
    assert house.held() == [question(1), question(2), question(0)]


async def test_the_usual_ones_are_those_of_the_clocks_today(house: House) -> None:
    job = await over(house.warmup.ask("usual"))
    today = datetime.fromtimestamp(house.clock.now()).date()
    assert job.total == len(usual_questions(today, ["all"]))


async def test_all_is_both_without_doubles(house: House) -> None:
    today = datetime.fromtimestamp(house.clock.now()).date()
    usual = len(usual_questions(today, ["all"]))
    await house.path.fill(question(0))
    assert (await over(house.warmup.ask("all"))).total == usual + 1


async def test_it_warms_up_on_start_and_after_each_run_that_has_settled() -> None:
    async with Background() as background:
        house = House(background)
        async with house.jobs:
            background.spawn(house.warmup.follow(), name="warm-up", endless=True)
            await house.path.watermarks.poll()
            assert house.runs() == []
            await house.settle()
            await until(lambda: house.runs() == ["start"])
            await over(house.jobs.latest()[0])
            await house.path.fill(question(0))
            await over(house.warmup.ask("popular"))
            house.path.looks.write(9)
            await house.path.watermarks.poll()
            assert "run" not in house.runs()
            await house.settle()
            await until(lambda: house.runs()[-1] == "run")
            assert (await over(house.jobs.latest()[0])).state == "done"
            house.path.taken()
            assert (await house.path.ask(question(0))).result == "hit"


async def test_a_quiet_pipeline_starts_nothing() -> None:
    async with Background() as background:
        house = House(background)
        async with house.jobs:
            background.spawn(house.warmup.follow(), name="warm-up", endless=True)
            await house.settle()
            await until(lambda: house.runs() == ["start"])
            await house.settle()
            await house.settle()
            assert house.runs() == ["start"]


async def test_what_was_asked_is_remembered_though_its_entry_leaves_between_two_runs() -> None:
    async with Background() as background:
        house = House(background, sample_s=0.001)
        async with house.jobs:
            await house.path.fill(question(0))
            background.spawn(house.warmup.follow(), name="warm-up", endless=True)
            await until(lambda: "Popularity 1/" in repr(house.warmup))
            house.path.store.memory.clear()
            job = await over(house.warmup.ask("popular"))
            assert (job.done, house.held()) == (1, [question(0)])


async def test_while_another_process_is_on_duty_nothing_is_asked(house: House) -> None:
    house.duty.is_theirs = True
    house.duty.on_refusal = lambda: house.clock.pass_s(40)
    job = await over(house.warmup.ask_for([question(0)]))
    assert (job.state, job.note) == ("cancelled", "another process is warming up")
    assert "fetch" not in house.path.gates.steps


async def test_one_waits_for_the_duty_and_then_works(house: House) -> None:
    house.duty.is_theirs = True

    def end_of_theirs() -> None:
        house.duty.is_theirs = False

    house.duty.on_refusal = end_of_theirs
    job = await over(house.warmup.ask_for([question(0)]))
    assert (job.state, job.done) == ("done", 1)
    assert house.path.gates.steps.count("take") == 2


async def test_the_duty_is_renewed_during_long_work_and_given_back_after_it(house: House) -> None:
    house.path.gates.shut("fetch")
    job = house.warmup.ask_for([question(0), question(1)])
    await until(lambda: house.path.gates.waiting["fetch"] == 1)
    house.clock.pass_s(30)
    house.path.gates.open("fetch")
    await over(job)
    steps = house.path.gates.steps
    assert [step for step in steps if step in ("take", "renew", "give back")] == [
        "take",
        "renew",
        "give back",
    ]


async def test_who_loses_the_duty_stops(house: House) -> None:
    house.path.gates.shut("fetch")
    job = house.warmup.ask_for([question(0), question(1)])
    await until(lambda: house.path.gates.waiting["fetch"] == 1)
    house.duty.is_theirs = True
    house.clock.pass_s(30)
    house.path.gates.open("fetch")
    await over(job)
    assert (job.state, job.done, job.note) == ("cancelled", 1, "another process took over")


async def test_while_redis_is_down_each_process_warms_its_own_memory(house: House) -> None:
    house.duty.is_down = True
    assert (await over(house.warmup.ask_for([question(0)]))).state == "done"


@pytest.mark.parametrize("step", ["take", "fetch"])
async def test_ended_in_the_middle_it_gives_the_duty_back(step: str) -> None:
    async with Background() as background:
        house = House(background)
        async with house.jobs:
            house.path.gates.shut(step)
            job = house.warmup.ask_for([question(0)])
            await until(lambda: house.path.gates.waiting[step] == 1)
        assert job.state == "cancelled"
        assert house.path.gates.steps[-1] == "give back"
        house.path.gates.open(step)


async def test_the_follower_ends_when_it_is_told_to(house: House) -> None:
    following = asyncio.create_task(house.warmup.follow())
    await asyncio.sleep(0)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
