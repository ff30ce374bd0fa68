"""The shadow: a sampled share of questions is put to the other side too, after the answer."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

import structlog

from proxy.background import Background
from proxy.clock import Clock
from proxy.errors import BackendError
from proxy.freshness import Watermark
from proxy.looks import Reading
from proxy.query import Query
from proxy.rollout.capture import Capture, Room
from proxy.rollout.comparing import Bodies, Judged
from proxy.rollout.comparison import Comparison
from proxy.rollout.pace import Pace
from proxy.rollout.split import Variant
from proxy.rollout.uncompared import DiscardedError, SideFailedError
from proxy.tracing.tracer import NO_TRACING, Position, Tracer, here

log = structlog.get_logger(__name__)

_MOST_WAITING_BYTES = 64 * 2**20
_MOST_CAPTURED_BYTES = 32 * 2**20
_KEEPING_S_PER_BYTE = 5e-8
"""Processor time, about, that the ledger takes to keep the bodies: it reads and packs them."""


class DataState(Protocol):
    """What the shadow asks of Watermarks."""

    @property
    def state(self) -> Literal["settled", "rebuilding", "unknown"]: ...

    @property
    def generation(self) -> int: ...

    def is_current(self, generation: int) -> bool: ...

    def believed(self, subject: Query) -> Watermark | None: ...

    async def current(self, subject: Query) -> Reading | None: ...

    async def confirms(self, subject: Query, reading: Reading) -> bool: ...


class Ledger(Protocol):
    """What the shadow tells of its samples. Nothing here waits or raises."""

    def note(self, comparison: Comparison) -> None: ...

    def noted_drop(self) -> None: ...

    def noted_discard(self, word: str) -> None: ...

    def noted_error(self, word: str) -> None: ...


class Legacy(Protocol):
    async def ask(self, query: Query) -> bytes:
        """Raises UncomparedError."""
        ...


class Optimized(Legacy, Protocol):
    async def in_other_mode(self, query: Query) -> bytes | None: ...


class Judge(Protocol):
    async def judge(self, bodies: Bodies) -> Judged:
        """Raises UncomparedError."""
        ...


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a caller got. `at` is in seconds since the epoch, `size` counts the bytes it holds.

    `token` is the state of the data it was made from. Where that was not known
    at once it is None: then it is the one known as `generation`.
    """

    query: Query
    side: Variant
    at: float
    chunks: Sequence[bytes]
    size: int
    coding: str = ""
    token: str | None = None
    generation: int = -1
    cause: Position | None = field(default_factory=here)


