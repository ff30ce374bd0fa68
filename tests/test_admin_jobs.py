"""/admin/warm and /admin/jobs over HTTP, on real tables."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from proxy.query import Query
from tests.admin_port import Operator, operating
from tests.public_port import END, make_database
from tests.waiting import until
from tests.writer import Writer

WEEK = Query("analytics", END - timedelta(days=6), END, "campaign")
DASHBOARD = Query("dashboard", END - timedelta(days=2), END, "adset", "country")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "daily.db")


@pytest.fixture
async def operator(database: Path) -> AsyncIterator[Operator]:
    async with operating(database) as operator:
        yield operator


async def test_after_the_start_the_usual_questions_are_warm(operator: Operator) -> None:
    (job,) = (await operator.get("/jobs")).body["jobs"]
    assert (job["about"], job["state"], job["errors"]) == ("start", "done", 0)
    assert job["done"] == job["total"] > 100
    assert await operator.is_hit(WEEK)
    assert await operator.is_hit(Query("analytics", END, END, "ad", "device"))


async def test_a_second_warm_up_runs_no_statement(operator: Operator) -> None:
    before = operator.statements()
    job = await operator.warmed("usual")
    assert (job["state"], job["done"] > 100) == ("done", True)
    assert operator.statements() == before


async def test_given_questions_are_warmed_in_both_shapes_words(operator: Operator) -> None:
    analytics = Query("analytics", END - timedelta(days=4), END, "campaign")
    assert not (await operator.get(explain(DASHBOARD))).body["fresh"]
    job = await operator.warmed([DASHBOARD.as_parameters(), analytics.as_parameters()])
    assert (job["state"], job["done"], job["total"]) == ("done", 2, 2)
    assert await operator.is_hit(DASHBOARD)
    assert await operator.is_hit(analytics)


async def test_a_question_in_nobodys_words_is_warmed_for_both_routes(operator: Operator) -> None:
    dates = {"start_date": str(END - timedelta(days=3)), "end_date": str(END)}
    assert (await operator.warmed([dates]))["total"] == 2


async def test_popular_ones_are_those_that_were_asked(operator: Operator) -> None:
    await operator.question(DASHBOARD)
    await operator.post("/purge", {"start_date": "2000-01-01", "end_date": "2000-01-02"})
    job = await operator.warmed("popular")
    assert (job["state"], job["total"]) == ("done", 1)


async def test_after_a_run_what_became_stale_is_warm_again_and_the_rest_is_left(
    operator: Operator, database: Path
) -> None:
    old = Query("analytics", END - timedelta(days=9), END - timedelta(days=8), "campaign")
    for query in (WEEK, DASHBOARD, old):
        await operator.question(query)
    before = operator.statements()
    with Writer(database) as writer:
        await asyncio.to_thread(writer.run, "2024-07-01 12:00:00", days=1)
        await until(lambda: _is_fresh_again(operator))
    assert operator.statements() > before
    known = {one["key"]: one for one in (await operator.get("/cache?limit=1000")).body["entries"]}
    for query in (WEEK, DASHBOARD, old):
        told = (await operator.get(explain(query))).body
        assert told["fresh"], query
        assert known[told["key"]]["is_fresh"]
    ran = operator.statements()
    for query in (WEEK, DASHBOARD, old):
        assert await operator.is_hit(query)
    assert operator.statements() == ran


async def test_a_rebuild_in_the_middle_ends_a_warm_up(operator: Operator, database: Path) -> None:
    await operator.post("/purge", {"all": True})
    with Writer(database) as writer:
        await asyncio.to_thread(writer.empty)
        job = await operator.warmed("usual")
        assert (job["state"], job["note"]) == ("cancelled", "the pipeline is rebuilding")
        assert job["done"] < job["total"]


@pytest.mark.parametrize(
    "queries",
    ["some", 3, None, [], [7], [{}], [{"start_date": "x", "end_date": "y"}], [{"shape": "round"}]],
)
async def test_what_cannot_be_warmed_is_400_and_no_job(operator: Operator, queries: object) -> None:
    told = await operator.post("/warm", {"queries": queries})
    assert (told.status, told.body["success"]) == (400, False)
    assert len((await operator.get("/jobs")).body["jobs"]) == 1


async def test_an_unknown_field_or_no_object_is_400(operator: Operator) -> None:
    for body in ({"query": "usual"}, [1], "x", {"author": 7}):
        assert (await operator.post("/warm", body)).status == 400


async def test_without_a_body_all_is_meant(operator: Operator) -> None:
    told = await operator.post("/warm")
    job = operator.running.jobs.get(told.body["job_id"])
    assert job is not None
    assert job.about == "all"


async def test_jobs_stand_newest_first(operator: Operator) -> None:
    job = await operator.warmed("usual")
    jobs = (await operator.get("/jobs")).body["jobs"]
    assert [one["about"] for one in jobs] == ["usual", "start"]
    assert jobs[0] == job
    assert len((await operator.get("/jobs?limit=1")).body["jobs"]) == 1


def explain(query: Query) -> str:
    parameters = {**query.as_parameters(), "include_sparkline": "false"}
    return "/explain?" + "&".join(f"{name}={value}" for name, value in parameters.items())


def _is_fresh_again(operator: Operator) -> bool:
    jobs = operator.running.jobs.latest()
    # The daily rows and the breakdown rows are commits of their own.
    return jobs[0].about == "run" and all(job.is_over for job in jobs) and _is_settled(operator)


def _is_settled(operator: Operator) -> bool:
    return "2024-07-01 12:00" in (operator.running.watermarks.computed_at or "")
