"""Jobs: one at a time, remembered, ended when the proxy leaves."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from proxy.background import Background
from proxy.errors import BackendError
from proxy.jobs import Job, JobCancelledError, Jobs, JobsFullError
from tests.clocks import HandClock
from tests.gates import Gates
from tests.waiting import until


class House:
    def __init__(self, background: Background) -> None:
        self.clock = HandClock(1000.0)
        self.gates = Gates()
        self.background = background
        self.jobs = Jobs(background, self.clock, most_queued=2, most_kept=3)

    def add(self, name: str, *, error: Exception | None = None) -> Job:
        async def work(job: Job) -> None:
            job.total = 2
            job.done = 1
            await self.gates.come_to(name)
            if error is not None:
                raise error
            job.done = 2

        return self.jobs.add("work", name, work)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with Background() as background:
        house = House(background)
        async with house.jobs:
            yield house


async def over(job: Job) -> Job:
    await until(lambda: job.is_over)
    return job


async def test_a_job_tells_how_far_it_is_and_when_it_ran(house: House) -> None:
    house.gates.shut("one")
    job = house.add("one")
    assert (job.state, job.started_at) == ("queued", None)
    await until(lambda: house.gates.waiting["one"] == 1)
    assert (job.state, job.done, job.total, job.started_at) == ("running", 1, 2, 1000.0)
    house.clock.pass_s(5)
    house.gates.open("one")
    await over(job)
    assert (job.state, job.done, job.finished_at) == ("done", 2, 1005.0)


async def test_jobs_run_one_after_the_other_in_order(house: House) -> None:
    house.gates.shut("one")
    first, second = house.add("one"), house.add("two")
    await until(lambda: house.gates.waiting["one"] == 1)
    assert second.state == "queued"
    assert house.jobs.is_queued("two")
    assert not house.jobs.is_queued("one")
    house.gates.open("one")
    await over(second)
    assert first.state == "done"
    assert house.gates.steps == ["one", "two"]


async def test_a_job_added_after_all_were_done_runs_too(house: House) -> None:
    await over(house.add("one"))
    assert (await over(house.add("two"))).state == "done"


async def test_an_error_of_ours_fails_the_job_and_is_told(house: House) -> None:
    job = await over(house.add("one", error=BackendError("the tables are gone")))
    assert (job.state, job.note) == ("failed", "the tables are gone")
    assert (await over(house.add("two"))).state == "done"


async def test_a_reason_to_stop_is_no_failure(house: House) -> None:
    job = await over(house.add("one", error=JobCancelledError("a rebuild")))
    assert (job.state, job.note) == ("cancelled", "a rebuild")


async def test_an_error_nobody_foresaw_is_logged_and_the_next_job_runs(house: House) -> None:
    with capture_logs() as logs:
        first = house.add("one", error=ZeroDivisionError())
        second = await over(house.add("two"))
    assert (first.state, second.state) == ("failed", "done")
    assert [line["error"] for line in logs if line["event"] == "background_task_failed"] == [
        "ZeroDivisionError()"
    ]


async def test_a_job_all_of_whose_steps_went_wrong_has_failed(house: House) -> None:
    async def work(job: Job) -> None:
        job.total = job.done = job.errors = 2

    job = house.jobs.add("work", "wrong", work)
    assert (await over(job)).state == "failed"


async def test_a_job_with_nothing_to_do_is_done(house: House) -> None:
    async def work(job: Job) -> None:
        return

    assert (await over(house.jobs.add("work", "nothing", work))).state == "done"


async def test_too_many_that_wait_are_refused(house: House) -> None:
    house.gates.shut("one")
    house.add("one")
    await until(lambda: house.gates.waiting["one"] == 1)
    house.add("two")
    house.add("three")
    with pytest.raises(JobsFullError, match="2 jobs wait already"):
        house.add("four")
    house.gates.open("one")


async def test_the_oldest_that_are_over_are_forgotten(house: House) -> None:
    jobs = [await over(house.add(str(number))) for number in range(5)]
    assert house.jobs.get(jobs[0].id) is None
    assert house.jobs.latest() == [jobs[4], jobs[3], jobs[2]]
    assert house.jobs.latest(1) == [jobs[4]]
    assert house.jobs.get(jobs[4].id) is jobs[4]


async def test_on_close_the_running_one_is_cancelled_and_those_behind_it_too() -> None:
    async with Background() as background:
        house = House(background)
        async with house.jobs:
            house.gates.shut("one")
            running, waiting = house.add("one"), house.add("two")
            await until(lambda: house.gates.waiting["one"] == 1)
        assert (running.state, running.note) == ("cancelled", "the proxy leaves")
        assert waiting.state == "cancelled"
        assert house.gates.waiting["one"] == 0
        assert len(background) == 0
        with pytest.raises(JobsFullError, match="the proxy leaves"):
            house.add("three")


async def test_a_job_that_cleans_up_when_cancelled_is_waited_for() -> None:
    cleaned = False

    async def work(job: Job) -> None:
        nonlocal cleaned
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned = True

    async with Background() as background:
        async with Jobs(background, HandClock()) as jobs:
            job = jobs.add("work", "one", work)
            await until(lambda: job.state == "running" and len(background) == 2)
            await asyncio.sleep(0)
        assert cleaned
        assert job.state == "cancelled"


async def test_on_close_before_the_first_step_the_job_is_cancelled() -> None:
    async with Background() as background:
        house = House(background)
        async with house.jobs:
            job = house.add("one")
        assert job.state == "cancelled"
        assert house.gates.steps == []
