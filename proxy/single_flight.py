"""One load per key at a time, shared by all who ask for it meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Generic, TypeVar

from proxy.background import Background
from proxy.errors import BackendUnavailable
from proxy.tracing.tracer import NO_TRACING, Position, Tracer, here

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Flown(Generic[V]):
    """What a load brought, and whether this caller led it or followed another's."""

    value: V
    led: bool


@dataclass(frozen=True, slots=True)
class _Brought(Generic[V]):
    value: V


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception
    trace: TracebackType | None


@dataclass(slots=True, eq=False)
class _Flight(Generic[V]):
    landed: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: _Brought[V] | _Failed | None = None
    waiters: int = 0
    position: Position | None = None


class SingleFlight(Generic[K, V]):
    """Let concurrent callers for one key share a single load.

    The load runs in its own task, so a cancelled caller leaves the others
    waiting undisturbed, and the load goes on when all have left. A failed
    load raises in every waiter, then is forgotten: the next caller tries
    again. When the load is ended (the proxy leaves), waiters get
    BackendUnavailable. In a trace the load stands below who began it; the
    others' waits are linked to it.
    """

    def __init__(self, background: Background, tracer: Tracer = NO_TRACING) -> None:
        self._background = background
        self._tracer = tracer
        self._flights: dict[K, _Flight[V]] = {}

    async def run(self, key: K, load: Callable[[], Awaitable[V]]) -> Flown[V]:
        """What `load` brings, or what the load for `key` that is under way does."""
        flight = self._flights.get(key)
        led = flight is None
        if flight is None:
            flight = self._depart(key, load)
        flight.waiters += 1
        try:
            if led or not self._tracer.is_on:
                await flight.landed.wait()
            else:
                with self._tracer.span("wait for another's load") as span:
                    try:
                        await flight.landed.wait()
                    finally:
                        # Not before: the load may not have taken its first step then.
                        span.link(flight.position)
        finally:
            flight.waiters -= 1
        match flight.outcome:
            case _Brought(value):
                return Flown(value, led)
            case _Failed(error, trace):
                # Each waiter's raise would add its frames to the one before.
                raise error.with_traceback(trace)
        raise BackendUnavailable(f"the load of {key!r} was ended", reason="closing")

    def _depart(self, key: K, load: Callable[[], Awaitable[V]]) -> _Flight[V]:
        flight = _Flight[V]()
        try:
            work = _fly(flight, load, self._tracer)
            task = self._background.spawn(work, name=f"load {key!s}")
        except RuntimeError as error:
            raise BackendUnavailable(f"no load of {key!r}: {error}", reason="closing") from error
        self._flights[key] = flight
        # Not inside the task: one that is cancelled before its first step
        # never runs, and its waiters would wait for ever.
        task.add_done_callback(partial(self._land, key, flight))
        return flight

    def _land(self, key: K, flight: _Flight[V], _: asyncio.Task[None]) -> None:
        # Forget the flight before resolving it: a waiter that retries at
        # once must start a new load, not join the finished one.
        del self._flights[key]
        flight.landed.set()

    def __len__(self) -> int:
        return len(self._flights)

    def __repr__(self) -> str:
        waiters = {key: flight.waiters for key, flight in self._flights.items()}
        return f"<SingleFlight {waiters}>"


async def _fly(flight: _Flight[V], load: Callable[[], Awaitable[V]], tracer: Tracer) -> None:
    try:
        with tracer.span("load"):
            flight.position = here()
            flight.outcome = _Brought(await load())
    except Exception as error:
        flight.outcome = _Failed(error, error.__traceback__)
        if not flight.waiters:
            # Nobody is left to tell: Background logs it.
            raise
