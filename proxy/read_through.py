"""THE path: watermark, store, judge, flight, backend, fallback. The order of steps lives here."""

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from typing import Protocol

import structlog

from proxy.answer import Answer
from proxy.backends.backend import Backend, Fetched
from proxy.cache.entry import Entry
from proxy.cache.store import Found
from proxy.clock import Clock
from proxy.document import with_warning
from proxy.errors import BackendError, BackendUnavailable
from proxy.freshness import Verdict, Watermark, judge
from proxy.keys import key_for
from proxy.live_loads import LiveLoads
from proxy.looks import Reading
from proxy.payload import Payload
from proxy.query import Key, Query
from proxy.reading import agrees
from proxy.shared_flight import Seat, SharedFlight
from proxy.single_flight import SingleFlight
from proxy.telemetry import Telemetry
from proxy.watermarks import Watermarks

log = structlog.get_logger(__name__)

_MOST_VOUCHED = 8192


class FingerprintedBackend(Backend, Protocol):
    def fingerprint(self) -> str:
        """Stands for everything besides the query that shapes an answer."""
        ...


class LayeredStore(Protocol):
    """The store as the path uses it: a tier to ask without waiting, a tier others share."""

    def get_now(self, key: Key) -> Entry | None: ...

    async def get(self, key: Key) -> Found | None: ...

    async def get_shared(self, key: Key) -> Found | None: ...

    async def put(self, key: Key, entry: Entry) -> None: ...


class LegacyAnswers(Protocol):
    async def answer(self, query: Query) -> Answer:
        """The legacy API's answer to `query`. Raises BackendError when it has none."""
        ...


