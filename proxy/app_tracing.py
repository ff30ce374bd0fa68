"""Composes tracing, where the environment asks for it. Only then is OpenTelemetry imported."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

import structlog

from proxy.cache.lease import Leases
from proxy.cache.store import SharedStore
from proxy.clock import Clock
from proxy.handlers.cached_routes import CachedRoutes
from proxy.handlers.entry import Entry
from proxy.handlers.front import Front
from proxy.looks import Looks
from proxy.read_through import FingerprintedBackend
from proxy.tracing.traced import TracedBackend, TracedLeases, TracedLooks, TracedStore
from proxy.tracing.tracer import NO_TRACING, Tracer
from proxy.tracing.wanted import Unsupported, wants_tracing

EXTRA = "dashboard-proxy[otel]"

log = structlog.get_logger(__name__)


class Tracing:
    """What is traced, wrapped where `tracer` is on. Off, each part is handed back as it came."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer

    def store(self, store: SharedStore | None) -> SharedStore | None:
        if store is None or not self.tracer.is_on:
            return store
        return TracedStore(store, self.tracer)

    def leases(self, leases: Leases) -> Leases:
        return TracedLeases(leases, self.tracer) if self.tracer.is_on else leases

    def looks(self, looks: Looks) -> Looks:
        return TracedLooks(looks, self.tracer) if self.tracer.is_on else looks

    def backend(self, backend: FingerprintedBackend) -> FingerprintedBackend:
        return TracedBackend(backend, self.tracer) if self.tracer.is_on else backend

    def entry(self, front: Front, cached_routes: CachedRoutes | None) -> Entry:
        """The public port's handler. Without tracing too: each request has its id and its place."""
        if cached_routes is None:
            return Entry(front, self.tracer)
        return Entry(front, self.tracer, cached_routes.find)


async def open_tracing(stack: AsyncExitStack, environ: Mapping[str, str], clock: Clock) -> Tracer:
    """Where it cannot be done that is said once, and the proxy runs: answers need no traces."""
    wanted = wants_tracing(environ)
    if isinstance(wanted, Unsupported):
        log.warning("no_traces", name=wanted.name, value=wanted.value, may_be=wanted.may_be)
        return NO_TRACING
    if not wanted:
        return NO_TRACING
    try:
        from proxy.tracing.export import exporting
        from proxy.tracing.otel import OtelTracer
    except ImportError as error:
        why = f"{EXTRA} is not installed: pip install '{EXTRA}'"
        log.warning("no_traces", why=why, error=str(error))
        return NO_TRACING
    try:
        provider = await stack.enter_async_context(exporting(clock))
    except (ValueError, TypeError, OSError) as error:
        log.warning("no_traces", why="a variable OTEL_… cannot be", error=str(error))
        return NO_TRACING
    log.info("tracing", service=str(provider.resource.attributes.get("service.name")))
    return OtelTracer(provider)
