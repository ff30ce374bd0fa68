"""Composes the cached legacy routes, where any are configured."""

from collections.abc import Callable

import aiohttp
from yarl import URL

from proxy.access.doorman import Doorman
from proxy.background import Background
from proxy.cache.tiered import TieredStore
from proxy.cached_answers import CachedAnswers
from proxy.clock import Clock
from proxy.handlers.cached_routes import CachedRoutes
from proxy.handlers.encodings import Encodings
from proxy.handlers.passthrough import Passthrough
from proxy.handlers.whole_reply import LegacyDesk
from proxy.read_through import ReadThrough
from proxy.settings import Settings
from proxy.single_flight import SingleFlight
from proxy.telemetry import Telemetry
from proxy.tracing.tracer import NO_TRACING, Tracer
from proxy.watermarks import Watermarks


def compose_cached_routes(
    settings: Settings,
    legacy_url: URL | None,
    session: aiohttp.ClientSession,
    passthrough: Passthrough,
    watermarks: Watermarks,
    store: TieredStore,
    encodings: Encodings,
    background: Background,
    telemetry: Telemetry,
    clock: Clock,
    doorman: Doorman | None = None,
    tracer: Tracer = NO_TRACING,
) -> CachedRoutes | None:
    """None where nothing is configured. Raises SettingsError for routes that cannot be."""
    if legacy_url is None or not settings.cached_routes:
        return None
    timeout_s = settings.legacy_timeout_s
    return CachedRoutes(
        settings.cached_routes,
        CachedAnswers(
            watermarks, store, SingleFlight(background, tracer), clock, timeout_s=timeout_s
        ),
        LegacyDesk(legacy_url, session, timeout_s=timeout_s, tracer=tracer),
        passthrough,
        encodings,
        telemetry,
        clock,
        site=str(legacy_url.with_password(None)),
        max_range_days=settings.max_range_days,
        doorman=doorman,
    )


def no_load_kept(
    read_through: ReadThrough, cached_routes: CachedRoutes | None
) -> Callable[[], None]:
    """What keeps the loads of both paths that are under way from being kept."""

    def keep_no_load_under_way() -> None:
        read_through.keep_no_load_under_way()
        if cached_routes is not None:
            cached_routes.keep_no_load_under_way()

    return keep_no_load_under_way
