"""Leases on a real Redis: one holder at a time, and no write by one who is not it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from proxy.cache.entry import Entry
from proxy.cache.lease import Lease, Taken
from proxy.cache.redis import RedisStore
from proxy.cache.redis_leases import RedisLeases
from proxy.errors import StoreError
from proxy.query import Key
from tests.entries import an_entry
from tests.redis_server import RedisServer
from tests.redis_stores import LONG_S, store_at
from tests.relay import Relay
from tests.waiting import until

A, B = Key("a"), Key("b")
MINE = Lease(A, "w1", "mine")
THEIRS = Lease(A, "w1", "theirs")
OF_A_NEWER_STATE = Lease(A, "w2", "newer")


@dataclass
class Process:
    """What one process has of Redis."""

    store: RedisStore
    leases: RedisLeases

    async def body(self, key: Key = A) -> bytes | None:
        found = await self.store.get(key)
        return None if found is None else found.entry.payload.body


@asynccontextmanager
async def process(
    url: str, *, ttl_s: float = 60, timeout_s: float = LONG_S, max_connections: int = 16
) -> AsyncIterator[Process]:
    made = store_at(url, entry_ttl_s=60, timeout_s=timeout_s, max_connections=max_connections)
    async with made as store:
        yield Process(store, RedisLeases(store.connection, entry_ttl_s=60, lease_ttl_s=ttl_s))


@pytest.fixture
async def one(server: RedisServer) -> AsyncIterator[Process]:
    async with process(server.url) as one:
        yield one


@pytest.fixture
async def other(server: RedisServer) -> AsyncIterator[Process]:
    async with process(server.url) as other:
        yield other


def entry(text: str, token: str = "w1") -> Entry:
    return an_entry(text, token=token)


def body(text: str) -> bytes:
    return an_entry(text).payload.body


async def expire(raw: Redis, lease: Lease) -> None:
    """As if its time had passed."""
    assert await raw.delete(await name_of(raw, lease)) == 1


async def name_of(raw: Redis, lease: Lease) -> bytes:
    [name] = await raw.keys(f"dashboard-proxy:lease:*:{lease.key}:{lease.watermark}")
    assert isinstance(name, bytes)
    return name


async def test_of_many_who_try_at_once_one_is_granted(one: Process, other: Process) -> None:
    tries = [Lease(A, "w1", f"try {number}") for number in range(50)]
    came = await asyncio.gather(
        *((one if n % 2 else other).leases.take(lease) for n, lease in enumerate(tries))
    )

    assert came.count(Taken.GRANTED) == 1
    assert came.count(Taken.HELD) == 49


async def test_other_questions_and_other_states_of_the_data_are_other_leases(one: Process) -> None:
    for lease in (MINE, Lease(B, "w1", "b"), OF_A_NEWER_STATE):
        assert await one.leases.take(lease) is Taken.GRANTED


async def test_a_put_keeps_the_entry_and_gives_the_lease_back(
    one: Process, other: Process, raw: Redis
) -> None:
    await one.leases.take(MINE)
    name = await name_of(raw, MINE)

    assert await one.leases.put(MINE, entry("rows"))
    assert await other.body() == body("rows")
    assert not await raw.exists(name)
    assert 50_000 < await raw.pttl(one.store.connection.entry_name(A)) <= 60_000


async def test_whoever_comes_after_the_put_is_told_that_the_entry_is_there(
    one: Process, other: Process
) -> None:
    await one.leases.take(MINE)
    await one.leases.put(MINE, entry("rows"))

    assert await other.leases.take(THEIRS) is Taken.ANSWERED
    assert await other.leases.take(OF_A_NEWER_STATE) is Taken.GRANTED


async def test_who_looked_at_the_entry_and_cannot_use_it_may_insist(
    one: Process, other: Process
) -> None:
    await one.leases.take(MINE)
    await one.leases.put(MINE, entry("rows"))

    assert await other.leases.take(THEIRS, again=True) is Taken.GRANTED
    assert await one.leases.take(Lease(A, "w1", "a third"), again=True) is Taken.HELD


async def test_an_entry_that_is_gone_is_not_said_to_be_there(one: Process, raw: Redis) -> None:
    await one.leases.take(MINE)
    await one.leases.put(MINE, entry("rows"))
    await raw.delete(one.store.connection.entry_name(A))

    assert await one.leases.take(THEIRS) is Taken.GRANTED


async def test_what_was_given_back_can_be_taken_at_once(one: Process, other: Process) -> None:
    await one.leases.take(MINE)
    await one.leases.give_back(MINE)

    assert await other.leases.take(THEIRS) is Taken.GRANTED


async def test_only_its_holder_gives_a_lease_back(one: Process, other: Process) -> None:
    await one.leases.take(MINE)
    await other.leases.give_back(THEIRS)

    assert await other.leases.take(THEIRS) is Taken.HELD


async def test_a_lease_runs_out_by_itself_and_another_takes_over(
    server: RedisServer, other: Process
) -> None:
    async with process(server.url, ttl_s=0.05) as short_lived:
        await short_lived.leases.take(MINE)
        while await other.leases.take(THEIRS) is Taken.HELD:
            pass

        assert await other.leases.put(THEIRS, entry("theirs"))


async def test_a_renewed_lease_has_its_whole_time_again(one: Process, raw: Redis) -> None:
    await one.leases.take(MINE)
    name = await name_of(raw, MINE)
    await raw.pexpire(name, 5_000)

    assert await one.leases.renew(MINE)
    assert 50_000 < await raw.pttl(name) <= 60_000


@pytest.mark.parametrize("is_taken_over", [False, True])
async def test_a_lease_that_was_lost_is_not_renewed(
    one: Process, other: Process, raw: Redis, is_taken_over: bool
) -> None:
    await one.leases.take(MINE)
    await expire(raw, MINE)
    if is_taken_over:
        await other.leases.take(THEIRS)

    assert not await one.leases.renew(MINE)


@pytest.mark.parametrize("is_taken_over", [False, True])
async def test_a_late_write_of_one_who_lost_the_lease_is_refused(
    one: Process, other: Process, raw: Redis, is_taken_over: bool
) -> None:
    await one.leases.take(MINE)
    await expire(raw, MINE)
    if is_taken_over:
        await other.leases.take(THEIRS)

    assert not await one.leases.put(MINE, entry("late"))
    assert await one.body() is None
    if is_taken_over:
        assert await other.leases.put(THEIRS, entry("theirs"))
        assert await one.body() == body("theirs")


async def test_a_late_write_after_the_successors_is_refused(
    one: Process, other: Process, raw: Redis
) -> None:
    await one.leases.take(MINE)
    await expire(raw, MINE)
    await other.leases.take(THEIRS)
    await other.leases.put(THEIRS, entry("theirs"))

    assert not await one.leases.put(MINE, entry("late"))
    assert await one.body() == body("theirs")


async def test_a_holder_of_an_older_lease_does_not_undo_what_a_later_one_wrote(
    one: Process, other: Process
) -> None:
    await one.leases.take(MINE)
    await other.leases.take(OF_A_NEWER_STATE)
    await other.leases.put(OF_A_NEWER_STATE, entry("newer", "w2"))

    assert not await one.leases.put(MINE, entry("older"))
    assert await one.body() == body("newer")
    # And its lease is over all the same.
    assert await other.leases.take(THEIRS) is Taken.GRANTED


async def test_a_holder_of_a_later_lease_replaces_what_an_earlier_one_wrote(
    one: Process, other: Process
) -> None:
    await one.leases.take(MINE)
    await other.leases.take(OF_A_NEWER_STATE)
    await one.leases.put(MINE, entry("older"))

    assert await other.leases.put(OF_A_NEWER_STATE, entry("newer", "w2"))
    assert await one.body() == body("newer")


async def test_a_delete_refuses_the_fills_under_way(one: Process, other: Process) -> None:
    await one.leases.take(MINE)
    assert await other.store.delete([A, B]) == 0

    assert not await one.leases.put(MINE, entry("from before the delete"))
    assert await one.body() is None
    assert await one.leases.take(THEIRS) is Taken.GRANTED
    assert await one.leases.put(THEIRS, entry("from after it"))


async def test_a_fill_from_before_a_delete_stays_refused_however_often_leases_are_taken(
    one: Process, other: Process
) -> None:
    await one.leases.take(MINE)
    await other.store.delete([A])
    for number in range(10):
        lease = Lease(A, "w2", f"try {number}")
        await other.leases.take(lease)
        await other.leases.give_back(lease)

    assert not await one.leases.put(MINE, entry("from before the delete"))


async def test_a_flush_ends_every_lease_and_refuses_its_write(one: Process, raw: Redis) -> None:
    await one.leases.take(MINE)
    await raw.flushall()

    assert not await one.leases.renew(MINE)
    assert not await one.leases.put(MINE, entry("late"))
    assert await raw.keys() == []


async def test_a_restart_makes_the_scripts_known_again(server: RedisServer, one: Process) -> None:
    await one.leases.take(MINE)
    server.kill()
    await server.start()

    assert await one.leases.take(THEIRS) is Taken.GRANTED
    assert await one.leases.put(THEIRS, entry("rows"))
    assert await one.body() == body("rows")


async def test_a_put_that_a_full_server_refuses_has_changed_nothing(
    one: Process, raw: Redis
) -> None:
    await one.leases.take(MINE)
    await raw.config_set("maxmemory-policy", "noeviction")
    await raw.config_set("maxmemory", "1")
    with pytest.raises(StoreError, match="redis refused put"):
        await one.leases.put(MINE, entry("rows"))
    with pytest.raises(StoreError, match="redis refused take"):
        await one.leases.take(Lease(B, "w1", "b"))
    assert one.store.is_up

    await one.leases.give_back(MINE)
    await raw.config_set("maxmemory", "0")
    assert await one.leases.take(THEIRS) is Taken.GRANTED
    assert await one.body() is None


async def test_something_else_under_the_name_of_a_lease_is_an_error_and_no_grant(
    one: Process, raw: Redis
) -> None:
    await raw.set(one.store.connection.fence_name(A), "rubbish")

    with pytest.raises(StoreError):
        await one.leases.take(MINE)
    assert one.store.is_up


async def test_leases_leave_nothing_behind_for_ever(one: Process, raw: Redis) -> None:
    await one.leases.take(MINE)
    await one.leases.take(Lease(B, "w1", "b"))
    await one.leases.put(MINE, entry("rows"))

    for name in await raw.keys():
        assert 0 < await raw.pttl(name) <= 600_000


Call = Callable[[RedisLeases], Awaitable[object]]
CALLS: dict[str, Call] = {
    "take": lambda leases: leases.take(MINE),
    "renew": lambda leases: leases.renew(MINE),
    "put": lambda leases: leases.put(MINE, entry("rows")),
    "give back": lambda leases: leases.give_back(MINE),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@each_call
async def test_a_server_that_is_gone_is_an_outage(
    server: RedisServer, one: Process, call: Call
) -> None:
    server.kill()

    with pytest.raises(StoreError, match="did not answer"):
        await call(one.leases)
    with pytest.raises(StoreError, match="redis is down"):
        await call(one.leases)


@each_call
async def test_a_cancelled_call_leaves_the_connection_to_others(
    server: RedisServer, call: Call
) -> None:
    async with (
        Relay(server.host, server.port) as relay,
        process(relay.url, max_connections=1) as one,
    ):
        await one.store.put(B, entry("of b"))
        relay.hold()
        caller = asyncio.ensure_future(call(one.leases))
        await until(lambda: relay.withheld > 0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        relay.release()

        assert await one.body(B) == body("of b")


async def test_its_repr_tells_how_long_a_lease_lasts(one: Process) -> None:
    assert repr(one.leases) == (
        "<RedisLeases 60000 ms <RedisConnection dashboard-proxy <Circuit closed>>>"
    )


@dataclass
class Model:
    """The rules in Python: who holds what, who wrote last."""

    held: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    granted: int = 0
    written: int = 0
    deleted: int = 0
    """Leases granted until the last delete."""
    at: str | None = None
    """Watermark of the entry."""

    def take(self, lease: Lease) -> Taken:
        if self.at == lease.watermark:
            return Taken.ANSWERED
        if lease.watermark in self.held:
            return Taken.HELD
        self.granted += 1
        self.held[lease.watermark] = lease.token
        self.numbers[lease.token] = self.granted
        return Taken.GRANTED

    def put(self, lease: Lease) -> bool:
        if self.held.get(lease.watermark) != lease.token:
            return False
        del self.held[lease.watermark]
        number = self.numbers[lease.token]
        if number <= max(self.deleted, self.written):
            return False
        self.written, self.at = number, lease.watermark
        return True

    def give_back(self, lease: Lease) -> None:
        if self.held.get(lease.watermark) == lease.token:
            del self.held[lease.watermark]

    def delete(self) -> int:
        held = int(self.at is not None)
        self.deleted, self.at = self.granted, None
        return held


steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "put", "give back", "expire", "delete"]),
        st.sampled_from(["w1", "w2", "w3"]),
        st.sampled_from(["mine", "theirs"]),
    ),
    max_size=40,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps)
async def test_any_order_of_steps_is_judged_as_the_rules_say(
    one: Process, raw: Redis, steps: list[tuple[str, str, str]]
) -> None:
    await raw.flushall()
    model = Model()
    tries: dict[tuple[str, str], Lease] = {}
    for number, (step, watermark, who) in enumerate(steps):
        lease = tries.get((watermark, who), Lease(A, watermark, "never tried"))
        match step:
            case "take":
                lease = Lease(A, watermark, f"{who} {number}")
                taken = await one.leases.take(lease)
                assert taken is model.take(lease)
                if taken is Taken.GRANTED:
                    tries[watermark, who] = lease
            case "put":
                assert await one.leases.put(lease, entry("rows", watermark)) == model.put(lease)
            case "give back":
                await one.leases.give_back(lease)
                model.give_back(lease)
            case "expire":
                await raw.delete(one.store.connection.lease_name(A, watermark))
                model.held.pop(watermark, None)
            case "delete":
                assert await one.store.delete([A]) == model.delete()
        found = await one.store.get(A)
        assert (found.entry.watermark.token if found else None) == model.at
