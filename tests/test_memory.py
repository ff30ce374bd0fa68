"""What the memory tier promises beyond the protocol: its bound, its order, its gauges."""

import tracemalloc
from collections import OrderedDict
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.cache.entry import Entry
from proxy.cache.memory import ENTRY_OVERHEAD_BYTES, MemoryStore, entry_bytes
from proxy.freshness import Watermark
from proxy.payload import Payload
from proxy.query import Key
from proxy.telemetry import Telemetry
from tests.entries import QUERY, an_entry

A, B, C, D = Key("a"), Key("b"), Key("c"), Key("d")


def gauge(telemetry: Telemetry, name: str) -> float:
    value = telemetry.registry.get_sample_value(name)
    assert value is not None
    return value


def store_for(entry: Entry, count: int) -> tuple[MemoryStore, Telemetry]:
    """A store with room for exactly `count` entries like `entry`."""
    telemetry = Telemetry()
    return MemoryStore(entry_bytes(entry) * count, telemetry), telemetry


def keys_of(store: MemoryStore) -> list[Key]:
    return [key for key, _ in store.entries()]


def test_the_entry_unused_for_longest_leaves_first() -> None:
    entry = an_entry()
    store, telemetry = store_for(entry, 3)
    for key in (A, B, C):
        store.put_now(key, entry)

    store.get_now(A)
    store.put_now(D, entry)

    assert keys_of(store) == [C, A, D]
    assert gauge(telemetry, "proxy_store_evictions_total") == 1


async def test_a_get_through_the_protocol_is_a_use_too() -> None:
    entry = an_entry()
    store, _ = store_for(entry, 2)
    store.put_now(A, entry)
    store.put_now(B, entry)

    await store.get(A)
    store.put_now(C, entry)

    assert keys_of(store) == [A, C]


def test_looking_at_all_entries_is_no_use() -> None:
    entry = an_entry()
    store, _ = store_for(entry, 2)
    store.put_now(A, entry)
    store.put_now(B, entry)

    assert list(store.entries()) == [(A, entry), (B, entry)]
    assert A in store
    store.put_now(C, entry)

    assert keys_of(store) == [B, C]


def test_entries_may_change_while_they_are_looked_at() -> None:
    entry = an_entry()
    store, _ = store_for(entry, 2)
    store.put_now(A, entry)
    store.put_now(B, entry)

    seen = []
    for key, _ in store.entries():
        store.delete_now([A, B])
        seen.append(key)

    assert seen == [A, B]


def test_one_large_entry_pushes_out_as_many_as_it_needs() -> None:
    small = an_entry()
    store, telemetry = store_for(small, 10)
    for number in range(10):
        store.put_now(Key(str(number)), small)

    store.put_now(A, an_entry(size=entry_bytes(small) * 3))

    assert keys_of(store) == [*map(Key, "456789"), A]
    assert gauge(telemetry, "proxy_store_evictions_total") == 4


def test_an_entry_over_the_whole_limit_is_not_kept_and_pushes_nothing_out() -> None:
    small = an_entry()
    store, telemetry = store_for(small, 2)
    store.put_now(A, small)
    store.put_now(B, small)

    store.put_now(C, an_entry(size=entry_bytes(small) * 3))

    assert keys_of(store) == [A, B]
    assert gauge(telemetry, "proxy_store_evictions_total") == 0


def test_an_entry_over_the_limit_ends_the_one_it_was_to_replace() -> None:
    small = an_entry()
    store, _ = store_for(small, 2)
    store.put_now(A, small)

    store.put_now(A, an_entry(size=entry_bytes(small) * 3))

    assert store.get_now(A) is None
    assert (len(store), store.held_bytes) == (0, 0)


def test_every_encoding_counts_towards_the_limit() -> None:
    plain = an_entry()
    store, _ = store_for(plain, 1)
    store.put_now(A, plain)

    packed = plain.with_encoding("gzip", b"x" * 10)
    store.put_now(A, packed)

    assert entry_bytes(packed) == entry_bytes(plain) + 10
    assert store.get_now(A) is None