class ReadThrough:
    """Answers a Query from memory, Redis, the tables or the legacy API, in that order.

    The watermark is read before the data, so that an entry may be labelled
    older than it is, never newer. Raises BackendError only when no source and
    no entry from before can answer.
    """

    def __init__(
        self,
        watermarks: Watermarks,
        store: LayeredStore,
        flights: SingleFlight[tuple[Key, str], Answer],
        backend: FingerprintedBackend,
        legacy: LegacyAnswers | None,
        telemetry: Telemetry,
        clock: Clock,
        *,
        shared: SharedFlight | None = None,
    ) -> None:
        self._watermarks = watermarks
        self._store = store
        self._flights = flights
        self._backend = backend
        self._legacy = legacy
        self._telemetry = telemetry
        self._clock = clock
        self._shared = shared
        self._vouched: dict[Query, tuple[int, Key, str]] = {}
        self._purges = 0
        self.live = LiveLoads()

    def entry_now(self, query: Query, *, has_looked: bool = False) -> tuple[Key, Entry] | None:
        """The entry if memory holds it and one look vouches for it. The hit path: no await.

        `has_looked`: see Watermarks.is_current.
        """
        vouched = self._vouched.get(query)
        if vouched is None:
            return None
        generation, key, token = vouched
        try:
            if not self._watermarks.is_current(generation, has_looked=has_looked):
                return None
        except BackendError:
            return None
        entry = self._store.get_now(key)
        # A slow fill from before the last change may have put its entry here since.
        if entry is None or entry.watermark.token != token:
            return None
        return key, entry

    def held_now(self, query: Query) -> Answer | None:
        """`entry_now` as an answer."""
        held = self.entry_now(query)
        return None if held is None else Answer.held(*held)

    def keep_no_load_under_way(self) -> None:
        """What is being loaded now is answered, but not kept: a purge must not be undone."""
        self._purges += 1

    async def answer(self, query: Query, *, is_live: bool = True) -> Answer:
        """`is_live`: a caller waits for it, and work that can wait gives way."""
        reading = await self._watermarks.current(query)
        key = key_for(query, self._backend.fingerprint())
        known = reading.watermark if reading is not None else self._watermarks.believed(query)
        found = await self._fresh_or_last(key, known)
        if found is not None:
            verdict = judge(found.entry.watermark, reading.watermark if reading else None)
            if reading is not None and verdict is Verdict.FRESH:
                if reading.is_rebuilding:
                    return Answer.marked(key, found.entry, "rebuilding", "rebuilding")
                self._vouch(query, reading, key)
                return Answer.held(key, found.entry, "" if found.tier == "memory" else found.tier)
            if verdict is Verdict.UNVERIFIED and _is_fresh(found.entry, known):
                return Answer.marked(key, found.entry, "unverified", "unverified")
        with self.live.waiting() if is_live else nullcontext():
            return await self._load(query, key, reading, found)

    async def _fresh_or_last(self, key: Key, known: Watermark | None) -> Found | None:
        """A fresh entry of either tier, else the later one."""
        found = await self._later(key, known)
        if found is None or not _is_fresh(found.entry, known):
            # Asking Redis takes its time: a load of this question may have landed meanwhile.
            held = self._store.get_now(key)
            if held is not None and _is_fresh(held, known):
                return Found(held, "memory")
        return found

    async def _later(self, key: Key, known: Watermark | None) -> Found | None:
        found = await self._store.get(key)
        if found is None or found.tier != "memory" or _is_fresh(found.entry, known):
            return found
        # Another process may have refreshed it meanwhile.
        shared = await self._store.get_shared(key)
        if shared is None or _is_fresh(shared.entry, known):
            return shared or found
        return max(found, shared, key=lambda either: either.entry.stored_at)

    async def _load(
        self, query: Query, key: Key, reading: Reading | None, last: Found | None
    ) -> Answer:
        # The label is part of the flight's name: who has seen a commit must
        # not be given what a load from before it brings.
        purges = self._purges
        label = f"{reading.watermark.token if reading is not None else ''} {purges}"
        try:
            flown = await self._flights.run(
                (key, label), lambda: self._fetch(query, key, reading, last is not None, purges)
            )
        except BackendError as error:
            if last is None:
                raise
            self._telemetry.fallbacks.labels(error.reason, "stale").inc()
            log.warning("served_stale", reason=error.reason, error=str(error))
            stale = Answer.marked(key, last.entry, "stale", error.reason)
            more = ("rebuilding",) if error.reason == "rebuilding" else ()
            return replace(stale, warnings=(*stale.warnings, *more))
        answer = flown.value
        if answer.is_stored and reading is not None:
            self._vouch(query, reading, key)
        if last is not None and answer.result == "miss":
            answer = replace(answer, result="stale")
        return answer if flown.led else replace(answer, is_collapsed=True)

    async def _fetch(
        self, query: Query, key: Key, reading: Reading | None, has_last: bool, purges: int
    ) -> Answer:
        if reading is not None and reading.is_rebuilding:
            return await self._while_rebuilding(query, key, has_last)
        try:
            async with self._seat(key, reading) as seat:
                answer, gap = await self._from_tables(query, key, reading, purges, seat)
        except BackendError as error:
            return await self._fall_back(query, error, has_last)
        # The seat is left: what comes from here on is not kept, and nobody waits for it.
        if not gap:
            return answer
        if gap == "rebuilding":
            return await self._while_rebuilding(query, key, has_last)
        lack = BackendError("the tables hold less than was asked", reason=gap)
        try:
            return await self._fall_back(query, lack, has_last=gap != "no_rows")
        except BackendError:
            if gap == "no_rows":
                raise
            # Our rows lack the breakdown only: that is more than an error, but
            # not kept, so that the legacy is asked again.
            return replace(answer, detail=gap)

    def _seat(self, key: Key, reading: Reading | None) -> AbstractAsyncContextManager[Seat]:
        if self._shared is None or reading is None:
            return nullcontext(Seat(self._store.put))
        return self._shared.board(key, reading.watermark)

    async def _from_tables(
        self, query: Query, key: Key, reading: Reading | None, purges: int, seat: Seat
    ) -> tuple[Answer, str]:
        """The answer, kept, or one that is not kept and the word for what it lacks."""
        if seat.entry is not None:
            held = Answer.held(key, seat.entry, "redis")
            return replace(held, result="miss", is_collapsed=True), ""
        fetched = await self._backend.fetch(query)
        answer = _filled(key, fetched)
        if reading is not None and not agrees(query, fetched, reading):
            # Rows may have been deleted, which a look does not see at once.
            again = await self._watermarks.reconsider(query)
            if again is not None and again.is_rebuilding:
                return answer, "rebuilding"
        if fetched.shortfall is not None and self._legacy is not None:
            return answer, fetched.shortfall
        if purges != self._purges:
            return replace(answer, detail="purged"), ""
        if reading is None:
            return replace(answer, detail="unverified"), ""
        if not agrees(query, fetched, reading):
            # The data moved between the look and the read. The answer is as
            # true as the read; under this label it could come back as an old truth.
            return replace(answer, detail="unsettled"), ""
        entry = Entry(
            query=query,
            payload=fetched.payload,
            watermark=reading.watermark,
            stored_at=self._clock.now(),
            cost_ms=fetched.cost_ms,
            warnings=fetched.warnings,
        )
        await seat.put(key, entry)
        return replace(answer, is_stored=True, stored_at=entry.stored_at), ""

    async def _while_rebuilding(self, query: Query, key: Key, has_last: bool) -> Answer:
        """The legacy's answer, else what is left in the tables, saying so. Neither is kept."""
        gap = BackendError("the pipeline is rebuilding these dates", reason="rebuilding")
        try:
            answer = await self._fall_back(query, gap, has_last)
        except BackendError as error:
            if has_last:
                raise gap from error
            fetched = await self._backend.fetch(query)
            payload = Payload.of(with_warning(fetched.payload.body, "rebuilding"))
            answer = replace(_filled(key, fetched), payload=payload, detail="rebuilding")
        return replace(answer, warnings=(*answer.warnings, "rebuilding"))

    async def _fall_back(self, query: Query, error: BackendError, has_last: bool) -> Answer:
        if self._legacy is None:
            raise error
        try:
            answer = await self._legacy.answer(query)
        except BackendError as legacy_error:
            self._telemetry.fallbacks.labels(error.reason, "none").inc()
            log.warning("fallback_failed", reason=error.reason, error=str(legacy_error))
            raise legacy_error from error
        if has_last and "no_rows" in answer.warnings:
            # It hides its own failures as empty answers: the last known numbers say more.
            raise BackendUnavailable("the legacy API has no rows either", reason=error.reason)
        self._telemetry.fallbacks.labels(error.reason, "legacy").inc()
        log.warning("fell_back", reason=error.reason, error=str(error))
        return replace(answer, result="miss", detail=error.reason)

    def _vouch(self, query: Query, reading: Reading, key: Key) -> None:
        if len(self._vouched) >= _MOST_VOUCHED:
            self._vouched.clear()
        self._vouched[query] = (reading.generation, key, reading.watermark.token)

    def __repr__(self) -> str:
        return f"<ReadThrough vouched={len(self._vouched)} flights={len(self._flights)}>"


def _filled(key: Key, fetched: Fetched) -> Answer:
    return Answer(
        payload=fetched.payload,
        source="optimized",
        result="miss",
        cost_ms=fetched.cost_ms,
        watermark=fetched.computed_at,
        warnings=fetched.warnings,
        key=key,
    )


def _is_fresh(entry: Entry, known: Watermark | None) -> bool:
    return judge(entry.watermark, known) is Verdict.FRESH
