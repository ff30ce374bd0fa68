"""The path of cached legacy routes: watermark or age, store, flight, the legacy. No HTTP here."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from proxy.answer import Answer, Result, Source
from proxy.cache.entry import Entry
from proxy.cache.store import Found
from proxy.cached_reply import LegacyReply, kept_headers, why_not_kept, why_not_shared
from proxy.cached_route import Asked
from proxy.circuit import Circuit
from proxy.clock import Clock
from proxy.errors import BackendError, BackendTimeout
from proxy.freshness import Watermark
from proxy.looks import Reading
from proxy.payload import Payload
from proxy.query import Key
from proxy.read_through import LayeredStore
from proxy.single_flight import SingleFlight
from proxy.watermarks import Watermarks

log = structlog.get_logger(__name__)

_LARGE_BYTES = 64 * 1024
_FAILURES = 3
_HELD_UP_S = 1.0

Ask = Callable[[], Awaitable[LegacyReply]]


@dataclass(frozen=True, slots=True)
class Unkept:
    """The legacy's answer as it came, and why it is not kept.

    `reply` is None where another caller's answer must not be given to this
    one: it has to ask for itself.
    """

    reply: LegacyReply | None
    detail: str
    result: Result = "miss"
    is_collapsed: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """What a flight brings. `is_failure`: the legacy answered, but has nothing to say."""

    reply: LegacyReply
    entry: Entry | None = None
    detail: str = ""
    is_shareable: bool = False
    is_failure: bool = False


class CachedAnswers:
    """Answers a question to a cached route from memory, Redis or the legacy, in that order.

    The watermark is read before the legacy is asked, and what it answered is
    kept only when nothing has moved meanwhile. While the pipeline rebuilds,
    what was kept goes on and nothing is added. When the legacy fails, the last
    answer there was is given, marked stale; BackendError when there was none.

    After a few failures in a row that made callers wait, a question that has
    a last answer gets it at once, but for one at a time who tries the legacy.
    """

    def __init__(
        self,
        watermarks: Watermarks,
        store: LayeredStore,
        flights: SingleFlight[tuple[Key, str], Load],
        clock: Clock,
        *,
        timeout_s: float,
    ) -> None:
        self._watermarks = watermarks
        self._store = store
        self._flights = flights
        self._clock = clock
        self._circuit = Circuit(clock, failures=_FAILURES, try_s=timeout_s)
        self._purges = 0

    def keep_no_load_under_way(self) -> None:
        """What is being asked now is answered, but not kept: a purge must not be undone."""
        self._purges += 1

    async def answer(self, asked: Asked, ask: Ask) -> Answer | Unkept:
        """`ask` puts the question to the legacy as this caller would; it may raise BackendError."""
        reading = None
        if asked.route.ttl_s is None:
            reading = await self._watermarks.current(asked.span)
        found = await self._fresh_or_last(asked, reading)
        if found is None or not self._is_fresh(asked, reading, found.entry):
            return await self._load(asked, reading, found, ask)
        if asked.route.ttl_s is None and reading is None:
            return _marked(asked.key, found.entry, "unverified", source="stale")
        if reading is not None and reading.is_rebuilding:
            return _marked(asked.key, found.entry, "rebuilding", source="legacy")
        return _held(asked.key, found.entry, "" if found.tier == "memory" else found.tier)

    def _is_fresh(self, asked: Asked, reading: Reading | None, entry: Entry) -> bool:
        if asked.route.ttl_s is not None:
            # Clocks of two processes differ a little: not every age is above 0.
            return abs(self._clock.now() - entry.stored_at) < asked.route.ttl_s
        known = self._watermarks.believed(asked.span) if reading is None else reading.watermark
        return known is not None and known.token == entry.watermark.token

    async def _fresh_or_last(self, asked: Asked, reading: Reading | None) -> Found | None:
        """A fresh entry of either tier, else the later one."""
        found = await self._store.get(asked.key)
        if found is None or found.tier != "memory" or self._is_fresh(asked, reading, found.entry):
            return found
        # Another process may have asked meanwhile.
        shared = await self._store.get_shared(asked.key)
        if shared is None or self._is_fresh(asked, reading, shared.entry):
            return shared or found
        return max(found, shared, key=lambda either: either.entry.stored_at)

    async def _load(
        self, asked: Asked, reading: Reading | None, last: Found | None, ask: Ask
    ) -> Answer | Unkept:
        ticket = self._circuit.admit()
        if ticket is None and last is not None:
            return _stale(asked.key, last.entry, "legacy_down")
        # Who has seen a commit must not be given what was asked before it.
        label = "" if reading is None else reading.watermark.token
        try:
            flown = await self._flights.run(
                (asked.key, label), lambda: self._fetch(asked, reading, ask, ticket)
            )
        except BackendError as error:
            if last is None:
                raise
            log.warning("served_stale", route=asked.route.path, reason=error.reason)
            return _stale(asked.key, last.entry, error.reason)
        load, is_collapsed = flown.value, not flown.led
        result: Result = "miss" if last is None else "stale"
        if load.entry is not None:
            answer = _held(asked.key, load.entry)
            return replace(answer, result=result, is_collapsed=is_collapsed)
        if load.is_failure and last is not None:
            return _stale(asked.key, last.entry, load.detail)
        is_rebuilding = reading is not None and reading.is_rebuilding
        warnings = ("rebuilding",) if is_rebuilding else ()
        # Who is known gets no answer made for nobody, nor the other way round.
        if is_collapsed and (asked.has_credentials or not load.is_shareable):
            return Unkept(None, "unshared", result, warnings=warnings)
        return Unkept(load.reply, load.detail, result, is_collapsed, warnings)

    async def _fetch(
        self, asked: Asked, reading: Reading | None, ask: Ask, ticket: int | None
    ) -> Load:
        is_shared = asked.route.shared_between_users
        started, purges = self._clock.monotonic(), self._purges
        try:
            reply = await ask()
        except BackendError as error:
            took_s = self._clock.monotonic() - started
            self._tell(ticket, is_outage=took_s >= _HELD_UP_S or isinstance(error, BackendTimeout))
            raise
        cost_ms = (self._clock.monotonic() - started) * 1000
        self._tell(ticket, is_outage=False)
        detail = await _judged(reply, is_shared=is_shared)
        is_failure = reply.is_failure or detail in ("no-json", "no-success", "empty")
        detail = detail or await self._why_unsettled(asked, reading)
        if not detail and purges != self._purges:
            detail = "purged"
        if detail:
            is_shareable = not asked.has_credentials and not why_not_shared(
                reply, is_shared=is_shared
            )
            return Load(reply, None, detail, is_shareable, is_failure)
        now = self._clock.now()
        # Each answer of a route with a time gets a label of its own: by it a
        # tier tells a newer entry from the one it holds.
        watermark = reading.watermark if reading is not None else Watermark(f"at {now!r}")
        entry = Entry(
            query=None,
            payload=Payload.of(reply.body),
            watermark=watermark,
            stored_at=now,
            cost_ms=cost_ms,
            question=asked.label,
            content_type=reply.content_type,
            headers=kept_headers(reply),
        )
        await self._store.put(asked.key, entry)
        return Load(reply, entry)

    async def _why_unsettled(self, asked: Asked, reading: Reading | None) -> str:
        """Why an answer cannot be kept under this label now; empty when it can."""
        if asked.route.ttl_s is not None:
            return "rebuilding" if self._watermarks.state == "rebuilding" else ""
        if reading is None:
            return "unverified"
        if reading.is_rebuilding:
            return "rebuilding"
        # A day deleted since the look would go on under the label from before.
        is_same = await self._watermarks.confirms(asked.span, reading)
        return "" if is_same else "unsettled"

    def _tell(self, ticket: int | None, *, is_outage: bool) -> None:
        if ticket is None:
            return
        if is_outage and self._circuit.failed(ticket):
            log.warning("legacy_down", path="cached routes")
        elif not is_outage and self._circuit.succeeded(ticket):
            log.info("legacy_back", path="cached routes")

    def __repr__(self) -> str:
        return f"<CachedAnswers flights={len(self._flights)} {self._circuit!r}>"


async def _judged(reply: LegacyReply, *, is_shared: bool) -> str:
    if len(reply.body) < _LARGE_BYTES:
        return why_not_kept(reply, is_shared=is_shared)
    return await asyncio.to_thread(why_not_kept, reply, is_shared=is_shared)


def _held(key: Key, entry: Entry, detail: str = "") -> Answer:
    return replace(
        Answer.held(key, entry, detail),
        source="legacy",
        content_type=entry.content_type,
        headers=entry.headers,
    )


def _marked(key: Key, entry: Entry, warning: str, *, source: Source) -> Answer:
    """What was kept, saying in its headers what is not sure. The body stays the legacy's own."""
    held = _held(key, entry, warning)
    return replace(held, source=source, warnings=(*held.warnings, warning))


def _stale(key: Key, entry: Entry, reason: str) -> Answer:
    marked = _marked(key, entry, "stale", source="stale")
    return replace(marked, result="stale", detail=reason, is_stored=False)
