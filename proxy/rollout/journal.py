"""Journal: takes note of what happens to the shadow and to our side, and writes it to the ledger.

To note is cheap and never waits; to write may fail and is tried again.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import structlog

from proxy.clock import Clock
from proxy.errors import StoreError
from proxy.rollout.comparison import Comparison
from proxy.rollout.ledger import Batch, Ledger, Sample
from proxy.rollout.pending import Noted, Pending
from proxy.rollout.sample_codec import Redact, packed
from proxy.rollout.tallies import (
    Tally,
    day_of,
    tally_of,
    tally_of_answer,
    tally_of_answers,
    tally_of_discard,
    tally_of_drops,
    tally_of_error,
)
from proxy.telemetry import Telemetry

log = structlog.get_logger(__name__)

_LONGEST_PAUSE_S = 5.0
_CLOSE_S = 2.0
_LARGE_BYTES = 64 * 1024
_MOST_TRIES = 10
"""For one sample: a ledger that takes counts and refuses this will go on to refuse it."""

Latencies = Callable[[], Mapping[float, int]]
"""Answers of our side to callers so far, hits included, by upper edge in seconds."""


class Journal:
    """Counts and samples in memory, written by `follow` every `flush_s` seconds and on close.

    Nothing noted is lost or counted twice while the process lives: not when
    the ledger cannot be asked for a while, when the answer to a write is lost,
    or when the writing is cancelled. Samples are bounded in number. A process
    that is killed loses what it noted since the last flush.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        telemetry: Telemetry,
        *,
        redact: Redact,
        latencies: Latencies,
        flush_s: float = 0.5,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._telemetry = telemetry
        self._redact = redact
        self._latencies = latencies
        self._flush_s = flush_s
        self._answered = dict(latencies())
        self._drops = 0
        self._pending = Pending()
        self._writer = uuid.uuid4().hex
        self._number = 0
        # What is being written: its answer may be lost, so it is sent as it is until one comes.
        self._unsent: Batch | None = None
        self._unkept: Noted | Sample | None = None
        self._tries = 0
        self._is_down = False
        self._lock = asyncio.Lock()
        self._listeners: list[Callable[[], None]] = []
        self.errors_in_a_row = 0
        """Failures of our side since it last answered, in this process."""

    def listen(self, callback: Callable[[], None]) -> None:
        """Call `callback` at once after each comparison, error and tried answer. It must not raise.

        It is not called for drops, discards and answers that went well.
        """
        self._listeners.append(callback)

    def note(self, comparison: Comparison) -> None:
        self._telemetry.shadow_results.labels(comparison.result.outcome).inc()
        self._pending.count(day_of(comparison.at), tally_of(comparison))
        self._pending.offer(Noted(uuid.uuid4().hex[:12], comparison))
        self._tell()

    def noted_drop(self) -> None:
        # On the hit path while the queue is full: the rest is done at the next flush.
        self._drops += 1

    def noted_discard(self, word: str) -> None:
        self._telemetry.shadow_results.labels("discarded").inc()
        self._count(tally_of_discard(word))

    def noted_error(self, word: str) -> None:
        self._telemetry.shadow_results.labels("error").inc()
        self._count(tally_of_error(word))
        self._tell()

    def served(self, is_ok: bool) -> None:
        """Our side computed an answer for a caller, or failed to. Hits are not noted."""
        if is_ok:
            # Counted by `latencies`.
            self.errors_in_a_row = 0
            return
        self._failed()

    def tried(self, is_ok: bool, seconds: float) -> None:
        """Our side computed an answer as the candidate of a comparison, or failed to."""
        if not is_ok:
            self._failed()
            return
        self.errors_in_a_row = 0
        self._count(tally_of_answer(True, seconds))
        self._tell()

    async def flush(self) -> None:
        """Write all that was noted before. Raises StoreError; then it is still to be written."""
        async with self._lock:
            self._collect()
            # What was not written last time, then what came since.
            is_answering = False
            while (batch := self._next_batch()) is not None:
                await self._ledger.add(batch)
                self._unsent = None
                is_answering = True
            for _ in range(self._pending.samples + 1):
                await self._keep_next(is_answering)

    async def follow(self) -> None:
        """Flush for ever, less often while the ledger cannot be asked."""
        pause_s = self._flush_s
        while True:
            await asyncio.sleep(pause_s)
            try:
                await self.flush()
            except StoreError as error:
                pause_s = min(2 * pause_s, max(_LONGEST_PAUSE_S, self._flush_s))
                if not self._is_down:
                    self._is_down = True
                    log.warning("ledger_down", error=str(error))
                continue
            pause_s = self._flush_s
            if self._is_down:
                self._is_down = False
                log.info("ledger_back")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self.flush()
        except (StoreError, TimeoutError) as failure:
            log.warning("ledger_not_written", error=str(failure) or "it took too long")

    def _failed(self) -> None:
        self.errors_in_a_row += 1
        self._count(tally_of_answer(False, 0.0))
        self._tell()

    def _count(self, tally: Tally) -> None:
        self._pending.count(day_of(self._clock.now()), tally)

    def _tell(self) -> None:
        for callback in self._listeners:
            callback()

    def _collect(self) -> None:
        """What is counted elsewhere, moved here."""
        drops, self._drops = self._drops, 0
        if drops:
            self._telemetry.shadow_dropped.inc(drops)
            self._count(tally_of_drops(drops))
        answered = dict(self._latencies())
        new = {edge: count - self._answered.get(edge, 0) for edge, count in answered.items()}
        self._answered = answered
        if tally := tally_of_answers(new):
            self._count(tally)

    def _next_batch(self) -> Batch | None:
        if self._unsent is None:
            self._unsent = self._pending.take_batch(self._writer, self._number + 1)
            self._number += self._unsent is not None
        return self._unsent

    async def _keep_next(self, is_answering: bool) -> None:
        if self._unkept is None:
            self._unkept = self._pending.take_sample()
        if isinstance(self._unkept, Noted):
            self._unkept = await self._packed(self._unkept)
        if self._unkept is None:
            return
        try:
            await self._ledger.keep(self._unkept)
        except StoreError as error:
            self._tries += is_answering
            if self._tries < _MOST_TRIES:
                raise
            log.warning("sample_not_kept", id=self._unkept.head.id, error=str(error))
        self._unkept = None
        self._tries = 0

    async def _packed(self, noted: Noted) -> Sample:
        if noted.bytes < _LARGE_BYTES:
            return packed(noted.id, noted.comparison, self._redact)
        return await asyncio.to_thread(packed, noted.id, noted.comparison, self._redact)

    def __repr__(self) -> str:
        state = "down" if self._is_down else "up"
        return f"<Journal {state} batches={self._number} {self._pending!r}>"
