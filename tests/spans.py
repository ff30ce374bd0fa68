"""Spans to look at: kept in memory as the real SDK made them, in a proxy of the test's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from proxy.app import Running, run_proxy
from proxy.clock import Clock
from proxy.settings import Settings
from proxy.tracing.otel import OtelTracer
from proxy.tracing.provider import make_provider


class Spans:
    """Made by the variables OTEL_… of the moment. Only spans that have ended are there."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = make_provider(SimpleSpanProcessor(self._exporter))
        self.tracer = OtelTracer(self.provider)

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def only(self, name: str) -> ReadableSpan:
        found = self.named(name)
        assert len(found) == 1, (name, [span.name for span in self.all()])
        return found[0]

    def clear(self) -> None:
        self._exporter.clear()

    @asynccontextmanager
    async def serving(
        self, database: Path, clock: Clock | None = None, **settings: Any
    ) -> AsyncIterator[Running]:
        """A whole proxy that is traced by these."""
        made = Settings(
            database=str(database),
            port=0,
            admin_port=0,
            state=database.with_name("state.db"),
            **settings,
        )
        async with run_proxy(made, clock, tracer=self.tracer) as running:
            yield running


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def place_of(span: ReadableSpan) -> str:
    """As `traceparent` has it."""
    return f"{trace_of(span):032x}-{id_of(span):016x}"
