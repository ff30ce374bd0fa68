"""A collector of OpenTelemetry on loopback: takes spans over OTLP/HTTP, or refuses, or hangs."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span
from yarl import URL


@dataclass
class Collector:
    """`status` is what it answers with. While `may_answer` is not set it answers nothing."""

    url: URL = field(default_factory=URL)
    status: int = 200
    taken: list[ResourceSpans] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        self.heads.append({name.lower(): value for name, value in request.headers.items()})
        await self.may_answer.wait()
        if self.status == 200:
            assert request.path == "/v1/traces", request.path
            self.taken.extend(ExportTraceServiceRequest.FromString(body).resource_spans)
        return web.Response(status=self.status)

    def spans(self) -> Iterator[Span]:
        for resource in self.taken:
            for scope in resource.scope_spans:
                yield from scope.spans

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans() if span.name == name]

    def resources(self) -> list[dict[str, str | int]]:
        """Of each batch: who sent it."""
        return [fields(resource.resource.attributes) for resource in self.taken]


def fields(attributes: Sequence[KeyValue]) -> dict[str, str | int]:
    found: dict[str, str | int] = {}
    for pair in attributes:
        value = pair.value
        is_text = value.HasField("string_value")
        found[pair.key] = value.string_value if is_text else value.int_value
    return found


@asynccontextmanager
async def collecting(*, hangs: bool = False, port: int = 0) -> AsyncIterator[Collector]:
    collector = Collector()
    if not hangs:
        collector.may_answer.set()
    runner = web.ServerRunner(web.Server(collector, access_log=None), shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        collector.url = URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1])
        yield collector
    finally:
        collector.may_answer.set()
        await runner.cleanup()
