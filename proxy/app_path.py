"""Makes the read path: the stores, who follows the pipeline, and what puts them in order."""

import uuid
from dataclasses import dataclass

from proxy.app_ground import Ground
from proxy.backends.legacy import LegacyBackend
from proxy.cache.redis_leases import RedisLeases
from proxy.cache.tiered import TieredStore
from proxy.read_through import ReadThrough
from proxy.shared_flight import SharedFlight
from proxy.single_flight import SingleFlight
from proxy.watermarks import Watermarks

_LEASE_TTL_S = 5.0


@dataclass(frozen=True, slots=True)
class ReadPath:
    store: TieredStore
    watermarks: Watermarks
    legacy: LegacyBackend | None
    read_through: ReadThrough


def make_read_path(ground: Ground) -> ReadPath:
    settings, tracing, clock = ground.settings, ground.tracing, ground.clock
    telemetry, background = ground.telemetry, ground.background
    store = TieredStore(ground.memory, tracing.store(ground.redis), telemetry, background)
    legacy = None
    if ground.legacy_url is not None:
        legacy = LegacyBackend(
            ground.legacy_url,
            ground.session,
            ground.shapes,
            clock,
            timeout_s=settings.legacy_timeout_s,
            tracer=tracing.tracer,
        )
    watermarks = Watermarks(
        tracing.looks(ground.console.looks),
        background,
        telemetry,
        clock,
        is_strict=settings.freshness == "strict",
        poll_s=settings.poll_ms / 1000,
        rebuild_hold_s=settings.rebuild_hold_s,
    )
    read_through = ReadThrough(
        watermarks,
        store,
        SingleFlight(background, tracing.tracer),
        tracing.backend(ground.backend),
        legacy,
        telemetry,
        clock,
        shared=_shared_flight(ground, store),
    )
    return ReadPath(store, watermarks, legacy, read_through)


def _shared_flight(ground: Ground, store: TieredStore) -> SharedFlight | None:
    """What processes on one Redis agree by."""
    if ground.redis is None:
        return None
    settings = ground.settings
    leases = RedisLeases(
        ground.redis.connection, entry_ttl_s=settings.entry_ttl_s, lease_ttl_s=_LEASE_TTL_S
    )
    return SharedFlight(
        ground.tracing.leases(leases),
        store,
        ground.background,
        ground.telemetry,
        ground.clock,
        wait_s=settings.query_timeout_s,
        renew_s=_LEASE_TTL_S / 3,
        new_token=lambda: uuid.uuid4().hex,
    )
