"""The read path of a process that shares a Redis: when it holds a lease, and for how long."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import date

import pytest

from proxy.background import Background
from proxy.cache.entry import Entry
from proxy.errors import BackendError, BackendUnavailable
from proxy.handlers.responses import cache_status
from proxy.query import Key, Query
from tests.read_path import ReadPath, make_read_path
from tests.shared_leases import SharedRedis
from tests.waiting import until

QUERY = Query("analytics", date(2024, 1, 1), date(2024, 1, 1), "campaign", depth=1)


@pytest.fixture
def redis() -> SharedRedis:
    return SharedRedis()


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    async with Background(drain_s=0) as background:
        yield background


@pytest.fixture
def path(background: Background, redis: SharedRedis) -> ReadPath:
    return make_read_path(background, has_legacy=True, redis=redis)


@dataclass(frozen=True, slots=True)
class Filled:
    key: Key
    entry: Entry


@pytest.fixture
async def filled(background: Background) -> Filled:
    """What another process on the same data has as its answer."""
    other = make_read_path(background)
    await other.fill(QUERY)
    [(key, entry)] = other.store.memory.items()
    return Filled(key, entry)


async def test_the_lease_is_taken_before_the_data_are_read_and_written_with_behind_the_answer(
    path: ReadPath, redis: SharedRedis
) -> None:
    path.gates.shut("put")
    answer = await path.ask(QUERY)

    assert (answer.result, answer.is_stored, answer.is_collapsed) == ("miss", True, False)
    assert (redis.entries, len(redis.holders)) == ({}, 1)
    await until(lambda: path.gates.waiting["put"] == 1)
    assert path.taken()[2:] == ["get", "get shared", "take", "fetch", "put now", "put"]
    path.gates.open("put")
    await until(lambda: bool(redis.entries))
    assert redis.holders == {}
    assert (await path.ask(QUERY)).result == "hit"


async def test_what_another_process_keeps_meanwhile_is_a_collapsed_miss_from_redis(
    path: ReadPath, redis: SharedRedis, background: Background, filled: Filled
) -> None:
    token = filled.entry.watermark.token
    redis.holders[filled.key, token] = "another"
    asking = background.spawn(path.ask(QUERY), name="caller")
    await until(lambda: len(path.sleep) == 1)
    redis.holders.clear()
    redis.entries[filled.key] = filled.entry
    path.sleep.pass_s(1)
    answer = await asking

    assert "fetch" not in path.gates.steps
    assert answer.payload is filled.entry.payload
    assert cache_status(answer) == "dashboard-proxy; fwd=miss; stored; collapsed; detail=redis"


async def test_those_who_wait_in_one_process_for_another_wait_as_one(
    path: ReadPath, redis: SharedRedis, background: Background, filled: Filled
) -> None:
    redis.holders[filled.key, filled.entry.watermark.token] = "another"
    asking = [background.spawn(path.ask(QUERY), name="caller") for _ in range(20)]
    await until(lambda: len(path.sleep) == 1)

    assert path.gates.steps.count("take") == 1
    redis.holders.clear()
    path.sleep.pass_s(1)
    answers = await asyncio.gather(*asking)
    assert path.gates.steps.count("fetch") == 1
    assert [answer.is_collapsed for answer in answers].count(False) == 1


@pytest.mark.parametrize("shortfall", ["no_rows", "no_breakdown"])
async def test_nobody_waits_for_an_answer_of_the_legacy(
    path: ReadPath, redis: SharedRedis, background: Background, shortfall: str
) -> None:
    path.backend.change = lambda fetched: replace(fetched, shortfall=shortfall)
    path.gates.shut("legacy")
    asking = background.spawn(path.ask(QUERY), name="caller")
    await until(lambda: path.gates.waiting["legacy"] == 1 and not redis.holders)
    path.gates.open("legacy")

    assert (await asking).source == "legacy"


async def test_nobody_waits_for_a_process_whose_statement_failed(
    path: ReadPath, redis: SharedRedis, background: Background
) -> None:
    path.backend.failure = BackendError("no such column", reason="sql_error")
    path.gates.shut("legacy")
    asking = background.spawn(path.ask(QUERY), name="caller")
    await until(lambda: path.gates.waiting["legacy"] == 1 and not redis.holders)
    path.gates.open("legacy")

    assert (await asking).detail == "sql_error"


async def test_nobody_waits_for_a_fill_that_is_not_kept(path: ReadPath, redis: SharedRedis) -> None:
    path.backend.change = lambda fetched: replace(fetched, rows_read={("daily", "campaign"): 9})
    assert (await path.ask(QUERY)).detail == "unsettled"
    await until(lambda: not redis.holders)
    assert redis.entries == {}


async def test_without_a_watermark_no_lease_is_taken(path: ReadPath, redis: SharedRedis) -> None:
    path.looks.failures["counter"] = BackendUnavailable("gone", reason="no_database")
    assert (await path.ask(QUERY)).detail == "unverified"
    assert "take" not in path.gates.steps


async def test_a_redis_that_is_down_costs_nobody_an_answer(
    path: ReadPath, redis: SharedRedis
) -> None:
    redis.is_down = True
    answer = await path.ask(QUERY)
    assert (answer.result, answer.is_stored) == ("miss", True)
    assert path.sleep.pauses == []
