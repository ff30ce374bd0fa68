"""CircuitGate: keeps callers from waiting for a gate that hangs, and the gate from all at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from proxy.access.credentials import Credentials
from proxy.access.gate import Gate
from proxy.access.verdict import Refusal
from proxy.background import Background
from proxy.circuit import Circuit
from proxy.clock import Clock
from proxy.errors import BackendError, BackendTimeout, BackendUnavailable

MOST_AT_ONCE = 32
_FAILURES = 3
_NOBODY = Credentials()

log = structlog.get_logger(__name__)


class CircuitGate:
    """Asks `gate`, at most `most_at_once` questions at a time; the others wait for `timeout_s`.

    Questions in a row that find it down may be the fault of what their callers
    show, and one caller can show as many credentials as he likes. So after a
    few of them it is asked about nobody. When that finds it down too, nobody is
    let in on its word for a while: BackendUnavailable at once, with the time of
    the next try. Then one caller's question tries and, should that fail, another
    one about nobody. An answer that is no verdict does not find it down.
    """

    def __init__(
        self,
        gate: Gate,
        background: Background,
        clock: Clock,
        *,
        timeout_s: float,
        most_at_once: int = MOST_AT_ONCE,
    ) -> None:
        self._gate = gate
        self._background = background
        self._timeout_s = timeout_s
        self._circuit = Circuit(clock, try_s=2 * timeout_s)
        self._places = asyncio.Semaphore(most_at_once)
        self._failures = 0
        self._is_looking = False

    async def ask(self, credentials: Credentials) -> Refusal | None:
        async with self._place():
            is_try = self._circuit.is_open
            ticket = self._circuit.admit()
            if ticket is None:
                raise self._left_alone()
            return await self._ask(credentials, ticket, is_try)

    async def _ask(self, credentials: Credentials, ticket: int, is_try: bool) -> Refusal | None:
        try:
            refusal = await self._gate.ask(credentials)
        except BackendError as error:
            if not _finds_it_down(error):
                self._heard(ticket)
            elif is_try or not self._circuit.is_open:
                self._failed(ticket)
            raise
        except BaseException:
            self._circuit.gave_up(ticket)
            raise
        self._heard(ticket)
        return refusal

    def _heard(self, ticket: int) -> None:
        if self._circuit.succeeded(ticket):
            log.info("auth_back")
        if not self._circuit.is_open:
            self._failures = 0

    def _failed(self, ticket: int) -> None:
        self._failures += 1
        if self._failures < _FAILURES or self._is_looking:
            return
        # Closing: there is nobody left to find out for.
        with suppress(RuntimeError):
            self._background.spawn(self._look(ticket), name="auth look", is_shared=True)
            self._is_looking = True

    async def _look(self, ticket: int) -> None:
        """Find out whether it is down for all. Nobody is let in on what it says of nobody."""
        try:
            await self._gate.ask(_NOBODY)
        except BackendError as error:
            if not _finds_it_down(error):
                self._heard(ticket)
            # Unless a caller has had a verdict meanwhile.
            elif self._failures and self._circuit.failed(ticket):
                log.warning("auth_down", reason=error.reason, error=str(error))
        except BaseException:
            self._circuit.gave_up(ticket)
            raise
        else:
            self._heard(ticket)
        finally:
            self._is_looking = False

    def _left_alone(self) -> BackendUnavailable:
        return BackendUnavailable(
            "the legacy application has not said for a while whether callers are let in, "
            "and is left alone for a moment",
            reason="auth_down",
            retry_after_s=self._circuit.retry_in_s,
        )

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._places.acquire()
        except TimeoutError as error:
            raise BackendUnavailable(
                "the legacy application is asked about too many callers at once",
                reason="auth_busy",
                retry_after_s=1.0,
            ) from error
        try:
            yield
        finally:
            self._places.release()

    def __repr__(self) -> str:
        return f"<CircuitGate {self._gate!r} {self._circuit!r}>"


def _finds_it_down(error: BackendError) -> bool:
    return isinstance(error, BackendTimeout | BackendUnavailable)
