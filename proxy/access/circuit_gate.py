"""CircuitGate: keeps callers from waiting for a gate that hangs, and the gate from all at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from proxy.access.credentials import Credentials
from proxy.access.gate import Gate
from proxy.access.verdict import Refusal
from proxy.circuit import Circuit
from proxy.clock import Clock
from proxy.errors import BackendError, BackendTimeout, BackendUnavailable

MOST_AT_ONCE = 32
_FAILURES = 3
_HELD_UP_S = 1.0
"""A question without a verdict that took so long has held callers up."""

log = structlog.get_logger(__name__)


class CircuitGate:
    """Asks `gate`, at most `most_at_once` questions at a time; the others wait for `timeout_s`.

    After a few questions in a row that it did not answer, or answered too
    late to be of use, nobody is let in on its word: BackendUnavailable at
    once, with the time of the next try. Then one caller's question tries.
    A quick answer that is no verdict opens nothing: it may be the credentials
    that the legacy cannot bear, and one caller must not shut out the others.
    """

    def __init__(
        self, gate: Gate, clock: Clock, *, timeout_s: float, most_at_once: int = MOST_AT_ONCE
    ) -> None:
        self._gate = gate
        self._clock = clock
        self._timeout_s = timeout_s
        self._circuit = Circuit(clock, failures=_FAILURES, try_s=timeout_s)
        self._places = asyncio.Semaphore(most_at_once)

    async def ask(self, credentials: Credentials) -> Refusal | None:
        async with self._place():
            ticket = self._circuit.admit()
            if ticket is None:
                raise self._left_alone()
            return await self._ask(credentials, ticket)

    async def _ask(self, credentials: Credentials, ticket: int) -> Refusal | None:
        started = self._clock.monotonic()
        try:
            refusal = await self._gate.ask(credentials)
        except BackendError as error:
            took_s = self._clock.monotonic() - started
            is_sick = isinstance(error, BackendTimeout | BackendUnavailable)
            if not is_sick and took_s < _HELD_UP_S:
                self._heard(ticket)
            elif self._circuit.failed(ticket):
                log.warning("auth_down", reason=error.reason, error=str(error))
            raise
        except BaseException:
            self._circuit.gave_up(ticket)
            raise
        self._heard(ticket)
        return refusal

    def _heard(self, ticket: int) -> None:
        if self._circuit.succeeded(ticket):
            log.info("auth_back")

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
