"""Memory before Redis: what read_through asks. A tier that fails is a tier without the entry."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import aclosing

from proxy.background import Background
from proxy.cache.entry import Entry
from proxy.cache.memory import MemoryStore, entry_bytes
from proxy.cache.store import Found, Listed, Purged, SharedStore
from proxy.errors import BackendError, StoreError
from proxy.query import Key, Query
from proxy.single_flight import SingleFlight
from proxy.telemetry import Telemetry
from proxy.tracing.request import Origin, on_behalf_of, origin

_DELETED_AT_ONCE = 500


class TieredStore:
    """Looks in memory, then in Redis; writes memory at once and Redis behind the caller's back.

    Never raises StoreError: failures of Redis are counted and mean nothing
    found, nothing written. At most `pending_limit` keys wait to be written;
    more are dropped and counted as `put_dropped`. Per key the newest put wins
    and the order of puts and deletes is kept, also in Redis.
    """

    def __init__(
        self,
        memory: MemoryStore,
        redis: SharedStore | None,
        telemetry: Telemetry,
        background: Background,
        *,
        pending_limit: int = 64,
    ) -> None:
        self._memory = memory
        self._redis = redis
        self._telemetry = telemetry
        self._background = background
        self._pending_limit = pending_limit
        self._pending: dict[Key, Entry] = {}
        self._origins: dict[Key, Origin] = {}
        self._writer: asyncio.Task[None] | None = None
        # Held for one write to Redis: a delete waits for the put before it.
        self._turn = asyncio.Lock()
        self._deleting = 0
        self._deletes = 0
        # Many callers for one key are one call to Redis.
        self._reads = SingleFlight[tuple[Key, int], Found | None](background)

    def get_now(self, key: Key) -> Entry | None:
        """The entry if memory holds it. The hit path: no await."""
        return self._memory.get_now(key)

    async def get(self, key: Key) -> Found | None:
        held = self._memory.get_now(key) or self._pending.get(key)
        if held is not None:
            return Found(held, "memory")
        return await self.get_shared(key)

    async def get_shared(self, key: Key) -> Found | None:
        """What Redis holds, whatever memory has: for a caller that judged memory's entry stale.

        What is found is kept in memory too, unless that has the same or a later one.
        """
        redis = self._redis
        if redis is None:
            return None
        # The deletes are part of the name: who comes after one must not be
        # given what was read before it.
        read = (key, self._deletes)
        try:
            return (await self._reads.run(read, lambda: self._read(redis, key))).value
        except BackendError:
            # The proxy is leaving.
            return None

    async def _read(self, redis: SharedStore, key: Key) -> Found | None:
        before, deletes = self._latest(key), self._deletes
        try:
            found = await redis.get(key)
        except StoreError:
            self._count("get")
            return None
        # A put or delete that ran beside the read has made its answer old: it
        # may still be given, but must not take their place in memory.
        is_disturbed = self._deleting or deletes != self._deletes or self._latest(key) is not before
        if found is not None and not is_disturbed and _is_news(found.entry, before):
            self._memory.put_now(key, found.entry)
        return found

    async def put(self, key: Key, entry: Entry) -> None:
        self._memory.put_now(key, entry)
        if self._redis is None:
            return
        if key not in self._pending and len(self._pending) >= self._pending_limit:
            self._count("put_dropped")
            return
        self._pending[key] = entry
        self._origins[key] = origin()
        if self._writer is None or self._writer.done():
            self._start_writer(self._redis)

    def put_now(self, key: Key, entry: Entry) -> None:
        """Keep `entry` in memory alone: Redis is for the holder of a lease to write."""
        # What still waits is older: written later it would undo the holder's write.
        self._unqueue(key)
        self._memory.put_now(key, entry)

    def keep_encoding(self, key: Key, etag: str, coding: str, data: bytes) -> None:
        """Keep one more encoding of the body with `etag`, if memory still holds that body."""
        held = self._memory.held(key)
        if held is not None and held.payload.etag == etag:
            self._memory.put_now(key, held.with_encoding(coding, data))

    async def delete(self, keys: Iterable[Key]) -> int:
        """Forget `keys` in both tiers; where Redis fails, the count is of memory alone."""
        wanted = list(dict.fromkeys(keys))
        # Both at once and before any await: a put from now on is after this.
        here = {key for key in wanted if key in self._memory or key in self._pending}
        for key in here:
            self._unqueue(key)
        self._memory.delete_now(here)
        if self._redis is None or not wanted:
            return len(here)
        self._deleting += 1
        try:
            async with self._turn:
                there = [key for key in wanted if key not in here]
                await self._redis.delete(here)
                return len(here) + await self._redis.delete(there)
        except StoreError:
            self._count("delete")
            return len(here)
        finally:
            self._deleting -= 1
            self._deletes += 1

    async def purge(self, is_meant: Callable[[Query | None], bool]) -> Purged:
        """Forget every entry whose question `is_meant`, and rubbish, in both tiers.

        `is_meant` gets None for the answer of a legacy route. What is put from
        now on stays in memory.
        """
        known = [*self._memory.entries(), *self._pending.items()]
        here = {key for key, entry in known if is_meant(entry.query)}
        for key in here:
            self._unqueue(key)
        self._memory.delete_now(here)
        if self._redis is None:
            return Purged(len(here), is_complete=True)
        gone = set(here)
        self._deleting += 1
        try:
            async with self._turn:
                # Behind the write that may be under way; later ones are of later entries.
                first = list(here)
                for number in range(0, len(first), _DELETED_AT_ONCE):
                    await self._redis.delete(first[number : number + _DELETED_AT_ONCE])
            await self._redis.refuse_fills()
            async for heads in self._redis.heads():
                meant = {key for key, head in heads.items() if not head or is_meant(head.query)}
                await self._redis.delete(meant)
                gone |= meant
        except StoreError:
            self._count("purge")
            return Purged(len(gone), is_complete=False)
        finally:
            self._deleting -= 1
            self._deletes += 1
        return Purged(len(gone), is_complete=True)

    async def look(self, key: Key) -> Found | None:
        """What is held, without that being a use and without moving it between the tiers."""
        held = self._latest(key)
        if held is not None or self._redis is None:
            return None if held is None else Found(held, "memory")
        try:
            return await self._redis.get(key)
        except StoreError:
            self._count("get")
            return None

    async def listed(self, limit: int) -> list[Listed]:
        """Up to `limit` entries: memory's, used last first, then those only Redis has."""
        here = [
            Listed(
                key, entry.query, entry.watermark, entry_bytes(entry), entry.stored_at,
                self._memory.uses(key), "memory", entry.question,
            )
            for key, entry in reversed(list(self._memory.entries())[-limit:])
        ]  # fmt: skip
        if self._redis is None or len(here) >= limit:
            return here
        there: dict[Key, Listed] = {}
        try:
            async with aclosing(self._redis.heads()) as batches:
                async for heads in batches:
                    for key, head in heads.items():
                        if head is not None and key not in self._memory:
                            there[key] = Listed(
                                key, head.query, head.watermark, head.body_bytes, head.stored_at,
                                0, "redis", head.question,
                            )  # fmt: skip
                    if len(here) + len(there) >= limit:
                        break
        except StoreError:
            self._count("list")
        return [*here, *there.values()][:limit]

    async def written(self) -> None:
        """Wait until Redis has, or has refused, what was put so far."""
        if self._writer is not None and not self._writer.done():
            await asyncio.wait([self._writer])

    def _latest(self, key: Key) -> Entry | None:
        return self._pending.get(key) or self._memory.held(key)

    def _start_writer(self, redis: SharedStore) -> None:
        try:
            self._writer = self._background.spawn(
                self._write(redis), name="redis-writes", is_shared=True
            )
        except RuntimeError:
            # The proxy is leaving.
            self._drop_pending()

    async def _write(self, redis: SharedStore) -> None:
        try:
            while self._pending:
                async with self._turn:
                    await self._write_first(redis)
        finally:
            self._drop_pending()

    async def _write_first(self, redis: SharedStore) -> None:
        # A delete may have emptied it while this waited for its turn.
        first = next(iter(self._pending.items()), None)
        if first is None:
            return
        key, entry = first
        try:
            with on_behalf_of(self._origins[key]):
                await redis.put(key, entry)
        except StoreError:
            self._count("put")
        # A newer one that came meanwhile stays, and is written next.
        if self._pending.get(key) is entry:
            self._unqueue(key)

    def _unqueue(self, key: Key) -> None:
        self._pending.pop(key, None)
        self._origins.pop(key, None)

    def _drop_pending(self) -> None:
        for _ in self._pending:
            self._count("put_dropped")
        self._pending.clear()
        self._origins.clear()

    def _count(self, operation: str) -> None:
        self._telemetry.store_errors.labels("redis", operation).inc()

    def __repr__(self) -> str:
        return f"<TieredStore {self._memory!r} {self._redis!r} pending={len(self._pending)}>"


def _is_news(entry: Entry, held: Entry | None) -> bool:
    if held is None:
        return True
    return entry.watermark != held.watermark and entry.stored_at >= held.stored_at
