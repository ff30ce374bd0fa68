"""Callers who leave, come all at once, read slowly or never finish what they say.

The proxy is a process of its own. A database locked for a moment holds its
questions where a test wants them.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil
import pytest

from tests.proxies import ProxyProcess
from tests.public_port import Caller, calling, make_database, post
from tests.redis_server import RedisServer
from tests.steady import Known, Steady, known
from tests.writer import Writer

RANGE = {"start_date": "2024-06-21", "end_date": "2024-06-30"}
ANALYTICS = "/api/dashboard/analytics/data"
AT_ONCE = 500
PATIENCE_S = 1.5
SETTLING_S = 10.0


@dataclass
class Scene:
    """`load` asks what is held; `cold` has the dates known, but was not asked before."""

    proxy: ProxyProcess
    load: Steady
    cold: Known
    largest: Known
    writer: Writer

    async def statements(self) -> float:
        return await self.proxy.metric("proxy_sql_seconds_count")

    async def is_read(self) -> None:
        """What was sent before has been read by the proxy: later questions are answered."""
        await self.load.round()

    def assert_others_saw_nothing(self) -> None:
        assert self.load.problems() == []
        assert self.load.slowest_s < PATIENCE_S


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """With a rollback journal: there a writer keeps readers out."""
    path = make_database(tmp_path / "daily.db")
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode = DELETE").fetchall() == [("delete",)]
    return path


@pytest.fixture
def writer(database: Path) -> Iterator[Writer]:
    with Writer(database) as writer:
        yield writer


@pytest.fixture
async def scene(database: Path, writer: Writer) -> AsyncIterator[Scene]:
    questions = [known("/data", database, **RANGE), known(ANALYTICS, database, **RANGE)]
    cold = known("/data", database, **RANGE, hierarchy="adset")
    largest = known(
        ANALYTICS, database, **RANGE, group_by="campaign", breakdown="country",
        include_sparkline=True,
    )  # fmt: skip
    async with ProxyProcess(database) as proxy, Steady(proxy.url, questions) as load:
        await load.round()
        yield Scene(proxy, load, cold, largest, writer)


async def is_as_before(process: psutil.Process, fds: int) -> None:
    async with asyncio.timeout(SETTLING_S):
        while process.num_fds() > fds:  # noqa: ASYNC110 (another process closes them)
            await asyncio.sleep(0.05)


async def test_who_leads_a_load_leaves_and_those_who_follow_are_answered(scene: Scene) -> None:
    async with calling(scene.proxy.url) as follower:
        async with calling(scene.proxy.url) as leader:
            scene.writer.sql("BEGIN EXCLUSIVE")
            leader.send(scene.cold.request)
            await scene.is_read()
            follower.send(scene.cold.request)
            await scene.is_read()
        await scene.is_read()
        scene.writer.sql("ROLLBACK")
        reply = await follower.reply()
    assert scene.cold.faults_in(reply.body) == ""
    assert "collapsed" in reply.headers["cache-status"]
    scene.assert_others_saw_nothing()


async def test_who_follows_a_load_leaves_and_the_others_are_answered(scene: Scene) -> None:
    async with calling(scene.proxy.url) as leader, calling(scene.proxy.url) as last:
        scene.writer.sql("BEGIN EXCLUSIVE")
        leader.send(scene.cold.request)
        await scene.is_read()
        async with calling(scene.proxy.url) as follower:
            follower.send(scene.cold.request)
            last.send(scene.cold.request)
            await scene.is_read()
        await scene.is_read()
        scene.writer.sql("ROLLBACK")
        replies = [await leader.reply(), await last.reply()]
    assert [scene.cold.faults_in(reply.body) for reply in replies] == ["", ""]
    scene.assert_others_saw_nothing()


async def test_all_who_wait_for_a_load_leave_and_it_is_kept_for_the_next(scene: Scene) -> None:
    scene.writer.sql("BEGIN EXCLUSIVE")
    async with calling(scene.proxy.url) as first, calling(scene.proxy.url) as second:
        first.send(scene.cold.request)
        second.send(scene.cold.request)
        await scene.is_read()
    await scene.is_read()
    scene.writer.sql("ROLLBACK")
    async with asyncio.timeout(SETTLING_S):
        async with calling(scene.proxy.url) as caller:
            reply = await caller.ask(scene.cold.request)
    assert scene.cold.faults_in(reply.body) == ""
    scene.assert_others_saw_nothing()


async def test_five_hundred_at_once_make_one_statement(scene: Scene) -> None:
    before = await scene.statements()
    async with AsyncExitStack() as stack:
        callers = [
            await stack.enter_async_context(calling(scene.proxy.url)) for _ in range(AT_ONCE)
        ]
        # Stopped until all have asked: then it finds them all at once.
        scene.proxy.stop()
        for caller in callers:
            caller.send(scene.cold.request)
        scene.proxy.cont()
        replies = [await caller.reply() for caller in callers]
    assert {scene.cold.faults_in(reply.body) for reply in replies} == {""}
    assert len({reply.body for reply in replies}) == 1
    assert await scene.statements() - before == 1


async def test_five_hundred_at_four_processes_with_one_redis_make_one_statement(
    database: Path,
) -> None:
    cold = known("/data", database, **RANGE)
    async with RedisServer() as server, AsyncExitStack() as stack:
        proxies = [ProxyProcess(database, redis_url=server.url) for _ in range(4)]
        await asyncio.gather(*map(stack.enter_async_context, proxies))
        callers: list[Caller] = [
            await stack.enter_async_context(calling(proxies[number % 4].url))
            for number in range(AT_ONCE)
        ]
        for proxy in proxies:
            proxy.stop()
        for caller in callers:
            caller.send(cold.request)
        for proxy in proxies:
            proxy.cont()
        replies = [await caller.reply() for caller in callers]
        statements = [await proxy.metric("proxy_sql_seconds_count") for proxy in proxies]
    assert {cold.faults_in(reply.body) for reply in replies} == {""}
    assert len({reply.body for reply in replies}) == 1
    assert sum(statements) == 1


async def test_those_who_read_slowly_hold_nobody_up_and_get_all_of_it(scene: Scene) -> None:
    fds = psutil.Process(scene.proxy.pid).num_fds()
    async with AsyncExitStack() as stack:
        slow = [
            await stack.enter_async_context(calling(scene.proxy.url, buffer_bytes=2048))
            for _ in range(20)
        ]
        for caller in slow:
            caller.send(scene.largest.request * 5)
        await scene.load.round(5)
        for caller in slow:
            bodies = [(await caller.reply()).body for _ in range(5)]
            assert {scene.largest.faults_in(body) for body in bodies} == {""}
    scene.assert_others_saw_nothing()
    await is_as_before(psutil.Process(scene.proxy.pid), fds)


async def test_those_who_read_nothing_and_leave_take_nothing_with_them(scene: Scene) -> None:
    process = psutil.Process(scene.proxy.pid)
    fds = process.num_fds()
    async with AsyncExitStack() as stack:
        for _ in range(20):
            caller = await stack.enter_async_context(calling(scene.proxy.url, buffer_bytes=2048))
            caller.send(scene.largest.request * 5)
        await scene.load.round()
    await is_as_before(process, fds)
    scene.assert_others_saw_nothing()


HEAD = post("/data", b"")
WHOLE = post("/data", orjson.dumps(RANGE))
HALVES = {
    "half of a head": HEAD[: len(HEAD) // 2],
    "a head without its body": WHOLE[: WHOLE.index(b"\r\n\r\n") + 4],
    "half of a body": WHOLE[:-10],
    "a chunk without its end": b"POST /data HTTP/1.1\r\nHost: dash\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n40\r\n{",
    "one byte": b"P",
    "nothing": b"",
}


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES.keys())
async def test_those_who_never_finish_hold_nobody_up_and_leave_no_trace(
    scene: Scene, half: bytes
) -> None:
    process = psutil.Process(scene.proxy.pid)
    fds = process.num_fds()
    async with AsyncExitStack() as stack:
        for _ in range(50):
            caller = await stack.enter_async_context(calling(scene.proxy.url))
            caller.send(half)
        await scene.load.round(2)
    await is_as_before(process, fds)
    scene.assert_others_saw_nothing()
