"""Sends spans to a collector: the SDK's exporter, and what is heard of it."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from proxy.clock import Clock
from proxy.tracing.provider import make_provider

FLUSH_S = 2.0
"""How long a collector may hold up the end of the proxy."""
_SILENCE_S = 600.0

log = structlog.get_logger(__name__)


@asynccontextmanager
async def exporting(clock: Clock, *, flush_s: float = FLUSH_S) -> AsyncIterator[TracerProvider]:
    """A provider that sends in a thread of its own, by the variables of the SDK.

    A queue that is full drops spans; nobody waits for a collector. On the way
    out what is left is sent within `flush_s`, else dropped. Raises ValueError
    for variables that cannot be.
    """
    complaints = Complaints(clock)
    sdk_log = logging.getLogger("opentelemetry")
    sdk_log.addHandler(complaints)
    was_heard, sdk_log.propagate = sdk_log.propagate, False
    try:
        processor = BatchSpanProcessor(WatchedExporter(OTLPSpanExporter()))
        provider = make_provider(processor)
        try:
            yield provider
        finally:
            if not await _shut_down(provider, flush_s):
                log.warning("traces_dropped", why="the collector did not answer in time")
    finally:
        sdk_log.propagate = was_heard
        sdk_log.removeHandler(complaints)


class WatchedExporter(SpanExporter):
    """Says once that spans get lost, and once that they arrive again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._is_lost = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        is_lost = result is not SpanExportResult.SUCCESS
        if is_lost and not self._is_lost:
            log.warning("traces_not_sent", spans=len(spans))
        elif self._is_lost and not is_lost:
            log.info("traces_sent_again")
        self._is_lost = is_lost
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class Complaints(logging.Handler):
    """What the SDK has to say, each complaint once in ten minutes: it repeats itself per batch."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(logging.INFO)
        self._clock = clock
        self._heard: dict[tuple[str, int, str], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        complaint = (record.name, record.levelno, str(record.msg))
        now = self._clock.monotonic()
        heard_at = self._heard.get(complaint)
        if heard_at is not None and now - heard_at < _SILENCE_S:
            return
        self._heard[complaint] = now
        logging.getLogger().handle(record)


async def _shut_down(provider: TracerProvider, seconds: float) -> bool:
    """Whether all was sent, or given up, in time. The thread that has not is left behind."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def work() -> None:
        provider.shutdown()
        # Too late, the loop may be closed.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    # No executor's thread: the interpreter would wait for that one on its way out.
    threading.Thread(target=work, name="traces", daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        return False
    return True
