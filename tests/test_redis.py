"""What the Redis tier promises beyond the protocol, on a real server that fails in every way."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from proxy.cache.codec import VERSION, encode
from proxy.cache.entry import Entry
from proxy.cache.packing import OFF_LOOP_BYTES
from proxy.cache.redis import RedisStore
from proxy.errors import SettingsError, StoreError
from proxy.payload import Payload
from proxy.query import Key
from proxy.telemetry import Telemetry
from tests.clocks import HandClock
from tests.entries import an_entry
from tests.redis_server import RedisServer
from tests.redis_stores import LONG_S, store_at
from tests.relay import Relay
from tests.waiting import until

A, B = Key("a"), Key("b")
SHORT_S = 0.3
"""For calls that are to run into their limit."""


@pytest.fixture
async def relay(server: RedisServer) -> AsyncIterator[Relay]:
    async with Relay(server.host, server.port) as relay:
        yield relay


class Bench:
    """Makes stores on one clock and one set of metrics."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.telemetry = Telemetry()

    def store(
        self, url: str, *, timeout_s: float = LONG_S, max_connections: int = 16, ttl_s: float = 60
    ) -> AbstractAsyncContextManager[RedisStore]:
        return store_at(
            url,
            telemetry=self.telemetry,
            clock=self.clock,
            entry_ttl_s=ttl_s,
            timeout_s=timeout_s,
            max_connections=max_connections,
        )

    @property
    def rubbish(self) -> float:
        labels = {"tier": "redis"}
        return self.telemetry.registry.get_sample_value("proxy_store_rubbish_total", labels) or 0


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def body_at(store: RedisStore, key: Key) -> bytes | None:
    found = await store.get(key)
    return None if found is None else found.entry.payload.body


def body(text: str) -> bytes:
    return an_entry(text).payload.body


