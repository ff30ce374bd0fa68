"""Makes what answers on the public port: the lane, our routes, and the way to all else."""

from dataclasses import dataclass

from proxy.app_access import make_doorman
from proxy.app_cached import compose_cached_routes
from proxy.app_ground import Ground
from proxy.app_migration import Migration
from proxy.app_path import ReadPath
from proxy.app_start import secret_of
from proxy.canonical import Limits
from proxy.handlers.bypass import Bypass
from proxy.handlers.cached_routes import CachedRoutes
from proxy.handlers.cors import Cors
from proxy.handlers.dashboard import Dashboard
from proxy.handlers.encodings import Encodings
from proxy.handlers.entry import Entry
from proxy.handlers.fast_lane import Lane
from proxy.handlers.front import Front
from proxy.handlers.passthrough import Passthrough
from proxy.handlers.variants import Variants
from proxy.single_flight import SingleFlight


@dataclass(frozen=True, slots=True)
class Public:
    entry: Entry
    lane: Lane
    passthrough: Passthrough
    cached_routes: CachedRoutes | None


def make_public(ground: Ground, path: ReadPath, migration: Migration) -> Public:
    telemetry, clock, tracer = ground.telemetry, ground.clock, ground.tracing.tracer
    settings = ground.settings
    passthrough = Passthrough(
        legacy_url=ground.legacy_url,
        session=ground.session,
        telemetry=telemetry,
        timeout_s=settings.legacy_timeout_s,
        tracer=tracer,
    )
    doorman = make_doorman(ground)
    lane = Lane(
        path.read_through,
        telemetry,
        clock,
        shadow=migration.shadow,
        doorman=doorman,
        tracer=tracer,
    )
    migration.listen(telemetry, lane.forget)
    encodings = Encodings(SingleFlight(ground.background), path.store.keep_encoding)
    cors = Cors(frozenset(settings.cors_origins))
    dashboard = Dashboard(
        path.read_through,
        Bypass(passthrough, telemetry, clock),
        encodings,
        lane,
        telemetry,
        clock,
        limits=Limits(settings.max_range_days),
        cors=cors,
        variants=_variants(ground, migration),
        has_legacy=ground.legacy_url is not None,
        sampling=migration.sampling,
        doorman=doorman,
    )
    cached_routes = compose_cached_routes(ground, path, passthrough, encodings, doorman)
    front = Front(
        dashboard,
        passthrough,
        telemetry,
        clock,
        cached_routes=cached_routes,
        doorman=doorman,
        cors=cors,
    )
    return Public(ground.tracing.entry(front, cached_routes), lane, passthrough, cached_routes)


def _variants(ground: Ground, migration: Migration) -> Variants:
    steering = migration.steering
    return Variants(
        lambda: steering.split,
        lambda: steering.state.rolled_back,
        has_legacy=ground.legacy_url is not None,
        allow_override=ground.settings.split.allow_override,
        admin_token=secret_of(ground.settings.admin_token),
    )
