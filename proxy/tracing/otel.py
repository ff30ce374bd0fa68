"""OtelTracer: spans as OpenTelemetry's SDK makes them. Where they go is not known here."""

import asyncio
from contextvars import Token
from types import TracebackType
from typing import Self

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as SdkSpan
from opentelemetry.trace.span import TraceState
from opentelemetry.trace.status import StatusCode

from proxy import __version__
from proxy.tracing.parent import PARENT, STATE, TraceParent
from proxy.tracing.provider import DrawnIds
from proxy.tracing.tracer import (
    NO_ATTRIBUTES,
    NO_SPAN,
    Attributes,
    Kind,
    NoSpan,
    Position,
    Span,
    Value,
    here,
    move,
    move_back,
)

_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_ROOT = Context()


class OtelSpan:
    """A span that is recorded. An exception inside marks it with its kind, not with its text."""

    __slots__ = ("_token", "context", "sdk_span")
    is_recorded = True

    def __init__(self, sdk_span: SdkSpan) -> None:
        self.sdk_span = sdk_span
        self.context = sdk_span.get_span_context()
        self._token: Token[Position | None] | None = None

    @property
    def trace_id(self) -> str:
        return f"{self.context.trace_id:032x}"

    @property
    def is_ours(self) -> bool:
        return True

    def headers(self) -> dict[str, str]:
        return _headers(self.context)

    def set(self, name: str, value: Value) -> None:
        self.sdk_span.set_attribute(name, value)

    def failed(self, word: str) -> None:
        self.sdk_span.set_status(StatusCode.ERROR)
        self.sdk_span.set_attribute("error.type", word)

    def link(self, position: Position | None) -> None:
        if isinstance(position, OtelSpan):
            self.sdk_span.add_link(position.context)

    def __enter__(self) -> Self:
        self._token = move(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._token is not None:
            move_back(self._token)
        if isinstance(error, asyncio.CancelledError):
            self.set("proxy.cancelled", True)
        elif error is not None:
            self.failed(str(getattr(error, "reason", type(error).__name__)))
        self.sdk_span.end()

    def __repr__(self) -> str:
        return f"<OtelSpan {self.context.trace_id:032x} {self.context.span_id:016x}>"


class Unrecorded:
    """Where a trace begins that nobody records: who is asked from here is to know that."""

    __slots__ = ("_span_id", "_trace_id")
    is_ours = False

    def __init__(self, trace_id: int, span_id: int) -> None:
        self._trace_id = trace_id
        self._span_id = span_id

    @property
    def trace_id(self) -> str:
        return f"{self._trace_id:032x}"

    def headers(self) -> dict[str, str]:
        return {PARENT: f"00-{self._trace_id:032x}-{self._span_id:016x}-00"}


class OtelTracer:
    """A Tracer on what `make_provider` made. Its sampler decides once per request.

    A request of a caller who is in a trace already stands below the caller's
    span. Where it is not recorded, the caller's own place is passed on; for a
    request that begins a trace, that it is not recorded.
    """

    is_on = True

    def __init__(self, provider: TracerProvider) -> None:
        self._sdk = provider.get_tracer("dashboard-proxy", __version__)
        self._sampler = provider.sampler
        assert isinstance(provider.id_generator, DrawnIds)
        self._ids = provider.id_generator

    def serve(self, name: str, parent: TraceParent | None, attributes: Attributes) -> Span:
        if parent is not None:
            span = self._sdk.start_span(name, _remote(parent), SpanKind.SERVER, attributes)
            return OtelSpan(span) if span.is_recording() else NO_SPAN
        trace_id = self._ids.generate_trace_id()
        if not self._is_drawn(trace_id, name):
            return NoSpan(Unrecorded(trace_id, self._ids.generate_span_id()))
        return OtelSpan(self._sdk.start_span(name, _ROOT, SpanKind.SERVER, attributes))

    def served(
        self, name: str, attributes: Attributes, *, at: float, seconds: float
    ) -> Position | None:
        if not self._is_drawn(self._ids.generate_trace_id(), name):
            return None
        began_ns = int(at * 1e9)
        span = self._sdk.start_span(name, _ROOT, SpanKind.SERVER, attributes, start_time=began_ns)
        span.end(began_ns + int(seconds * 1e9))
        return OtelSpan(span)

    def _is_drawn(self, trace_id: int, name: str) -> bool:
        """Whether a trace that begins is recorded; then it is the next that is made.

        A span that is not recorded would cost more than the draw.
        """
        drawn = self._sampler.should_sample(_ROOT, trace_id, name, SpanKind.SERVER)
        if drawn.decision is Decision.DROP:
            return False
        self._ids.give(trace_id)
        return True

    def span(
        self,
        name: str,
        kind: Kind = "internal",
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> Span:
        above = here()
        if not isinstance(above, OtelSpan):
            return NO_SPAN
        context = set_span_in_context(above.sdk_span, _ROOT)
        return OtelSpan(self._sdk.start_span(name, context, _KINDS[kind], attributes))

    def apart(self, name: str, cause: Position | None) -> Span:
        if not isinstance(cause, OtelSpan):
            return NO_SPAN if cause is None else NoSpan(cause)
        span = self._sdk.start_span(name, _ROOT, links=[Link(cause.context)])
        return OtelSpan(span) if span.is_recording() else NO_SPAN

    def __repr__(self) -> str:
        return f"<OtelTracer {self._sdk!r}>"


def _remote(parent: TraceParent) -> Context:
    state = TraceState.from_header([parent.state]) if parent.state else None
    place = SpanContext(
        int(parent.trace_id, 16),
        int(parent.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(parent.flags),
        trace_state=state,
    )
    return set_span_in_context(NonRecordingSpan(place), _ROOT)


def _headers(context: SpanContext) -> dict[str, str]:
    ids = f"{context.trace_id:032x}-{context.span_id:016x}"
    headers = {PARENT: f"00-{ids}-{int(context.trace_flags):02x}"}
    if context.trace_state:
        headers[STATE] = context.trace_state.to_header()
    return headers
