"""The SDK's provider as this proxy wants it: its name, its ids, and what is always recorded."""

import os
import uuid
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider, sampling
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes

from proxy import __version__


def make_provider(processor: SpanProcessor) -> TracerProvider:
    """Named by the environment, else `dashboard-proxy`; each process is an instance of its own."""
    pid = os.getpid()
    own: dict[str, str | int] = {
        "service.name": "dashboard-proxy",
        "service.version": __version__,
        "service.instance.id": f"{pid}-{uuid.uuid4().hex}",
        "process.pid": pid,
    }
    given = OTELResourceDetector().detect().attributes
    resource = Resource.create({name: own[name] for name in own if name not in given})
    provider = TracerProvider(resource=resource, id_generator=DrawnIds(), shutdown_on_exit=False)
    provider.sampler = WithItsCause(provider.sampler)
    provider.add_span_processor(processor)
    return provider


class WithItsCause(sampling.Sampler):
    """Records what is linked to a recorded span; asks `sampler` about all else."""

    def __init__(self, sampler: sampling.Sampler) -> None:
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> sampling.SamplingResult:
        sampler = sampling.ALWAYS_ON if _is_caused(links) else self._sampler
        return sampler.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        return f"WithItsCause{{{self._sampler.get_description()}}}"


def _is_caused(links: Sequence[Link] | None) -> bool:
    return links is not None and any(link.context.trace_flags.sampled for link in links)


class DrawnIds(RandomIdGenerator):
    """Random ids. A trace may be given the one that its sampler was asked about already."""

    def __init__(self) -> None:
        self._given: int | None = None

    def give(self, trace_id: int) -> None:
        """The trace that begins next has this id."""
        self._given = trace_id

    def generate_trace_id(self) -> int:
        given, self._given = self._given, None
        return super().generate_trace_id() if given is None else given
