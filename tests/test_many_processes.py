"""Four real proxies on one Redis and one database: who computes, who waits, what a crash costs."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from redis.asyncio import Redis

from proxy.cache.codec import VERSION, decode
from proxy.cache.entry import Entry
from proxy.cache.lease import Lease, Taken
from proxy.cache.redis import RedisStore
from proxy.cache.redis_leases import RedisLeases
from proxy.query import Key
from proxy.telemetry import Telemetry
from tests.clocks import HandClock
from tests.proxies import ProxyProcess
from tests.public_port import END, make_database
from tests.redis_server import RedisServer
from tests.relay import Relay

PROCESSES = 4
LEASE_TTL_S = 5.0
A_WHILE_S = 15.0
"""For what follows at once, however busy the machine is."""
QUESTION = {"start_date": str(END), "end_date": str(END), "hierarchy": "campaign"}
ENTRIES = f"dashboard-proxy:{VERSION}:"
ENTRY_MAGIC = b"DPxE"


class Barrier(Relay):
    """Lets nothing of an entry through to the server before `let_through`."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.has_come = asyncio.Event()
        self._may_pass = asyncio.Event()

    def let_through(self) -> None:
        self._may_pass.set()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if ENTRY_MAGIC in data:
                self.has_come.set()
                await self._may_pass.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


@dataclass
class Fleet:
    """The proxies, and what stands behind and before them."""

    proxies: list[ProxyProcess]
    session: aiohttp.ClientSession
    redis: RedisServer
    raw: Redis
    barrier: Barrier
    asked: list[asyncio.Task[tuple[int, str, bytes]]] = field(default_factory=list)

    async def ask(self, proxy: ProxyProcess) -> tuple[int, str, bytes]:
        """Status, Cache-Status without the proxy's name, and the body."""
        async with self.session.post(proxy.url.with_path("/data"), json=QUESTION) as response:
            said = response.headers["Cache-Status"].removeprefix("dashboard-proxy; ")
            return response.status, said, await response.read()

    def ask_all(self, proxies: list[ProxyProcess], times: int) -> None:
        for _ in range(times):
            self.asked += [asyncio.create_task(self.ask(proxy)) for proxy in proxies]

    async def answers(self) -> list[tuple[int, str, bytes]]:
        return await asyncio.gather(*self.asked)

    async def counted(self, name: str, *proxies: ProxyProcess, **labels: str) -> float:
        """The metric, summed over `proxies`; without any over all."""
        parts = [await proxy.metric(name, **labels) for proxy in proxies or self.proxies]
        return sum(parts)

    async def statements(self, *proxies: ProxyProcess) -> float:
        return await self.counted("proxy_sql_seconds_count", *proxies)

    async def steps(self) -> int:
        """How often leases have been asked for anything."""
        told = await self.raw.info("commandstats")
        return int(told.get("cmdstat_evalsha", {}).get("calls", 0))

    async def more_steps(self, count: int) -> None:
        """Returns when leases have been asked for `count` things from now on."""
        before = await self.steps()
        while await self.steps() < before + count:
            pass

    async def entry(self) -> tuple[Key, Entry]:
        """The only one in Redis."""
        [name] = await self.raw.keys(f"{ENTRIES}*")
        value = await self.raw.get(name)
        assert isinstance(name, bytes)
        assert isinstance(value, bytes)
        return Key(name.decode().removeprefix(ENTRIES)), decode(value)

    async def leases_left(self) -> int:
        return len(await self.raw.keys("dashboard-proxy:lease:*"))


@asynccontextmanager
async def launched(database: Path, *, has_barrier: bool) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(RedisServer())
        barrier = await stack.enter_async_context(Barrier(redis.host, redis.port))
        raw = await stack.enter_async_context(Redis.from_url(redis.url, protocol=2))
        urls = [barrier.url if has_barrier else redis.url] + [redis.url] * (PROCESSES - 1)
        proxies = [ProxyProcess(database, redis_url=url) for url in urls]
        for proxy in proxies:
            stack.push_async_exit(proxy)
        await asyncio.gather(*(proxy.start() for proxy in proxies))
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        yield Fleet(proxies, session, redis, raw, barrier)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with launched(make_database(tmp_path / "daily.db"), has_barrier=False) as fleet:
        yield fleet


