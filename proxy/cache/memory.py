"""The tier in this process: entries as they are, bounded by the bytes they hold."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from proxy.cache.entry import Entry
from proxy.cache.store import Found
from proxy.query import Key
from proxy.telemetry import Telemetry

ENTRY_OVERHEAD_BYTES = 1_400
"""What an entry costs beside the bytes of its payload: the key, the objects
around the bytes, the place in the table. Measured with tracemalloc, see the test."""


@dataclass(slots=True)
class _Held:
    entry: Entry
    size: int
    uses: int = 0


class MemoryStore:
    """Holds at most `limit_bytes`; the entry unused for longest leaves first.

    Never waits and never fails: the `_now` methods are the store, the others
    are the same for whoever speaks the protocol. An entry that alone is over
    the limit is not kept, and pushes nothing out. For one event loop only.
    """

    def __init__(self, limit_bytes: int, telemetry: Telemetry) -> None:
        self._limit_bytes = limit_bytes
        self._telemetry = telemetry
        self._held: OrderedDict[Key, _Held] = OrderedDict()
        self._bytes = 0

    def get_now(self, key: Key) -> Entry | None:
        """The entry, which now is the one used last."""
        held = self._held.get(key)
        if held is None:
            return None
        held.uses += 1
        self._held.move_to_end(key)
        return held.entry

    def held(self, key: Key) -> Entry | None:
        """The entry, without that being a use."""
        held = self._held.get(key)
        return None if held is None else held.entry

    def put_now(self, key: Key, entry: Entry) -> None:
        before = self._held.pop(key, None)
        if before is not None:
            self._bytes -= before.size
        size = entry_bytes(entry)
        # One that is too large still ends the one it was to replace.
        if size <= self._limit_bytes:
            self._held[key] = _Held(entry, size, before.uses if before is not None else 0)
            self._bytes += size
            self._make_room()
        self._tell()

    def delete_now(self, keys: Iterable[Key]) -> int:
        count = 0
        for key in keys:
            held = self._held.pop(key, None)
            if held is not None:
                self._bytes -= held.size
                count += 1
        self._tell()
        return count

    async def get(self, key: Key) -> Found | None:
        entry = self.get_now(key)
        return None if entry is None else Found(entry, "memory")

    async def put(self, key: Key, entry: Entry) -> None:
        self.put_now(key, entry)

    async def delete(self, keys: Iterable[Key]) -> int:
        return self.delete_now(keys)

    def entries(self) -> Iterator[tuple[Key, Entry]]:
        """All that is held now, used longest ago first. Looking is no use."""
        return iter([(key, held.entry) for key, held in self._held.items()])

    def uses(self, key: Key) -> int:
        """How often `key` was got since it came, replacements included; 0 when not held."""
        held = self._held.get(key)
        return 0 if held is None else held.uses

    @property
    def limit_bytes(self) -> int:
        return self._limit_bytes

    @property
    def held_bytes(self) -> int:
        return self._bytes

    def __contains__(self, key: Key) -> bool:
        return key in self._held

    def __len__(self) -> int:
        return len(self._held)

    def __repr__(self) -> str:
        return f"<MemoryStore entries={len(self)} bytes={self._bytes}/{self._limit_bytes}>"

    def _make_room(self) -> None:
        # Ends before the entry just put: alone it fits.
        evicted = 0
        while self._bytes > self._limit_bytes:
            _, held = self._held.popitem(last=False)
            self._bytes -= held.size
            evicted += 1
        if evicted:
            self._telemetry.store_evictions.inc(evicted)

    def _tell(self) -> None:
        self._telemetry.entries.set(len(self._held))
        self._telemetry.entry_bytes.set(self._bytes)


def entry_bytes(entry: Entry) -> int:
    """Bytes that holding `entry` costs."""
    texts = len(entry.watermark.token) + sum(map(len, entry.warnings)) + len(entry.question)
    texts += sum(len(name) + len(value) for name, value in entry.headers)
    return entry.payload.size + texts + ENTRY_OVERHEAD_BYTES
