"""SharedFlight: one load for one question among all processes that share a tier."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from proxy.background import Background
from proxy.cache.entry import Entry
from proxy.cache.lease import Lease, Leases, Taken
from proxy.cache.store import Found
from proxy.clock import Clock
from proxy.errors import StoreError
from proxy.freshness import Watermark
from proxy.held_lease import HeldLease, Sleep
from proxy.query import Key
from proxy.telemetry import Telemetry

_SHORTEST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.2
_PAUSE_GROWTH = 1.5

log = structlog.get_logger(__name__)


class SharingStore(Protocol):
    """The store as far as processes share it."""

    async def get_shared(self, key: Key) -> Found | None: ...

    async def put(self, key: Key, entry: Entry) -> None: ...

    def put_now(self, key: Key, entry: Entry) -> None:
        """Keep `entry` in this process alone."""
        ...


@dataclass(frozen=True, slots=True)
class Seat:
    """What one has who wants to load: the `entry` another process made, or how to keep one's own.

    `put` returns at once; what other processes get of it happens behind it.
    """

    put: Callable[[Key, Entry], Awaitable[None]]
    entry: Entry | None = None


class SharedFlight:
    """Lets one process load while the others wait for what it keeps.

    Who waits asks from time to time, holding nothing meanwhile. When the
    loading process fails or dies, one of those who wait takes over. After
    `wait_s` a waiter loads for itself alone, and so does everybody while the
    leases cannot be asked: nobody waits for ever, and no error comes of it.
    """

    def __init__(
        self,
        leases: Leases,
        store: SharingStore,
        background: Background,
        telemetry: Telemetry,
        clock: Clock,
        *,
        wait_s: float,
        renew_s: float,
        new_token: Callable[[], str],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._leases = leases
        self._store = store
        self._background = background
        self._telemetry = telemetry
        self._clock = clock
        self._wait_s = wait_s
        self._renew_s = renew_s
        self._new_token = new_token
        self._sleep = sleep

    @asynccontextmanager
    async def board(self, key: Key, watermark: Watermark) -> AsyncIterator[Seat]:
        """A seat for `key` in the state `watermark` of its data; it may be waited for.

        Whoever leaves it without a `put` lets another process load at once.
        """
        held = HeldLease(
            Lease(key, watermark.token, self._new_token()),
            self._leases,
            self._background,
            self._telemetry,
            renew_s=self._renew_s,
            sleep=self._sleep,
        )
        try:
            yield await self._seat(held)
        finally:
            await held.let_go()

    async def _seat(self, held: HeldLease) -> Seat:
        try:
            came = await self._wait_to_load(held)
        except StoreError as error:
            log.debug("no_lease", error=str(error))
            self._count("alone")
            return Seat(self._store.put)
        if isinstance(came, Entry):
            self._count("followed")
            return Seat(self._store.put, came)
        self._count("led" if came else "timeout")

        async def put(key: Key, entry: Entry) -> None:
            self._store.put_now(key, entry)
            # Without the lease another may hold it still: the shared tier is
            # for that one to write.
            if came:
                await held.put(entry)

        return Seat(put)

    async def _wait_to_load(self, held: HeldLease) -> bool | Entry:
        """True: the lease is held. False: waited in vain. Else what its holder has kept."""
        until = self._clock.monotonic() + self._wait_s
        pause_s = _SHORTEST_PAUSE_S
        again = False
        while (taken := await held.take(again=again)) is not Taken.GRANTED:
            again = False
            if taken is Taken.ANSWERED:
                found = await self._store.get_shared(held.lease.key)
                if found is not None and found.entry.watermark.token == held.lease.watermark:
                    return found.entry
                # What lies there cannot be read, or was replaced just now.
                again = True
                continue
            left_s = until - self._clock.monotonic()
            if left_s <= 0:
                return False
            await self._sleep(min(pause_s, left_s))
            pause_s = min(pause_s * _PAUSE_GROWTH, _LONGEST_PAUSE_S)
        return True

    def _count(self, outcome: str) -> None:
        self._telemetry.shared_flights.labels(outcome).inc()

    def __repr__(self) -> str:
        return f"<SharedFlight {self._leases!r} wait={self._wait_s} s>"