@pytest.fixture
async def barred(tmp_path: Path) -> AsyncIterator[Fleet]:
    """The first one's way to Redis has the barrier."""
    async with launched(make_database(tmp_path / "daily.db"), has_barrier=True) as fleet:
        yield fleet


async def test_five_hundred_callers_of_four_processes_cost_one_statement(fleet: Fleet) -> None:
    fleet.ask_all(fleet.proxies, 125)
    answers = await fleet.answers()

    assert len(answers) == 500
    assert {status for status, _, _ in answers} == {200}
    assert len({body for _, _, body in answers}) == 1
    assert await fleet.statements() == 1
    assert await fleet.counted("proxy_shared_flights_total", outcome="led") == 1
    assert await fleet.counted("proxy_shared_flights_total", outcome="alone") == 0
    assert await fleet.leases_left() == 0


async def test_who_waited_for_another_process_says_so(fleet: Fleet) -> None:
    first, second, *_ = fleet.proxies
    assert (await fleet.ask(first))[1] == "fwd=miss; stored"
    while await fleet.leases_left():
        pass
    key, entry = await fleet.entry()
    await fleet.raw.flushall()
    store = RedisStore(
        fleet.redis.url, telemetry=Telemetry(), clock=HandClock(), entry_ttl_s=60, timeout_s=20
    )
    async with store:
        leases = RedisLeases(store.connection, entry_ttl_s=60, lease_ttl_s=60)
        lease = Lease(key, entry.watermark.token, "of the test")
        assert await leases.take(lease) is Taken.GRANTED
        fleet.ask_all([second], 1)
        await fleet.more_steps(3)
        assert await leases.put(lease, entry)

    told = "fwd=miss; stored; collapsed; detail=redis"
    assert await fleet.answers() == [(200, told, entry.payload.body)]
    assert (await fleet.ask(second))[1] == "hit"
    assert await fleet.statements(second) == 0


async def test_another_takes_over_when_the_holder_is_killed(barred: Fleet) -> None:
    holder, *others = barred.proxies
    await barred.ask(holder)
    await barred.barrier.has_come.wait()
    barred.ask_all(others, 30)
    await barred.more_steps(20)
    begun = time.monotonic()
    holder.kill()
    answers = await barred.answers()

    assert {status for status, _, _ in answers} == {200}
    assert len({body for _, _, body in answers}) == 1
    assert await barred.statements(*others) == 1
    assert time.monotonic() - begun < LEASE_TTL_S + A_WHILE_S
    # The dead one's lease ran out; nobody gave up waiting.
    assert await barred.counted("proxy_shared_flights_total", *others, outcome="timeout") == 0


async def test_a_holder_that_hung_too_long_does_not_undo_what_its_successor_wrote(
    barred: Fleet,
) -> None:
    holder, *others = barred.proxies
    barred.ask_all([holder], 10)
    await barred.barrier.has_come.wait()
    holder.stop()
    barred.ask_all(others, 10)
    await asyncio.gather(*barred.asked[10:])
    while await barred.leases_left():
        pass
    _, entry = await barred.entry()
    before = await barred.steps()
    barred.barrier.let_through()
    while await barred.steps() == before:
        pass

    # The late write has reached Redis, where another's entry stays.
    assert (await barred.entry())[1].stored_at == entry.stored_at
    assert await barred.statements(*others) == 1
    holder.cont()
    answers = await barred.answers()
    assert {status for status, _, _ in answers} == {200}
    assert len({body for _, _, body in answers}) == 1


async def test_when_redis_dies_under_those_who_wait_each_computes_at_once(barred: Fleet) -> None:
    holder, *others = barred.proxies
    barred.ask_all([holder], 30)
    await barred.barrier.has_come.wait()
    barred.ask_all(others, 30)
    await barred.more_steps(20)
    begun = time.monotonic()
    barred.redis.kill()
    answers = await barred.answers()

    assert time.monotonic() - begun < LEASE_TTL_S
    assert {status for status, _, _ in answers} == {200}
    assert len({body for _, _, body in answers}) == 1
    assert await barred.statements() == PROCESSES


async def test_a_holder_that_is_told_to_leave_leaves_what_it_answered_to_others(
    fleet: Fleet,
) -> None:
    holder, other, *_ = fleet.proxies
    assert (await fleet.ask(holder))[1] == "fwd=miss; stored"
    assert await holder.end() == 0

    assert (await fleet.ask(other))[1] == "hit; detail=redis"
    assert await fleet.leases_left() == 0
