"""Composes the cached legacy routes, where any are configured."""

from collections.abc import Callable

from proxy.access.doorman import Doorman
from proxy.app_ground import Ground
from proxy.app_path import ReadPath
from proxy.cached_answers import CachedAnswers
from proxy.handlers.cached_routes import CachedRoutes
from proxy.handlers.encodings import Encodings
from proxy.handlers.passthrough import Passthrough
from proxy.handlers.whole_reply import LegacyDesk
from proxy.read_through import ReadThrough
from proxy.single_flight import SingleFlight


def compose_cached_routes(
    ground: Ground,
    path: ReadPath,
    passthrough: Passthrough,
    encodings: Encodings,
    doorman: Doorman | None,
) -> CachedRoutes | None:
    """None where nothing is configured. Raises SettingsError for routes that cannot be."""
    settings, legacy_url, tracer = ground.settings, ground.legacy_url, ground.tracing.tracer
    if legacy_url is None or not settings.cached_routes:
        return None
    timeout_s = settings.legacy_timeout_s
    return CachedRoutes(
        settings.cached_routes,
        CachedAnswers(
            path.watermarks,
            path.store,
            SingleFlight(ground.background, tracer),
            ground.clock,
            timeout_s=timeout_s,
        ),
        LegacyDesk(legacy_url, ground.session, timeout_s=timeout_s, tracer=tracer),
        passthrough,
        encodings,
        ground.telemetry,
        ground.clock,
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
