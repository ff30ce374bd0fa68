"""A Redis that fails in every way, under steady load: callers get right answers and see nothing.

The proxy is a process of its own. The pipeline writes again and again, so
that questions leave memory and Redis is needed, but never another number.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from proxy.cache.codec import VERSION
from tests.proxies import ProxyProcess
from tests.public_port import make_database
from tests.redis_server import RedisServer
from tests.relay import Relay
from tests.steady import Known, Steady, known, tally
from tests.waiting import until
from tests.writer import Writer

RANGE = {"start_date": "2024-06-21", "end_date": "2024-06-30"}
ANALYTICS = "/api/dashboard/analytics/data"
ENTRIES = f"dashboard-proxy:{VERSION}:*"
RECOVERY_S = 20.0
PATIENCE_S = 1.5
"""A question may wait for Redis this long: its time limit, some SQL, a busy machine."""


@dataclass
class Scene:
    """A proxy under load in front of a database, and a Redis between them to disturb."""

    proxy: ProxyProcess
    load: Steady
    client: Redis
    writer: Writer
    runs: Iterator[int]

    async def run(self) -> None:
        """The pipeline writes the numbers that are there; then each question is asked anew."""
        stamp = f"2024-07-01 {next(self.runs):06d}"
        self.writer.sql(f"UPDATE daily_mixpanel_metrics SET computed_at = '{stamp}'")
        answers = tally(await self.load.round())
        assert set(answers) == {"optimized"}, answers

    async def entries(self) -> list[bytes]:
        return [name async for name in self.client.scan_iter(ENTRIES)]

    async def runs_until(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(RECOVERY_S):
            while not await is_so():
                await self.run()

    async def is_kept(self) -> bool:
        """Every question's entry is in Redis, as an entry."""
        kinds = [await self.client.type(name) for name in await self.entries()]
        return kinds == [b"string"] * len(self.load.questions)

    def assert_nobody_noticed(self, *, patience_s: float = PATIENCE_S) -> None:
        assert self.load.problems() == []
        assert self.load.slowest_s < patience_s
        assert set(self.load.tally()) == {"optimized"}


Scenes = Callable[..., Awaitable[Scene]]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "daily.db")


@pytest.fixture
def questions(database: Path) -> list[Known]:
    return [
        known("/data", database, **RANGE),
        known("/data", database, **RANGE, hierarchy="ad", breakdown="country"),
        known(ANALYTICS, database, **RANGE, group_by="campaign"),
    ]


@pytest.fixture
async def scene_on(database: Path, questions: list[Known]) -> AsyncIterator[Scenes]:
    async with AsyncExitStack() as stack:

        async def make(server: RedisServer, url: str | None = None) -> Scene:
            proxy = ProxyProcess(database, redis_url=url or server.url)
            await stack.enter_async_context(proxy)
            writer = stack.enter_context(Writer(database))
            # A server that went takes this client's connection with it.
            again = Retry(NoBackoff(), 1)
            client = await stack.enter_async_context(Redis.from_url(server.url, retry=again))
            load = await stack.enter_async_context(Steady(proxy.url, questions))
            return Scene(proxy, load, client, writer, count(1))

        yield make


@pytest.fixture
async def redis_server() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


async def test_it_is_killed_and_used_again_when_it_is_back(
    scene_on: Scenes, redis_server: RedisServer
) -> None:
    scene = await scene_on(redis_server)
    await scene.runs_until(scene.is_kept)
    redis_server.kill()
    for _ in range(3):
        await scene.run()
    await until(lambda: bool(scene.proxy.events("redis_down")))
    await redis_server.start()
    await scene.runs_until(scene.is_kept)
    scene.assert_nobody_noticed()


async def test_it_is_restarted_at_once(scene_on: Scenes, redis_server: RedisServer) -> None:
    scene = await scene_on(redis_server)
    await scene.runs_until(scene.is_kept)
    redis_server.kill()
    await redis_server.start()
    await scene.runs_until(scene.is_kept)
    scene.assert_nobody_noticed()