Call = Callable[[RedisStore], Awaitable[object]]
CALLS: dict[str, Call] = {
    "get": lambda store: store.get(A),
    "put": lambda store: store.put(A, an_entry()),
    "delete": lambda store: store.delete([A]),
    "ping": lambda store: store.ping(),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


async def test_an_entry_lies_under_prefix_version_and_key_with_its_time_to_live(
    server: RedisServer, raw: Redis, bench: Bench
) -> None:
    async with bench.store(server.url, ttl_s=60) as store:
        await store.put(A, an_entry())

    name = f"dashboard-proxy:{VERSION}:a"
    assert await raw.keys() == [name.encode()]
    assert await raw.get(name) == encode(an_entry())
    assert 50_000 < await raw.pttl(name) <= 60_000


async def test_what_one_process_put_another_one_finds(server: RedisServer, bench: Bench) -> None:
    async with bench.store(server.url) as one, bench.store(server.url) as other:
        await one.put(A, an_entry("shared"))

        assert await body_at(other, A) == body("shared")


WHOLE = encode(an_entry())
RUBBISH = {
    "nothing": b"",
    "random": os.urandom(300),
    "cut short": WHOLE[:-1],
    "too long": WHOLE + b"x",
    "a version to come": WHOLE[:4] + bytes([VERSION + 1]) + WHOLE[5:],
    "large": os.urandom(OFF_LOOP_BYTES * 2),
}


@pytest.mark.parametrize("data", RUBBISH.values(), ids=RUBBISH)
async def test_rubbish_is_a_counted_miss_and_the_next_put_heals_it(
    server: RedisServer, raw: Redis, bench: Bench, data: bytes
) -> None:
    await raw.set(f"dashboard-proxy:{VERSION}:a", data)
    async with bench.store(server.url) as store:
        assert await store.get(A) is None
        assert (bench.rubbish, store.is_up) == (1, True)

        await store.put(A, an_entry("healed"))
        assert await body_at(store, A) == body("healed")


async def test_another_type_under_the_key_is_a_counted_miss_and_the_next_put_heals_it(
    server: RedisServer, raw: Redis, bench: Bench
) -> None:
    await raw.execute_command("RPUSH", f"dashboard-proxy:{VERSION}:a", "x")  # type: ignore[no-untyped-call]
    async with bench.store(server.url) as store:
        assert await store.get(A) is None
        assert (bench.rubbish, store.is_up) == (1, True)

        await store.put(A, an_entry("healed"))
        assert await body_at(store, A) == body("healed")


async def test_a_flushed_server_is_an_empty_one(
    server: RedisServer, raw: Redis, bench: Bench
) -> None:
    async with bench.store(server.url) as store:
        await store.put(A, an_entry())
        await raw.flushall()

        assert await store.get(A) is None
        assert bench.rubbish == 0


@each_call
async def test_nobody_there_is_an_outage(server: RedisServer, bench: Bench, call: Call) -> None:
    server.kill()
    async with bench.store(server.url) as store:
        with pytest.raises(StoreError, match="did not answer"):
            await call(store)
        assert not store.is_up


@each_call
async def test_a_server_that_hangs_costs_no_more_than_the_limit(
    server: RedisServer, bench: Bench, call: Call
) -> None:
    async with bench.store(server.url, timeout_s=SHORT_S) as store:
        await store.ping()
        server.stop()
        begun = time.monotonic()
        with pytest.raises(StoreError, match="did not answer"):
            await call(store)

        assert SHORT_S * 0.9 < time.monotonic() - begun < SHORT_S + 1
        assert not store.is_up


async def test_a_server_that_hangs_before_the_first_call_costs_no_more_than_the_limit(
    server: RedisServer, bench: Bench
) -> None:
    server.stop()
    begun = time.monotonic()
    async with bench.store(server.url, timeout_s=SHORT_S) as store:
        with pytest.raises(StoreError):
            await store.get(A)

    assert time.monotonic() - begun < SHORT_S + 1


async def test_a_slow_reply_is_not_waited_for(relay: Relay, bench: Bench) -> None:
    async with bench.store(relay.url, timeout_s=SHORT_S) as store:
        await store.put(A, an_entry())
        relay.hold()
        begun = time.monotonic()
        with pytest.raises(StoreError):
            await store.get(A)

        assert relay.withheld > 0
        assert time.monotonic() - begun < SHORT_S + 1


async def test_callers_in_a_queue_wait_no_longer_than_the_limit_either(
    server: RedisServer, bench: Bench
) -> None:
    async with bench.store(server.url, timeout_s=SHORT_S, max_connections=2) as store:
        server.stop()
        begun = time.monotonic()
        results = await asyncio.gather(*(store.get(A) for _ in range(50)), return_exceptions=True)

        assert {type(one) for one in results} == {StoreError}
        assert time.monotonic() - begun < SHORT_S + 1
        # And they count as one outage, not as fifty.
        assert repr(store).endswith("<Circuit open, next try in 1.0 s>>")


@each_call
async def test_during_an_outage_calls_fail_without_asking(
    server: RedisServer, relay: Relay, bench: Bench, call: Call
) -> None:
    server.kill()
    async with bench.store(relay.url) as store:
        with pytest.raises(StoreError, match="did not answer"):
            await store.get(A)
        tried = relay.connections

        with pytest.raises(StoreError, match="redis is down"):
            await call(store)
        assert relay.connections == tried == 1


async def test_it_is_used_again_when_it_is_back(server: RedisServer, bench: Bench) -> None:
    with capture_logs() as logs:
        async with bench.store(server.url) as store:
            await store.put(A, an_entry("before"))
            server.kill()
            with pytest.raises(StoreError):
                await store.get(A)
            await server.start()
            bench.clock.pass_s(1)

            assert await store.get(A) is None
            await store.put(A, an_entry("after"))
            assert await body_at(store, A) == body("after")

    assert [line["event"] for line in logs] == ["redis_down", "redis_back"]


async def test_it_is_used_again_when_it_hangs_no_more(server: RedisServer, bench: Bench) -> None:
    async with bench.store(server.url, timeout_s=SHORT_S) as store:
        await store.put(A, an_entry("kept"))
        server.stop()
        with pytest.raises(StoreError):
            await store.get(B)
        server.cont()
        bench.clock.pass_s(1)

        assert await body_at(store, A) == body("kept")


async def test_a_put_is_never_the_call_that_tries(relay: Relay, bench: Bench) -> None:
    relay.hold()
    async with bench.store(relay.url, timeout_s=SHORT_S) as store:
        with pytest.raises(StoreError):
            await store.get(A)
        relay.release()
        bench.clock.pass_s(1)

        with pytest.raises(StoreError, match="redis is down"):
            await store.put(A, an_entry())
        await store.ping()
        assert b"\r\nSET\r\n" not in relay.asked
        await store.put(A, an_entry())

        assert b"\r\nSET\r\n" in relay.asked


async def test_a_restart_between_two_calls_is_not_noticed(
    server: RedisServer, bench: Bench
) -> None:
    async with bench.store(server.url) as store:
        await store.put(A, an_entry())
        server.kill()
        await server.start()

        assert await store.get(A) is None
        assert store.is_up


async def test_a_reset_in_the_middle_of_a_reply_is_an_outage_and_nothing_is_asked_twice(
    relay: Relay, bench: Bench
) -> None:
    async with bench.store(relay.url) as store:
        await store.put(A, an_entry(size=1000))
        relay.cut_after = 40
        with pytest.raises(StoreError, match="did not answer GET"):
            await store.get(A)
        assert relay.asked.count(b"GET") == 1

        bench.clock.pass_s(1)
        assert await body_at(store, A) == an_entry(size=1000).payload.body


async def test_a_server_that_is_full_refuses_puts_and_still_gives(
    server: RedisServer, raw: Redis, bench: Bench
) -> None:
    async with bench.store(server.url) as store:
        await store.put(A, an_entry("kept"))
        await raw.config_set("maxmemory-policy", "noeviction")
        await raw.config_set("maxmemory", "1")

        with pytest.raises(StoreError, match="refused SET"):
            await store.put(B, an_entry())
        assert store.is_up
        assert await body_at(store, A) == body("kept")
        assert await store.get(B) is None

        await raw.config_set("maxmemory", "0")
        await store.put(B, an_entry("room again"))
        assert await body_at(store, B) == body("room again")


async def test_a_server_that_wants_a_password_is_an_outage(bench: Bench) -> None:
    async with RedisServer("--requirepass", "secret") as server:
        async with bench.store(server.url) as store:
            with pytest.raises(StoreError):
                await store.get(A)
        known = server.url.replace("//", "//:secret@")
        async with bench.store(known) as store:
            assert await store.get(A) is None


async def test_something_that_is_no_redis_is_an_outage(bench: Bench) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with bench.store(f"redis://127.0.0.1:{port}/0") as store:
            with pytest.raises(StoreError):
                await store.get(A)
            assert not store.is_up


@each_call
async def test_a_cancelled_call_leaves_no_reply_behind_for_the_next(
    relay: Relay, bench: Bench, call: Call
) -> None:
    async with bench.store(relay.url, max_connections=1) as store:
        await store.put(A, an_entry("of a"))
        await store.put(B, an_entry("of b"))
        relay.hold()
        caller = asyncio.ensure_future(call(store))
        await until(lambda: relay.withheld > 0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        relay.release()

        assert await body_at(store, B) == body("of b")
        assert store.is_up


async def test_a_caller_cancelled_while_it_connects_leaves_the_place_to_others(
    relay: Relay, bench: Bench
) -> None:
    relay.hold()
    async with bench.store(relay.url, max_connections=1) as store:
        caller = asyncio.create_task(store.get(A))
        await until(lambda: relay.connections > 0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        relay.release()

        assert await store.get(A) is None


async def test_callers_cancelled_in_the_queue_leave_the_place_to_others(
    relay: Relay, bench: Bench
) -> None:
    async with bench.store(relay.url, max_connections=1) as store:
        await store.put(A, an_entry("of a"))
        relay.hold()
        callers = [asyncio.create_task(store.get(A)) for _ in range(10)]
        await until(lambda: relay.withheld > 0)
        for caller in callers[1:9]:
            caller.cancel()
        await asyncio.wait(callers[1:9])
        relay.release()

        for caller in (callers[0], callers[9]):
            found = await caller
            assert found is not None
        assert await body_at(store, A) == body("of a")


async def test_many_callers_share_few_connections(relay: Relay, bench: Bench) -> None:
    async with bench.store(relay.url, max_connections=3) as store:
        await store.put(A, an_entry("of a"))
        bodies = await asyncio.gather(*(body_at(store, A) for _ in range(100)))

    assert set(bodies) == {body("of a")}
    assert relay.connections <= 3


class Watched(dict[str, bytes]):
    """Encodings that remember which thread the packing asked them in."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    def get(self, key: str, default: object = None) -> None:  # type: ignore[override]
        self.threads.append(threading.get_ident())


@pytest.mark.parametrize(
    ("size", "is_off_loop"), [(OFF_LOOP_BYTES, True), (OFF_LOOP_BYTES // 2, False)]
)
async def test_only_large_entries_are_packed_off_the_event_loop(
    server: RedisServer, bench: Bench, size: int, is_off_loop: bool
) -> None:
    plain = an_entry()
    watched = Watched()
    payload = Payload(os.urandom(size), '"tag"', watched)
    entry = Entry(plain.query, payload, plain.watermark, plain.stored_at)
    async with bench.store(server.url) as store:
        await store.put(A, entry)
        found = await store.get(A)

    assert found is not None
    assert found.entry.payload.body == payload.body
    assert [thread != threading.get_ident() for thread in watched.threads] == [is_off_loop]


async def test_during_an_outage_nothing_is_packed(server: RedisServer, bench: Bench) -> None:
    plain = an_entry()
    watched = Watched()
    payload = Payload(plain.payload.body, plain.payload.etag, watched)
    server.kill()
    async with bench.store(server.url) as store:
        with pytest.raises(StoreError):
            await store.get(A)
        with pytest.raises(StoreError):
            await store.put(A, Entry(plain.query, payload, plain.watermark, plain.stored_at))

    assert watched.threads == []


async def test_an_entry_that_cannot_be_packed_is_refused_without_an_outage(
    server: RedisServer, bench: Bench
) -> None:
    async with bench.store(server.url) as store:
        with pytest.raises(StoreError, match="not an entry that can be kept"):
            await store.put(A, an_entry(stored_at=float("nan")))

        assert store.is_up


async def test_deleting_nothing_asks_nothing(relay: Relay, bench: Bench) -> None:
    async with bench.store(relay.url) as store:
        assert await store.delete([]) == 0

    assert relay.connections == 0


async def test_leaving_closes_every_connection(
    server: RedisServer, raw: Redis, bench: Bench
) -> None:
    async with bench.store(server.url) as store:
        await asyncio.gather(*(store.get(A) for _ in range(5)))
    await raw.ping()

    async def clients() -> int:
        return len(await raw.client_list())

    # The server sees the connections close in its own time.
    while await clients() > 1:
        pass


async def test_leaving_does_not_wait_for_a_server_that_hangs(
    server: RedisServer, bench: Bench
) -> None:
    begun = time.monotonic()
    async with bench.store(server.url, timeout_s=SHORT_S) as store:
        await store.get(A)
        server.stop()

    assert time.monotonic() - begun < SHORT_S + 1


@pytest.mark.parametrize(
    "url", ["localhost:6379", "http://localhost", "redis://user:hunter2", "redis://h:1/0?no=1"]
)
def test_an_url_that_cannot_be_one_stops_the_start_without_repeating_it(
    bench: Bench, url: str
) -> None:
    with pytest.raises(SettingsError, match="PROXY_REDIS_URL") as caught:
        bench.store(url)

    assert "hunter2" not in str(caught.value)


async def test_an_url_that_asks_for_text_gets_bytes_all_the_same(
    server: RedisServer, bench: Bench
) -> None:
    async with bench.store(server.url + "?decode_responses=yes") as store:
        await store.put(A, an_entry("bytes"))

        assert await body_at(store, A) == body("bytes")


async def test_its_repr_tells_where_it_writes_and_whether_it_is_up(bench: Bench) -> None:
    async with bench.store("redis://127.0.0.1:1/0") as store:
        assert repr(store) == f"<RedisStore dashboard-proxy:{VERSION}:* <Circuit closed>>"
