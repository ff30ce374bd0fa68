"""/admin/cache, /admin/purge and /admin/explain over HTTP, with and without Redis."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from proxy.canonical import Limits
from proxy.errors import RequestError
from proxy.handlers.admin_cache import what_is_meant
from proxy.query import Query
from tests.admin_port import Operator, operating
from tests.public_port import END, make_database
from tests.redis_server import RedisServer
from tests.test_admin_jobs import explain

WEEK = Query("analytics", END - timedelta(days=6), END, "campaign")
OTHER = Query("dashboard", END - timedelta(days=9), END - timedelta(days=8), "campaign")
LIMITS = Limits()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "daily.db")


@pytest.fixture
async def operator(database: Path) -> AsyncIterator[Operator]:
    async with operating(database) as operator:
        yield operator


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


async def test_the_list_has_what_was_used_last_first(operator: Operator) -> None:
    for _ in range(3):
        await operator.question(OTHER)
    operator.clock.pass_s(12)
    told = await operator.get("/cache?limit=1")
    (first,) = told.body["entries"]
    assert first["query"] == OTHER.as_parameters()
    assert (first["shape"], first["tier"], first["is_fresh"]) == ("dashboard", "memory", True)
    assert (first["hits"], first["age_s"]) == (2, 12.0)
    assert first["bytes"] > 500
    assert len((await operator.get("/cache?limit=5")).body["entries"]) == 5


async def test_all_can_be_purged(operator: Operator) -> None:
    held = len((await operator.get("/cache?limit=10000")).body["entries"])
    told = await operator.post("/purge", {"all": True})
    assert told.body == {"purged": held, "is_complete": True}
    assert (await operator.get("/cache")).body == {"entries": []}
    assert not await operator.is_hit(WEEK)
    assert await operator.is_hit(WEEK)


async def test_one_question_can_be_purged(operator: Operator) -> None:
    for query in (WEEK, OTHER):
        await operator.question(query)
    told = await operator.post("/purge", {"query": WEEK.as_parameters()})
    assert told.body["purged"] == 1
    assert not await operator.is_hit(WEEK)
    assert await operator.is_hit(OTHER)


async def test_what_was_computed_from_some_dates_can_be_purged(operator: Operator) -> None:
    for query in (WEEK, OTHER):
        await operator.question(query)
    dates = {"start_date": str(END - timedelta(days=8)), "end_date": str(END - timedelta(days=8))}
    assert (await operator.post("/purge", dates)).body["purged"] >= 1
    assert await operator.is_hit(WEEK)
    assert not await operator.is_hit(OTHER)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"all": False},
        {"all": 1},
        {"all": True, "query": {}},
        {"start_date": "2024-01-01"},
        {"start_date": "2024-01-02", "end_date": "2024-01-01"},
        {"start_date": "2024-01-01", "end_date": "2024-02-30"},
        {"query": []},
        {"query": {"start_date": "2024-01-01"}},
        {"query": {"start_date": "2024-01-01", "end_date": "2024-01-01", "x": 1}},
        {"everything": True},
    ],
)
async def test_an_unclear_purge_is_400_and_nothing_is_gone(
    operator: Operator, body: object
) -> None:
    before = (await operator.get("/status")).body["cache"]["entries"]
    assert (await operator.post("/purge", body)).status == 400
    assert (await operator.get("/status")).body["cache"]["entries"] == before
    assert (await operator.get("/audit")).body["entries"] == []


async def test_a_purge_reaches_redis_too(database: Path, redis: RedisServer) -> None:
    async with operating(database, redis_url=redis.url) as operator:
        await operator.question(WEEK)
        await operator.running.background.drained()
        told = await operator.post("/purge", {"all": True})
        assert told.body["is_complete"] is True
        assert told.body["purged"] > 100
        assert (await operator.get(explain(WEEK))).body["held"] is False
        assert (await operator.get("/cache")).body == {"entries": []}


async def test_a_purge_says_that_redis_could_not_be_asked(
    database: Path, redis: RedisServer
) -> None:
    async with operating(database, redis_url=redis.url) as operator:
        redis.kill()
        told = await operator.post("/purge", {"all": True})
        assert (told.status, told.body["is_complete"]) == (200, False)
        assert told.body["purged"] > 100
        assert (await operator.get("/status")).body["sources"]["redis"] == "down"


async def test_what_only_redis_holds_is_listed_and_explained(
    database: Path, redis: RedisServer
) -> None:
    async with operating(database, redis_url=redis.url) as first:
        await first.question(OTHER)
        await first.running.background.drained()
    async with operating(database, redis_url=redis.url) as second:
        told = (await second.get(explain(OTHER))).body
        assert (told["held"], told["tier"], told["fresh"]) == (True, "redis", True)
        listed = (await second.get("/cache?limit=10000")).body["entries"]
        (entry,) = [one for one in listed if one["key"] == told["key"]]
        assert (entry["tier"], entry["hits"], entry["query"]) == ("redis", 0, OTHER.as_parameters())


async def test_an_explanation_asks_nothing_and_counts_nothing(operator: Operator) -> None:
    ran = operator.statements()
    cold = (await operator.get(explain(OTHER))).body
    assert (cold["held"], cold["fresh"], cold["side"]) == (False, False, "optimized")
    assert cold["query"] == OTHER.as_parameters()
    assert operator.statements() == ran
    await operator.question(OTHER)
    warm = (await operator.get(explain(OTHER))).body
    assert (warm["held"], warm["fresh"], warm["tier"]) == (True, True, "memory")
    assert warm["key"] == cold["key"]
    assert warm["watermark"]["computed_at"] == "2024-07-01 03:00:00"
    (entry,) = (await operator.get("/cache?limit=1")).body["entries"]
    assert (entry["key"], entry["hits"]) == (cold["key"], 0)


async def test_a_question_without_rows_would_go_to_the_legacy(database: Path) -> None:
    async with operating(database, legacy_url="http://127.0.0.1:9") as operator:
        told = await operator.get("/explain?start_date=2020-01-01&end_date=2020-01-02")
        assert (told.body["side"], told.body["shape"]) == ("legacy", "dashboard")


@pytest.mark.parametrize(
    "asked", ["", "start_date=2024-01-01", "start_date=a&end_date=b", "x=1", "start_date=%ff"]
)
async def test_what_is_no_question_cannot_be_explained(operator: Operator, asked: str) -> None:
    assert (await operator.get(f"/explain?{asked}")).status == 400


def day(number: int) -> date:
    return date(2024, 1, number)


@pytest.mark.parametrize(
    ("start", "end", "is_meant"),
    [(1, 4, False), (1, 5, True), (6, 6, True), (8, 20, True), (9, 9, False)],
)
def test_a_range_means_every_answer_that_read_one_of_its_dates(
    start: int, end: int, is_meant: bool
) -> None:
    dates = {"start_date": str(day(start)), "end_date": str(day(end))}
    query = Query("analytics", day(5), day(8), "ad")
    assert what_is_meant(dates, LIMITS)(query) is is_meant


def test_the_dates_of_a_sparkline_are_read_too() -> None:
    query = Query("analytics", day(20), day(20), "ad", include_sparkline=True)
    dates = {"start_date": str(day(7)), "end_date": str(day(7))}
    assert what_is_meant(dates, LIMITS)(query)


def test_an_answer_of_a_legacy_route_is_meant_by_all_and_by_any_dates() -> None:
    assert what_is_meant({"all": True}, LIMITS)(None)
    assert what_is_meant({"start_date": "2000-01-01", "end_date": "2099-01-01"}, LIMITS)(None)
    assert not what_is_meant({"query": WEEK.as_parameters()}, LIMITS)(None)


def test_parameters_that_are_wrong_are_refused() -> None:
    with pytest.raises(RequestError):
        what_is_meant({"query": {}}, LIMITS)


async def test_two_questions_at_once_on_a_purged_cache_are_both_answered(
    operator: Operator,
) -> None:
    purging = operator.post("/purge", {"all": True})
    told = await asyncio.gather(purging, operator.question(WEEK), operator.question(OTHER))
    assert [one.status for one in told] == [200, 200, 200]
