"""What every store promises, whatever it is made of."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.background import Background
from proxy.cache.entry import Entry
from proxy.cache.memory import MemoryStore
from proxy.cache.redis import RedisStore
from proxy.cache.store import Found, Store
from proxy.cache.tiered import TieredStore
from proxy.payload import Payload
from proxy.query import Key
from proxy.telemetry import Telemetry
from tests.clocks import HandClock
from tests.entries import an_entry
from tests.redis_server import RedisServer

A, B, C = Key("a"), Key("b"), Key("c")
PLENTY = 2**26


@pytest.fixture(
    params=["memory", "redis", "tiered", "tiered without redis", "tiered without memory"]
)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    kind: str = request.param
    telemetry = Telemetry()
    async with AsyncExitStack() as stack:
        memory = MemoryStore(0 if kind == "tiered without memory" else PLENTY, telemetry)
        if kind == "memory":
            yield memory
            return
        redis: RedisStore | None = None
        if kind != "tiered without redis":
            server = await stack.enter_async_context(RedisServer())
            redis = await stack.enter_async_context(
                RedisStore(
                    server.url,
                    telemetry=telemetry,
                    clock=HandClock(),
                    entry_ttl_s=600,
                    timeout_s=20,
                    connect_timeout_s=20,
                )
            )
        if kind == "redis":
            assert redis is not None
            yield redis
            return
        background = await stack.enter_async_context(Background())
        yield TieredStore(memory, redis, telemetry, background, pending_limit=10_000)


def same(found: Found | None, entry: Entry) -> bool:
    """Whether `entry` was found; a store may offer other encodings of it than it was given."""
    if found is None:
        return False
    plain = Payload(found.entry.payload.body, found.entry.payload.etag)
    wanted = Payload(entry.payload.body, entry.payload.etag)
    return replace(found.entry, payload=plain) == replace(entry, payload=wanted)


async def test_a_key_never_put_is_not_found(store: Store) -> None:
    assert await store.get(A) is None


async def test_what_was_put_is_found_with_the_word_for_its_tier(store: Store) -> None:
    await store.put(A, an_entry())
    found = await store.get(A)

    assert found is not None
    assert same(found, an_entry())
    assert found.tier in {"memory", "redis"}


async def test_a_found_entry_stays(store: Store) -> None:
    await store.put(A, an_entry())
    await store.get(A)

    assert same(await store.get(A), an_entry())


async def test_keys_do_not_mix(store: Store) -> None:
    await store.put(A, an_entry("of a"))
    await store.put(B, an_entry("of b"))

    assert same(await store.get(A), an_entry("of a"))
    assert same(await store.get(B), an_entry("of b"))
    assert await store.get(C) is None


async def test_the_newest_put_wins(store: Store) -> None:
    for number in range(20):
        await store.put(A, an_entry(f"number {number}"))
        assert same(await store.get(A), an_entry(f"number {number}"))


async def test_an_empty_body_is_an_entry_too(store: Store) -> None:
    empty = replace(an_entry(), payload=Payload.of(b""), warnings=())
    await store.put(A, empty)

    assert same(await store.get(A), empty)


async def test_a_large_entry_comes_back_whole(store: Store) -> None:
    large = an_entry(size=3_000_000)
    await store.put(A, large)

    assert same(await store.get(A), large)


async def test_a_deleted_key_is_not_found(store: Store) -> None:
    await store.put(A, an_entry())
    await store.put(B, an_entry())

    assert await store.delete([A]) == 1
    assert await store.get(A) is None
    assert same(await store.get(B), an_entry())


async def test_a_delete_counts_only_what_was_held_and_each_key_once(store: Store) -> None:
    await store.put(A, an_entry())
    await store.put(B, an_entry())

    assert await store.delete(key for key in (A, B, C, A)) == 2
    assert await store.delete([A, B, C]) == 0
    assert await store.delete([]) == 0


async def test_what_is_put_after_a_delete_is_found(store: Store) -> None:
    await store.put(A, an_entry("before"))
    await store.delete([A])
    await store.put(A, an_entry("after"))

    assert same(await store.get(A), an_entry("after"))


async def test_many_callers_at_once_each_get_their_own(store: Store) -> None:
    keys = [Key(f"key {number}") for number in range(100)]
    await asyncio.gather(*(store.put(key, an_entry(key)) for key in keys))
    found = await asyncio.gather(*(store.get(key) for key in keys))

    assert all(same(one, an_entry(key)) for one, key in zip(found, keys, strict=True))


steps = st.lists(
    st.tuples(st.sampled_from(["put", "get", "delete"]), st.sampled_from([A, B])), max_size=30
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps)
async def test_any_order_of_calls_leaves_what_a_dict_would_hold(
    store: Store, steps: list[tuple[str, Key]]
) -> None:
    await store.delete([A, B])
    model: dict[Key, Entry] = {}
    for number, (call, key) in enumerate(steps):
        match call:
            case "put":
                model[key] = an_entry(f"number {number}")
                await store.put(key, model[key])
            case "delete":
                held = model.pop(key, None)
                assert await store.delete([key]) == (held is not None)
        found = await store.get(key)
        assert same(found, model[key]) if key in model else found is None