def test_uses_are_counted_per_key_and_outlive_a_replacement() -> None:
    entry = an_entry()
    store, _ = store_for(entry, 5)
    store.put_now(A, entry)
    store.get_now(A)
    store.put_now(A, an_entry("news"))
    store.get_now(A)

    assert (store.uses(A), store.uses(B)) == (2, 0)


def test_the_gauges_follow() -> None:
    entry = an_entry()
    store, telemetry = store_for(entry, 2)
    for key in (A, B, C):
        store.put_now(key, entry)
    assert gauge(telemetry, "proxy_entries") == 2
    assert gauge(telemetry, "proxy_entry_bytes") == entry_bytes(entry) * 2

    store.delete_now([B, C])
    assert gauge(telemetry, "proxy_entries") == 0
    assert gauge(telemetry, "proxy_entry_bytes") == 0


def test_its_repr_tells_how_full_it_is() -> None:
    store = MemoryStore(5000, Telemetry())
    entry = an_entry()
    store.put_now(A, entry)

    assert repr(store) == f"<MemoryStore entries=1 bytes={entry_bytes(entry)}/5000>"


def test_the_bytes_it_counts_are_the_bytes_it_takes() -> None:
    def fresh(number: int) -> Entry:
        """An entry that shares nothing with another one."""
        body = f"{number:0500d}".encode()
        payload = Payload.of(body).with_encoding("gzip", body[1:]).with_encoding("zstd", body[2:])
        query = replace(QUERY)
        mark = Watermark(f"{number:032x}", f"2024-01-01 00:00:00.{number:06d}")
        return Entry(query, payload, mark, number + 0.5, number + 0.25, (f"word {number}",))

    store = MemoryStore(2**30, Telemetry())
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1000):
            store.put_now(Key(f"{number:032x}"), fresh(number))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert taken <= store.held_bytes <= taken + 1000 * ENTRY_OVERHEAD_BYTES / 2


class MemoryModel(RuleBasedStateMachine):
    """A plain ordered dict that adds everything up anew after each step."""

    LIMIT = 8 * ENTRY_OVERHEAD_BYTES

    def __init__(self) -> None:
        super().__init__()
        self.telemetry = Telemetry()
        self.store = MemoryStore(self.LIMIT, self.telemetry)
        self.model: OrderedDict[Key, Entry] = OrderedDict()
        self.evicted = 0

    keys = st.sampled_from([Key(letter) for letter in "abcdefghij"])

    @rule(key=keys, size=st.integers(0, 10 * ENTRY_OVERHEAD_BYTES))
    def put(self, key: Key, size: int) -> None:
        entry = an_entry(size=size)
        self.store.put_now(key, entry)
        self.model.pop(key, None)
        if entry_bytes(entry) > self.LIMIT:
            return
        self.model[key] = entry
        while sum(map(entry_bytes, self.model.values())) > self.LIMIT:
            self.model.popitem(last=False)
            self.evicted += 1

    @rule(key=keys)
    def get(self, key: Key) -> None:
        assert self.store.get_now(key) is self.model.get(key)
        if key in self.model:
            self.model.move_to_end(key)

    @rule(keys=st.lists(keys))
    def delete(self, keys: list[Key]) -> None:
        held = {key for key in keys if self.model.pop(key, None) is not None}
        assert self.store.delete_now(keys) == len(held)

    @invariant()
    def holds_the_same_in_the_same_order(self) -> None:
        assert list(self.store.entries()) == list(self.model.items())

    @invariant()
    def counts_the_same(self) -> None:
        held_bytes = sum(map(entry_bytes, self.model.values()))
        assert self.store.held_bytes == held_bytes <= self.LIMIT
        assert gauge(self.telemetry, "proxy_entry_bytes") == held_bytes
        assert gauge(self.telemetry, "proxy_entries") == len(self.store) == len(self.model)
        assert gauge(self.telemetry, "proxy_store_evictions_total") == self.evicted


TestMemoryModel = MemoryModel.TestCase
TestMemoryModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
