"""HeldLease: a try for a lease and, once it is granted, what keeps it and ends it."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from proxy.background import Background
from proxy.cache.entry import Entry
from proxy.cache.lease import Lease, Leases, Taken
from proxy.errors import StoreError
from proxy.telemetry import Telemetry

Sleep = Callable[[float], Awaitable[None]]
log = structlog.get_logger(__name__)


class HeldLease:
    """Renewed every `renew_s` from the grant until it has been written with, or let go.

    Both ends happen behind the caller's back; before its eyes when the proxy
    is leaving. What cannot be told the leases any more runs out there by itself.
    """

    def __init__(
        self,
        lease: Lease,
        leases: Leases,
        background: Background,
        telemetry: Telemetry,
        *,
        renew_s: float,
        sleep: Sleep,
    ) -> None:
        self.lease = lease
        self._leases = leases
        self._background = background
        self._telemetry = telemetry
        self._renew_s = renew_s
        self._sleep = sleep
        self._may_be_held = False
        self._keeper: asyncio.Task[None] | None = None

    async def take(self, *, again: bool) -> Taken:
        """Try once. Raises StoreError."""
        # Until the answer is here: one that is lost may have been a grant.
        self._may_be_held = True
        taken = await self._leases.take(self.lease, again=again)
        if taken is Taken.GRANTED:
            self._keeper = self._spawn_keeper()
        else:
            self._may_be_held = False
        return taken

    async def put(self, entry: Entry) -> None:
        """Have `entry` written, if the lease is still held by then, and the lease given back."""
        self._may_be_held = False
        await self._behind("leased write", lambda: self._write(entry))

    async def let_go(self) -> None:
        """Give it back, if it may be held and no `put` has begun."""
        if self._may_be_held:
            self._may_be_held = False
            self._end_keeper()
            await self._behind("lease back", self._give_back)

    async def _write(self, entry: Entry) -> None:
        try:
            if not await self._leases.put(self.lease, entry):
                self._telemetry.shared_flights.labels("refused").inc()
                log.warning("late_write_refused", key=self.lease.key)
        except StoreError as error:
            self._telemetry.store_errors.labels("redis", "put").inc()
            log.debug("leased_write_failed", error=str(error))
            await self._give_back()
        finally:
            self._end_keeper()

    async def _give_back(self) -> None:
        try:
            await self._leases.give_back(self.lease)
        except StoreError as error:
            log.debug("lease_not_given_back", error=str(error))

    def _spawn_keeper(self) -> asyncio.Task[None] | None:
        try:
            return self._background.spawn(self._renew(), name="lease")
        except RuntimeError:
            # The proxy is leaving: what it still loads has one term to be done.
            return None

    async def _renew(self) -> None:
        is_held = True
        while is_held:
            await self._sleep(self._renew_s)
            try:
                is_held = await self._leases.renew(self.lease)
            except StoreError as error:
                log.debug("lease_not_renewed", error=str(error))

    def _end_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None

    async def _behind(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await work()

        try:
            self._background.spawn(run(), name=name)
        except RuntimeError:
            await work()

    def __repr__(self) -> str:
        return f"<HeldLease {self.lease.key} kept={self._keeper is not None}>"
