"""Two tiers as one: what is written where and when, in which order, and what an outage costs."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from dataclasses import replace

import pytest

from proxy.background import Background
from proxy.cache.codec import Head, encode, peek
from proxy.cache.entry import Entry
from proxy.cache.memory import MemoryStore
from proxy.cache.store import Found, Purged
from proxy.cache.tiered import TieredStore
from proxy.errors import StoreError
from proxy.query import Key, Query
from proxy.telemetry import Telemetry
from tests.entries import QUERY, an_entry
from tests.waiting import until

A, B, C, D = Key("a"), Key("b"), Key("c"), Key("d")


class SharedTier:
    """Redis as a dict: each call does its work at once, but returns only while `is_open`.

    So a call may be held between the work and its answer, as a slow network
    does. `log` tells what reached it, in order. While `is_down` all fail.
    """

    def __init__(self) -> None:
        self.held: dict[Key, Entry] = {}
        self.log: list[str] = []
        self.is_down = False
        self._open = asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def get(self, key: Key) -> Found | None:
        entry = self.held.get(key)
        await self._pass(f"get {key}")
        return None if entry is None else Found(entry, "redis")

    async def put(self, key: Key, entry: Entry) -> None:
        await self._pass(f"put {key} {entry.watermark.token}")
        self.held[key] = entry

    async def delete(self, keys: Iterable[Key]) -> int:
        wanted = sorted(keys)
        if not wanted:
            return 0
        await self._pass(f"delete {' '.join(wanted)}")
        return sum(self.held.pop(key, None) is not None for key in wanted)

    async def heads(self) -> AsyncGenerator[Mapping[Key, Head | None], None]:
        await self._pass("heads")
        for key, entry in list(self.held.items()):
            yield {key: head_of(entry)}

    async def refuse_fills(self) -> None:
        await self._pass("refuse fills")

    async def _pass(self, what: str) -> None:
        self.log.append(what)
        await self._open.wait()
        if self.is_down:
            raise StoreError("down")


def head_of(entry: Entry) -> Head:
    return peek(encode(entry))


class Tiers:
    def __init__(self, background: Background, *, memory_bytes: int = 2**20) -> None:
        self.telemetry = Telemetry()
        self.memory = MemoryStore(memory_bytes, self.telemetry)
        self.redis = SharedTier()
        self.background = background
        self.store = TieredStore(
            self.memory, self.redis, self.telemetry, background, pending_limit=3
        )

    async def written(self) -> None:
        await until(lambda: len(self.background) == 0)

    def errors(self, operation: str) -> float:
        labels = {"tier": "redis", "operation": operation}
        return self.telemetry.registry.get_sample_value("proxy_store_errors_total", labels) or 0


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    async with Background(drain_s=0) as background:
        yield background


@pytest.fixture
def tiers(background: Background) -> Tiers:
    return Tiers(background)


def entry(token: str, stored_at: float = 100) -> Entry:
    return an_entry(token, token=token, stored_at=stored_at)


async def test_memory_is_asked_first(tiers: Tiers) -> None:
    one = entry("one")
    tiers.memory.put_now(A, one)

    assert await tiers.store.get(A) == Found(one, "memory")
    assert tiers.store.get_now(A) is one
    assert tiers.redis.log == []


async def test_what_redis_holds_is_found_and_then_is_in_memory(tiers: Tiers) -> None:
    one = entry("one")
    tiers.redis.held[A] = one

    assert tiers.store.get_now(A) is None
    assert await tiers.store.get(A) == Found(one, "redis")
    assert await tiers.store.get(A) == Found(one, "memory")
    assert tiers.redis.log == ["get a"]


async def test_an_outage_is_counted_and_nothing_found(tiers: Tiers) -> None:
    tiers.redis.is_down = True

    assert await tiers.store.get(A) is None
    assert tiers.errors("get") == 1


async def test_many_callers_for_one_key_ask_redis_once(tiers: Tiers) -> None:
    one = entry("one")
    tiers.redis.held[A] = one
    tiers.redis.hold()
    reading = [asyncio.create_task(tiers.store.get(A)) for _ in range(100)]
    await until(lambda: tiers.redis.log == ["get a"])
    reading[0].cancel()
    tiers.redis.release()
    found = await asyncio.gather(*reading[1:])

    assert found == [Found(one, "redis")] * 99
    assert tiers.redis.log == ["get a"]


async def test_who_comes_after_a_delete_does_not_join_a_read_from_before_it(tiers: Tiers) -> None:
    tiers.redis.held[A] = entry("one")
    tiers.redis.hold()
    reading = asyncio.create_task(tiers.store.get(A))
    await until(lambda: tiers.redis.log == ["get a"])
    deleting = asyncio.create_task(tiers.store.delete([A]))
    await until(lambda: tiers.redis.log == ["get a", "delete a"])
    tiers.redis.release()
    await deleting

    assert await tiers.store.get(A) is None
    await reading


async def test_a_read_after_closing_finds_nothing() -> None:
    async with Background() as background:
        tiers = Tiers(background)
    tiers.redis.held[A] = entry("one")

    assert await tiers.store.get(A) is None


async def test_a_put_does_not_wait_for_redis(tiers: Tiers) -> None:
    tiers.redis.hold()
    one = entry("one")
    await tiers.store.put(A, one)

    assert tiers.store.get_now(A) is one
    assert tiers.redis.held == {}
    tiers.redis.release()
    await tiers.written()
    assert tiers.redis.held == {A: one}


async def test_a_put_that_redis_does_not_take_is_counted_and_stays_in_memory(
    tiers: Tiers,
) -> None:
    tiers.redis.is_down = True
    one = entry("one")
    await tiers.store.put(A, one)
    await tiers.store.put(B, one)
    await tiers.written()

    assert tiers.errors("put") == 2
    assert tiers.store.get_now(A) is one


async def test_after_an_outage_puts_are_written_again(tiers: Tiers) -> None:
    tiers.redis.is_down = True
    await tiers.store.put(A, entry("one"))
    await tiers.written()
    tiers.redis.is_down = False
    await tiers.store.put(A, entry("two"))
    await tiers.written()

    assert tiers.redis.held == {A: entry("two")}


async def test_no_more_puts_wait_than_the_limit_and_the_rest_are_counted(tiers: Tiers) -> None:
    tiers.redis.hold()
    for key in (A, B, C, D):
        await tiers.store.put(key, entry("one"))
    assert tiers.errors("put_dropped") == 1
    assert "pending=3" in repr(tiers.store)
    tiers.redis.release()
    await tiers.written()

    assert list(tiers.redis.held) == [A, B, C]
    assert tiers.store.get_now(D) is not None


async def test_of_the_puts_of_a_key_that_wait_only_the_newest_is_written(tiers: Tiers) -> None:
    tiers.redis.hold()
    await tiers.store.put(A, entry("1"))
    await until(lambda: tiers.redis.log == ["put a 1"])
    for token in ("2", "3", "4"):
        await tiers.store.put(A, entry(token))
        await tiers.store.put(B, entry(token))
    tiers.redis.release()
    await tiers.written()

    assert tiers.redis.log == ["put a 1", "put a 4", "put b 4"]
    assert tiers.errors("put_dropped") == 0


async def test_what_waits_to_be_written_is_found_though_memory_cannot_hold_it(
    background: Background,
) -> None:
    tiers = Tiers(background, memory_bytes=10)
    tiers.redis.hold()
    one = entry("one")
    await tiers.store.put(A, one)

    assert tiers.store.get_now(A) is None
    assert await tiers.store.get(A) == Found(one, "memory")


async def test_a_delete_empties_both_tiers_and_counts_a_key_once(tiers: Tiers) -> None:
    for key in (A, B):
        await tiers.store.put(key, entry("one"))
    await tiers.written()
    tiers.redis.held[C] = entry("one")

    assert await tiers.store.delete([A, B, C, D]) == 3
    assert (len(tiers.memory), tiers.redis.held) == (0, {})


async def test_a_delete_forgets_a_put_that_still_waits(tiers: Tiers) -> None:
    tiers.redis.hold()
    await tiers.store.put(A, entry("one"))
    await until(lambda: tiers.redis.log == ["put a one"])
    await tiers.store.put(B, entry("one"))
    deleting = asyncio.create_task(tiers.store.delete([B]))
    await until(lambda: tiers.store.get_now(B) is None)
    tiers.redis.release()

    assert await deleting == 1
    await tiers.written()
    assert tiers.redis.log == ["put a one", "delete b"]
    assert tiers.redis.held == {A: entry("one")}


async def test_a_delete_is_not_overtaken_by_the_put_under_way(tiers: Tiers) -> None:
    tiers.redis.hold()
    await tiers.store.put(A, entry("one"))
    await until(lambda: tiers.redis.log == ["put a one"])
    deleting = asyncio.create_task(tiers.store.delete([A]))
    await until(lambda: tiers.store.get_now(A) is None)
    assert tiers.redis.log == ["put a one"]
    tiers.redis.release()
    await deleting
    await tiers.written()

    assert tiers.redis.log == ["put a one", "delete a"]
    assert tiers.redis.held == {}
    assert await tiers.store.get(A) is None


async def test_a_put_after_a_delete_is_written_after_it(tiers: Tiers) -> None:
    tiers.redis.hold()
    await tiers.store.put(A, entry("old"))
    await until(lambda: tiers.redis.log == ["put a old"])
    deleting = asyncio.create_task(tiers.store.delete([A]))
    await until(lambda: tiers.store.get_now(A) is None)
    await tiers.store.put(A, entry("new"))
    tiers.redis.release()
    await deleting
    await tiers.written()

    assert tiers.redis.log == ["put a old", "delete a", "put a new"]
    assert tiers.redis.held == {A: entry("new")}
    assert tiers.store.get_now(A) == entry("new")


async def test_a_delete_that_redis_does_not_take_still_empties_memory_and_is_counted(
    tiers: Tiers,
) -> None:
    tiers.memory.put_now(A, entry("one"))
    tiers.redis.is_down = True

    assert await tiers.store.delete([A, B]) == 1
    assert tiers.errors("delete") == 1
    assert tiers.store.get_now(A) is None


async def test_a_read_from_before_a_delete_does_not_bring_the_entry_back(tiers: Tiers) -> None:
    tiers.redis.held[A] = entry("one")
    tiers.redis.hold()
    reading = asyncio.create_task(tiers.store.get(A))
    await until(lambda: tiers.redis.log == ["get a"])
    deleting = asyncio.create_task(tiers.store.delete([A]))
    await until(lambda: tiers.redis.log == ["get a", "delete a"])
    tiers.redis.release()
    await asyncio.gather(reading, deleting)

    assert tiers.store.get_now(A) is None


async def test_a_read_beside_a_delete_does_not_bring_the_entry_back(tiers: Tiers) -> None:
    tiers.redis.held[A] = entry("one")
    tiers.redis.hold()
    deleting = asyncio.create_task(tiers.store.delete([A]))
    await until(lambda: tiers.redis.log == ["delete a"])
    reading = asyncio.create_task(tiers.store.get(A))
    await until(lambda: tiers.redis.log == ["delete a", "get a"])
    tiers.redis.release()
    await asyncio.gather(reading, deleting)

    assert tiers.store.get_now(A) is None


async def test_a_cancelled_delete_has_emptied_memory_and_lets_later_reads_be_kept(
    tiers: Tiers,
) -> None:
    await tiers.store.put(A, entry("one"))
    await tiers.written()
    tiers.redis.hold()
    deleting = asyncio.create_task(tiers.store.delete([A]))
    await until(lambda: tiers.redis.log[-1] == "delete a")
    deleting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deleting
    tiers.redis.release()
    assert tiers.store.get_now(A) is None

    tiers.redis.held[B] = entry("two")
    await tiers.store.get(B)
    assert tiers.store.get_now(B) == entry("two")
    await tiers.store.put(C, entry("three"))
    await tiers.written()
    assert C in tiers.redis.held


async def test_a_cancelled_read_leaves_everything_as_it_was(tiers: Tiers) -> None:
    tiers.redis.held[A] = entry("one")
    tiers.redis.hold()
    reading = asyncio.create_task(tiers.store.get(A))
    await until(lambda: tiers.redis.log == ["get a"])
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    tiers.redis.release()

    assert len(tiers.memory) == 0
    assert await tiers.store.get(A) == Found(entry("one"), "redis")


async def test_a_read_does_not_take_the_place_of_a_put_beside_it(tiers: Tiers) -> None:
    tiers.redis.held[A] = entry("old")
    tiers.redis.hold()
    reading = asyncio.create_task(tiers.store.get(A))
    await until(lambda: tiers.redis.log == ["get a"])
    await tiers.store.put(A, entry("new"))
    tiers.redis.release()
    await reading

    assert tiers.store.get_now(A) == entry("new")


async def test_the_shared_tier_can_be_asked_whatever_memory_holds(tiers: Tiers) -> None:
    tiers.memory.put_now(A, entry("stale", stored_at=1))
    tiers.redis.held[A] = entry("fresh", stored_at=2)

    assert await tiers.store.get_shared(A) == Found(entry("fresh", stored_at=2), "redis")
    assert tiers.store.get_now(A) == entry("fresh", stored_at=2)
    assert await tiers.store.get_shared(B) is None


async def test_an_earlier_entry_in_redis_does_not_replace_a_later_one_in_memory(
    tiers: Tiers,
) -> None:
    tiers.memory.put_now(A, entry("later", stored_at=2))
    tiers.redis.held[A] = entry("earlier", stored_at=1)

    assert await tiers.store.get_shared(A) == Found(entry("earlier", stored_at=1), "redis")
    assert tiers.store.get_now(A) == entry("later", stored_at=2)


async def test_the_same_entry_from_redis_does_not_replace_the_one_with_more_encodings(
    tiers: Tiers,
) -> None:
    rich = entry("one").with_encoding("gzip", b"gz")
    tiers.memory.put_now(A, rich)
    tiers.redis.held[A] = entry("one")
    await tiers.store.get_shared(A)

    assert tiers.store.get_now(A) is rich


async def test_keeping_what_redis_holds_is_no_use_of_what_memory_holds(tiers: Tiers) -> None:
    tiers.memory.put_now(A, entry("one"))
    await tiers.store.get_shared(A)

    assert tiers.memory.uses(A) == 0


async def test_an_entry_that_the_holder_of_a_lease_writes_is_kept_in_memory_alone(
    tiers: Tiers,
) -> None:
    tiers.redis.hold()
    await tiers.store.put(B, entry("first"))
    await until(lambda: tiers.redis.log == ["put b first"])
    await tiers.store.put(A, entry("old"))
    tiers.store.put_now(A, entry("new"))
    tiers.redis.release()
    await tiers.written()

    assert tiers.store.get_now(A) == entry("new")
    assert tiers.redis.log == ["put b first"]


async def test_without_redis_memory_is_all(background: Background) -> None:
    telemetry = Telemetry()
    store = TieredStore(MemoryStore(2**20, telemetry), None, telemetry, background)
    await store.put(A, entry("one"))

    assert await store.get(A) == Found(entry("one"), "memory")
    assert await store.get_shared(A) is None
    assert await store.delete([A, B]) == 1
    assert len(background) == 0


async def test_closing_writes_what_still_waits() -> None:
    async with Background(drain_s=60) as background:
        tiers = Tiers(background)
        for key in (A, B, C):
            await tiers.store.put(key, entry("one"))

    assert list(tiers.redis.held) == [A, B, C]


async def test_closing_drops_and_counts_what_redis_does_not_take_in_time() -> None:
    async with Background(drain_s=0) as background:
        tiers = Tiers(background)
        tiers.redis.hold()
        for key in (A, B):
            await tiers.store.put(key, entry("one"))
        await until(lambda: tiers.redis.log == ["put a one"])

    assert tiers.errors("put_dropped") == 2
    assert "pending=0" in repr(tiers.store)


async def test_a_put_after_closing_is_kept_in_memory_and_counted() -> None:
    async with Background() as background:
        tiers = Tiers(background)
    await tiers.store.put(A, entry("one"))

    assert tiers.store.get_now(A) == entry("one")
    assert tiers.errors("put_dropped") == 1
    assert "pending=0" in repr(tiers.store)


def anything(query: Query | None) -> bool:
    return True


async def test_a_purge_takes_what_is_meant_from_both_tiers_and_counts_each_once(
    tiers: Tiers,
) -> None:
    there = replace(entry("there"), query=replace(QUERY, level="ad"))
    await tiers.store.put(A, entry("both"))
    await tiers.written()
    tiers.redis.held[B] = there
    assert await tiers.store.purge(lambda query: query == QUERY) == Purged(1, is_complete=True)
    assert await tiers.store.get(A) is None
    assert await tiers.store.get(B) == Found(there, "redis")
    tiers.redis.held[C] = entry("other")
    assert await tiers.store.purge(anything) == Purged(2, is_complete=True)
    assert await tiers.store.listed(10) == []


async def test_a_purge_ends_a_write_that_waits_and_follows_the_one_under_way(
    tiers: Tiers,
) -> None:
    tiers.redis.hold()
    await tiers.store.put(A, entry("under way"))
    await until(lambda: tiers.redis.log == ["put a under way"])
    await tiers.store.put(B, entry("waits"))
    purging = asyncio.create_task(tiers.store.purge(anything))
    await asyncio.sleep(0)
    tiers.redis.release()
    assert (await purging).count == 2
    await tiers.written()
    assert tiers.redis.held == {}
    assert tiers.redis.log == ["put a under way", "delete a b", "refuse fills", "heads"]


async def test_what_is_put_during_a_purge_stays_in_memory(tiers: Tiers) -> None:
    tiers.redis.hold()
    purging = asyncio.create_task(tiers.store.purge(anything))
    await until(lambda: tiers.redis.log == ["refuse fills"])
    new = entry("new")
    await tiers.store.put(A, new)
    tiers.redis.release()
    await purging
    assert tiers.store.get_now(A) is new


async def test_a_read_of_redis_that_a_purge_overtakes_does_not_come_back_into_memory(
    tiers: Tiers,
) -> None:
    tiers.redis.held[A] = entry("old")
    tiers.redis.hold()
    reading = asyncio.create_task(tiers.store.get(A))
    await until(lambda: tiers.redis.log == ["get a"])
    purging = asyncio.create_task(tiers.store.purge(anything))
    await until(lambda: len(tiers.redis.log) == 2)
    tiers.redis.release()
    await asyncio.gather(reading, purging)
    assert tiers.store.get_now(A) is None


async def test_a_purge_says_when_redis_could_not_be_asked(tiers: Tiers) -> None:
    await tiers.store.put(A, entry("one"))
    await tiers.written()
    tiers.redis.is_down = True
    assert await tiers.store.purge(anything) == Purged(1, is_complete=False)
    assert tiers.store.get_now(A) is None
    assert tiers.errors("purge") == 1


async def test_looking_is_no_use_and_moves_nothing(tiers: Tiers) -> None:
    one, two = entry("one"), entry("two")
    tiers.memory.put_now(A, one)
    tiers.redis.held[B] = two
    assert await tiers.store.look(A) == Found(one, "memory")
    assert await tiers.store.look(B) == Found(two, "redis")
    assert tiers.memory.uses(A) == 0
    assert B not in tiers.memory
    tiers.redis.is_down = True
    assert await tiers.store.look(B) is None


async def test_the_list_has_memory_first_and_what_only_redis_has_after_it(tiers: Tiers) -> None:
    for key in (A, B):
        tiers.memory.put_now(key, entry(key))
    tiers.redis.held |= {B: entry("b"), C: entry("c")}
    tiers.store.get_now(A)
    listed = await tiers.store.listed(10)
    assert [(one.key, one.tier, one.uses) for one in listed] == [
        (A, "memory", 1),
        (B, "memory", 0),
        (C, "redis", 0),
    ]
    assert [one.key for one in await tiers.store.listed(1)] == [A]
    tiers.redis.is_down = True
    assert [one.key for one in await tiers.store.listed(10)] == [A, B]


async def test_one_can_wait_until_redis_has_what_was_put(tiers: Tiers) -> None:
    await tiers.store.written()
    await tiers.store.put(A, entry("one"))
    await tiers.store.written()
    assert A in tiers.redis.held
