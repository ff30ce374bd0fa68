"""The proxy is told to leave, or killed, under steady load."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest
from redis.asyncio import Redis

from proxy.cache.codec import VERSION
from tests.proxies import ProxyProcess
from tests.public_port import Reply, ask, calling, make_database
from tests.redis_server import RedisServer
from tests.steady import Known, Steady, known
from tests.writer import Writer

RANGE = {"start_date": "2024-06-21", "end_date": "2024-06-30"}
ANALYTICS = "/api/dashboard/analytics/data"
LEASE_S = 5.0
"""How long those who come after a dead process wait for what it was loading."""
PATIENCE_S = 1.5
NOT_BEGUN = ("IncompleteReadError('0 bytes read", "ConnectionRe", "BrokenPipeError")
"""How a question ends that the proxy had not read when it left: without a byte of an answer."""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """With a rollback journal: there a writer keeps readers out."""
    path = make_database(tmp_path / "daily.db")
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode = DELETE").fetchall() == [("delete",)]
    return path


@pytest.fixture
def questions(database: Path) -> list[Known]:
    return [
        known(path, database, **RANGE, **more)
        for path in ("/data", f"{ANALYTICS}/optimized")
        for more in ({}, {"breakdown": "country"}, {"include_sparkline": True})
    ]


@pytest.fixture
def writer(database: Path) -> Iterator[Writer]:
    with Writer(database) as writer:
        yield writer


@pytest.fixture
async def redis_server() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


async def test_told_to_leave_it_answers_what_it_has_begun(
    database: Path, questions: list[Known], writer: Writer
) -> None:
    held, *cold = questions
    async with (
        ProxyProcess(database) as proxy,
        Steady(proxy.url, [held]) as load,
        AsyncExitStack() as stack,
    ):
        await load.round()
        writer.sql("BEGIN EXCLUSIVE")
        callers = [
            (question, await stack.enter_async_context(calling(proxy.url)))
            for question in cold
            for _ in range(5)
        ]
        for question, caller in callers:
            caller.send(question.request)
        await load.round()
        leaving = asyncio.create_task(proxy.end())
        await load.sees(lambda seen: seen.status == 0)
        writer.sql("ROLLBACK")
        replies = [(question, await caller.reply()) for question, caller in callers]
        assert await leaving == 0
    assert {question.faults_in(reply.body) for question, reply in replies} == {""}
    lost = [seen for seen in load.seen if seen.is_bad]
    assert [seen for seen in lost if not seen.fault.startswith(NOT_BEGUN)] == []
    assert proxy.events("background_task_failed") == []


async def test_told_to_leave_while_it_is_busy_it_sends_no_half_of_an_answer(
    database: Path, questions: list[Known], redis_server: RedisServer
) -> None:
    for _ in range(3):
        async with (
            ProxyProcess(database, redis_url=redis_server.url) as proxy,
            Steady(proxy.url, questions, callers=10, pause_s=0) as load,
        ):
            await load.sees(lambda seen: seen.status == 200)
            assert await proxy.end() == 0
        lost = [seen for seen in load.seen if seen.is_bad]
        assert [seen for seen in lost if not seen.fault.startswith(NOT_BEGUN)] == []


async def test_killed_and_started_again_it_finds_its_entries_in_redis(
    database: Path, questions: list[Known], redis_server: RedisServer
) -> None:
    async with ProxyProcess(database, redis_url=redis_server.url) as proxy:
        async with Steady(proxy.url, questions) as load:
            await load.round()
            await are_kept(redis_server, len(questions))
            proxy.kill()
        await proxy.start()
        replies: list[Reply] = []
        for question in questions:
            replies.append(await ask(proxy.url, question.request))
            assert question.faults_in(replies[-1].body) == ""
        assert {reply.headers["cache-status"] for reply in replies} == {
            "dashboard-proxy; hit; detail=redis"
        }
        assert await proxy.metric("proxy_sql_seconds_count") == 0


async def test_killed_again_and_again_while_it_fills_it_leaves_no_rubbish_and_no_lock(
    database: Path, questions: list[Known], redis_server: RedisServer, writer: Writer
) -> None:
    async with ProxyProcess(database, redis_url=redis_server.url) as proxy:
        for number in range(3):
            stamp = f"2024-07-01 {number:06d}"
            writer.sql(f"UPDATE daily_mixpanel_metrics SET computed_at = '{stamp}'")
            async with Steady(proxy.url, questions, pause_s=0) as load:
                await load.sees(lambda seen: seen.status == 200)
                proxy.kill()
            await proxy.start()
        async with Steady(proxy.url, questions, limit_s=10.0) as load:
            await load.round()
        assert load.problems() == []
        assert load.slowest_s < LEASE_S + PATIENCE_S
        assert await proxy.metric("proxy_store_rubbish_total") == 0


async def are_kept(server: RedisServer, entries: int) -> None:
    """Wait until so many entries are in Redis."""
    async with Redis.from_url(server.url) as client, asyncio.timeout(10):
        while len(await client.keys(f"dashboard-proxy:{VERSION}:*")) < entries:
            pass
