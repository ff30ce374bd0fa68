"""Walking over what Redis holds of ours: all of it, and nothing of others'."""

import pytest
from redis.asyncio import Redis

from proxy.cache.codec import Head, encode
from proxy.cache.redis import RedisStore
from proxy.errors import StoreError
from proxy.query import Key
from tests.entries import QUERY, an_entry
from tests.redis_server import RedisServer


async def found_in(store: RedisStore) -> dict[Key, Head | None]:
    return {key: head async for heads in store.heads() for key, head in heads.items()}


async def test_every_entry_is_met_with_its_head(store: RedisStore) -> None:
    keys = {Key(f"key {number}") for number in range(1500)}
    for key in keys:
        await store.put(key, an_entry(key, size=3000))
    found = await found_in(store)
    assert found.keys() == keys
    head = found[Key("key 7")]
    assert head is not None
    entry = an_entry("key 7", size=3000)
    assert (head.query, head.watermark, head.stored_at) == (QUERY, entry.watermark, entry.stored_at)
    assert head.body_bytes == len(entry.payload.body)


async def test_an_empty_server_holds_nothing(store: RedisStore) -> None:
    assert await found_in(store) == {}


async def test_what_is_no_entry_of_ours_is_rubbish_or_not_met_at_all(
    store: RedisStore, raw: Redis
) -> None:
    connection = store.connection
    await raw.set("somebody", "else's")
    await raw.set(connection.entry_name(Key("garbage")), "garbage")
    await raw.set(connection.entry_name(Key("cut")), encode(an_entry())[:30])
    await raw.lpush(connection.entry_name(Key("list")), "value")
    await raw.set(connection.fence_name(Key("fence")), "1")
    assert await found_in(store) == {Key("garbage"): None, Key("cut"): None, Key("list"): None}


async def test_fills_under_way_are_refused_by_ending_their_fences(
    store: RedisStore, raw: Redis
) -> None:
    connection = store.connection
    await store.put(Key("a"), an_entry())
    for number in range(1200):
        await raw.set(connection.fence_name(Key(str(number))), "1")
    await store.refuse_fills()
    assert await raw.keys("*fence*") == []
    assert await store.get(Key("a")) is not None


async def test_a_server_that_is_gone_is_an_outage(store: RedisStore, server: RedisServer) -> None:
    server.kill()
    with pytest.raises(StoreError):
        await found_in(store)
    with pytest.raises(StoreError):
        await store.refuse_fills()