async def test_it_hangs(scene_on: Scenes, redis_server: RedisServer) -> None:
    scene = await scene_on(redis_server)
    await scene.runs_until(scene.is_kept)
    redis_server.stop()
    for _ in range(3):
        await scene.run()
    redis_server.cont()
    await scene.client.flushall()
    await scene.runs_until(scene.is_kept)
    scene.assert_nobody_noticed()


async def test_it_is_full_and_evicts_nothing(scene_on: Scenes) -> None:
    options = ("--maxmemory", "100kb", "--maxmemory-policy", "noeviction")
    async with RedisServer(*options) as server:
        scene = await scene_on(server)
        for _ in range(3):
            await scene.run()
        assert await scene.entries() == []
        assert await scene.proxy.metric("proxy_store_errors_total", operation="put") > 0
        await scene.client.config_set("maxmemory", "64mb")
        await scene.runs_until(scene.is_kept)
        scene.assert_nobody_noticed()


async def test_it_is_flushed(scene_on: Scenes, redis_server: RedisServer) -> None:
    scene = await scene_on(redis_server)
    await scene.runs_until(scene.is_kept)
    await scene.client.flushall()
    await scene.run()
    await scene.runs_until(scene.is_kept)
    scene.assert_nobody_noticed()


async def test_something_else_lies_under_the_names_of_its_entries(
    scene_on: Scenes, redis_server: RedisServer
) -> None:
    scene = await scene_on(redis_server)
    await scene.runs_until(scene.is_kept)
    for name in await scene.entries():
        await scene.client.delete(name)
        await scene.client.rpush(name, b"a list")
    await scene.run()
    await scene.runs_until(scene.is_kept)
    scene.assert_nobody_noticed()


@pytest.mark.parametrize("kind", ["garbage", "truncated", "empty"])
async def test_its_values_are_no_entries(
    scene_on: Scenes, redis_server: RedisServer, kind: str
) -> None:
    scene = await scene_on(redis_server)
    await scene.runs_until(scene.is_kept)
    spoilt = {}
    for name in await scene.entries():
        value = await scene.client.get(name)
        assert isinstance(value, bytes)
        spoilt[name] = {
            "garbage": b"\x00\xff" * 500, "truncated": value[: len(value) // 2], "empty": b"",
        }[kind]  # fmt: skip
        await scene.client.set(name, spoilt[name])

    async def is_mended() -> bool:
        return all([await scene.client.get(name) != value for name, value in spoilt.items()])

    await scene.runs_until(is_mended)
    assert await scene.proxy.metric("proxy_store_rubbish_total") > 0
    scene.assert_nobody_noticed()


async def test_its_connection_is_reset_in_the_middle_of_replies(
    scene_on: Scenes, redis_server: RedisServer
) -> None:
    async with Relay(redis_server.host, redis_server.port) as relay:
        scene = await scene_on(redis_server, relay.url)
        await scene.runs_until(scene.is_kept)

        async def is_cut() -> bool:
            return relay.cut_after is None

        for _ in range(2):
            relay.cut_after = 3
            await scene.runs_until(is_cut)
        await scene.client.flushall()
        await scene.runs_until(scene.is_kept)
        scene.assert_nobody_noticed()


async def test_it_is_two_seconds_late(scene_on: Scenes, redis_server: RedisServer) -> None:
    async with Relay(redis_server.host, redis_server.port) as relay:
        scene = await scene_on(redis_server, relay.url)
        await scene.runs_until(scene.is_kept)
        relay.delay_s = 2.0
        for _ in range(3):
            await scene.run()
        relay.delay_s = 0.0
        await scene.client.flushall()
        await scene.runs_until(scene.is_kept)
        scene.assert_nobody_noticed()