class Shadow:
    """Asks the other side what a caller was answered, and has both compared.

    `rate` is the share of the questions (0 to 1) and may be set at any time.
    Callers only ever put something into the queue; when it is full the sample
    is dropped and counted. A comparison counts only when the data were of one
    state from before the first answer until after the second, and no rebuild
    is on. What fails here is logged and counted, and reaches no caller.
    """

    def __init__(
        self,
        legacy: Legacy,
        optimized: Optimized,
        judge: Judge,
        data: DataState,
        ledger: Ledger,
        pace: Pace,
        clock: Clock,
        *,
        chance: Callable[[], float],
        queue: int = 100,
        noise_every: int = 10,
        tracer: Tracer = NO_TRACING,
    ) -> None:
        self._legacy = legacy
        self._optimized = optimized
        self._judge = judge
        self._data = data
        self._ledger = ledger
        self._pace = pace
        self._clock = clock
        self._chance = chance
        self._noise_every = noise_every
        self._tracer = tracer
        self._queue: asyncio.Queue[Sampled] = asyncio.Queue()
        self._room = Room(_MOST_WAITING_BYTES)
        self._free_places = queue
        self._answered = 0
        self.rate = 0.0

    def start(self, background: Background, *, concurrency: int = 2) -> None:
        """Begin to work, so many at a time, until `background` closes."""
        for number in range(concurrency):
            background.spawn(self._work(), name=f"shadow {number}", endless=True)

    def wants(self) -> bool:
        """Whether to sample this question. It may be on the hit path: nothing here takes time."""
        if self._chance() >= self.rate:
            return False
        if self._free_places <= 0:
            self._ledger.noted_drop()
            return False
        return True

    def offer(self, query: Query, body: bytes, token: str) -> None:
        """Our side answered `query` with `body`, computed from the data that `token` stands for."""
        if self._data.state == "rebuilding":
            return
        if not self._room.take(len(body)):
            self._ledger.noted_drop()
            return
        at = self._clock.now()
        self._put(Sampled(query, "optimized", at, (body,), len(body), token=token))

    @contextmanager
    def watching(self, query: Query) -> Iterator[Capture | None]:
        """The context in which the legacy answers a caller: what it is to be captured in, or None.

        It is enqueued at the end, if it is whole by then.
        """
        generation, token = self._data.generation, None
        if self._data.state == "rebuilding":
            yield None
            return
        if self._free_places <= 0:
            # Others took the last place while this caller's body was on its way.
            self._ledger.noted_drop()
            yield None
            return
        if not self._is_current(generation):
            self._ledger.noted_discard("moved")
            yield None
            return
        if (believed := self._data.believed(query)) is not None:
            token = believed.token
        capture = Capture(self._room, limit_bytes=_MOST_CAPTURED_BYTES)
        # It has its place from now on: many may be on their way at once.
        self._free_places -= 1
        is_taken = False
        try:
            yield capture
            is_taken = not capture.lack
        finally:
            self._free_places += 1
            if is_taken:
                self._put(
                    Sampled(
                        query, "legacy", self._clock.now(), capture.chunks, capture.size,
                        coding=capture.coding, token=token, generation=generation,
                    )
                )  # fmt: skip
            else:
                self._note_lack(capture.lack)
                capture.free()

    def _is_current(self, generation: int) -> bool:
        try:
            return self._data.is_current(generation)
        except BackendError:
            return False

    def _note_lack(self, lack: str) -> None:
        if lack in ("no_answer", "legacy_error"):
            self._ledger.noted_error(lack)
        else:
            self._ledger.noted_discard(lack or "cut_off")

    def _put(self, sampled: Sampled) -> None:
        self._free_places -= 1
        self._queue.put_nowait(sampled)

    async def _work(self) -> None:
        while True:
            await self._pace.turn()
            sampled = await self._queue.get()
            self._free_places += 1
            try:
                with self._tracer.apart("shadow", sampled.cause):
                    comparison = await self._compared(sampled)
                self._ledger.note(comparison)
                size = len(comparison.control) + len(comparison.candidate)
                self._pace.spent(size * _KEEPING_S_PER_BYTE)
            except DiscardedError as discarded:
                self._ledger.noted_discard(discarded.word)
            except SideFailedError as failed:
                self._ledger.noted_error(failed.word)
            except Exception as error:
                log.exception("shadow_failed", error=repr(error), **sampled.query.as_parameters())
                self._ledger.noted_error("internal")
            finally:
                self._room.give_back(sampled.size)

    async def _compared(self, sampled: Sampled) -> Comparison:
        query = sampled.query
        reading = await self._reading(sampled)
        again = other_mode = None
        if sampled.side == "optimized":
            candidate = await self._legacy.ask(query)
        else:
            candidate = await self._optimized.ask(query)
        self._answered += 1
        if (self._answered - 1) % self._noise_every == 0:
            again, other_mode = await self._noise(query)
        bodies = Bodies(
            query, sampled.side, sampled.chunks, sampled.coding, candidate, again, other_mode
        )
        await self._confirm(query, reading)
        judged = await self._judge.judge(bodies)
        return Comparison(
            sampled.at,
            query,
            sampled.side,
            judged.control,
            candidate,
            judged.result,
            judged.noise,
            judged.closer,
        )

    async def _reading(self, sampled: Sampled) -> Reading:
        """What the data are now, if they are what they were for the caller."""
        reading = await self._data.current(sampled.query)
        if reading is None:
            raise DiscardedError("unverified")
        if reading.is_rebuilding or self._data.state == "rebuilding":
            raise DiscardedError("rebuilding")
        if sampled.token is None:
            is_same = reading.generation == sampled.generation
        else:
            is_same = reading.watermark.token == sampled.token
        if not is_same:
            raise DiscardedError("moved")
        return reading

    async def _noise(self, query: Query) -> tuple[bytes | None, bytes | None]:
        """The legacy a second time, and our side in the other rate mode; None: not to be had."""
        try:
            again = await self._legacy.ask(query)
        except SideFailedError:
            again = None
        return again, await self._optimized.in_other_mode(query)

    async def _confirm(self, query: Query, reading: Reading) -> None:
        """A look of its own, which counts deleted rows too: also one that came a moment ago."""
        is_confirmed = await self._data.confirms(query, reading)
        if self._data.state == "rebuilding":
            raise DiscardedError("rebuilding")
        if not is_confirmed:
            raise DiscardedError("moved")

    def __repr__(self) -> str:
        return f"<Shadow rate={self.rate:g} waiting={self._queue.qsize()} {self._room!r}>"
