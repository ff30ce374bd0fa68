"""The parts of the read path as they are when traced. Without tracing they stand alone."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence

from proxy.backends.backend import Fetched
from proxy.cache.codec import Head
from proxy.cache.entry import Entry
from proxy.cache.lease import Lease, Leases, Taken
from proxy.cache.store import Found, SharedStore
from proxy.looks import Changes, Counter, DayState, Looks, Snapshot, TableWord
from proxy.query import Key, Query
from proxy.read_through import FingerprintedBackend
from proxy.tracing.tracer import Attributes, Span, Tracer

_SYSTEM, _OPERATION = "db.system.name", "db.operation.name"
_SELECT: Attributes = {_SYSTEM: "sqlite", _OPERATION: "SELECT"}


class TracedBackend:
    """A statement's span lasts from the wait for a reader to the finished JSON."""

    def __init__(self, backend: FingerprintedBackend, tracer: Tracer) -> None:
        self._backend = backend
        self._tracer = tracer

    async def fetch(self, query: Query) -> Fetched:
        asked: Attributes = {
            "proxy.shape": query.shape,
            "proxy.level": query.level,
            "proxy.breakdown": query.breakdown,
            "proxy.days": (query.end - query.start).days + 1,
        }
        with self._tracer.span("SELECT", attributes={**_SELECT, **asked}) as span:
            fetched = await self._backend.fetch(query)
            span.set("db.response.returned_rows", sum(fetched.rows_read.values()))
            return fetched

    def fingerprint(self) -> str:
        return self._backend.fingerprint()


class TracedLooks:
    """The counter is not traced: it is read with every answer, in microseconds."""

    def __init__(self, looks: Looks, tracer: Tracer) -> None:
        self._looks = looks
        self._tracer = tracer

    def counter(self) -> Counter:
        return self._looks.counter()

    async def changes(self, since: Snapshot | None) -> Changes:
        with self._look("changes"):
            return await self._looks.changes(since)

    async def states(self, table: TableWord, dates: Sequence[str]) -> Mapping[str, DayState]:
        with self._look("states"):
            return await self._looks.states(table, dates)

    async def counts(self, table: TableWord) -> Mapping[str, int]:
        with self._look("counts"):
            return await self._looks.counts(table)

    def _look(self, kind: str) -> Span:
        return self._tracer.span("watermark look", attributes={**_SELECT, "proxy.look": kind})


class TracedStore:
    """What a question's answer costs in Redis. Housekeeping is not traced."""

    def __init__(self, store: SharedStore, tracer: Tracer) -> None:
        self._store = store
        self._tracer = tracer

    async def get(self, key: Key) -> Found | None:
        with _redis(self._tracer, "GET") as span:
            found = await self._store.get(key)
            span.set("proxy.found", found is not None)
            return found

    async def put(self, key: Key, entry: Entry) -> None:
        with _redis(self._tracer, "SET"):
            await self._store.put(key, entry)

    async def delete(self, keys: Iterable[Key]) -> int:
        return await self._store.delete(keys)

    def heads(self) -> AsyncGenerator[Mapping[Key, Head | None], None]:
        return self._store.heads()

    async def refuse_fills(self) -> None:
        await self._store.refuse_fills()


class TracedLeases:
    """Each step of a lease is one script in Redis."""

    def __init__(self, leases: Leases, tracer: Tracer) -> None:
        self._leases = leases
        self._tracer = tracer

    async def take(self, lease: Lease, *, again: bool = False) -> Taken:
        with self._step("take") as span:
            taken = await self._leases.take(lease, again=again)
            span.set("proxy.lease.taken", taken.name.lower())
            return taken

    async def renew(self, lease: Lease) -> bool:
        with self._step("renew"):
            return await self._leases.renew(lease)

    async def put(self, lease: Lease, entry: Entry) -> bool:
        with self._step("put"):
            return await self._leases.put(lease, entry)

    async def give_back(self, lease: Lease) -> None:
        with self._step("give back"):
            await self._leases.give_back(lease)

    def _step(self, step: str) -> Span:
        return _redis(self._tracer, "EVALSHA", {"proxy.lease": step})


_NOTHING: Attributes = {}


def _redis(tracer: Tracer, command: str, more: Attributes = _NOTHING) -> Span:
    return tracer.span(command, "client", {_SYSTEM: "redis", _OPERATION: command, **more})
