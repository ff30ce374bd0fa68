"""Makes what answers on the admin port, and the warm-up that operators can ask for."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from proxy.app_admin import AdminRooms, make_admin_rooms
from proxy.app_cached import no_load_kept
from proxy.app_checks import database_check, legacy_check, redis_check
from proxy.app_ground import Ground
from proxy.app_migration import Migration
from proxy.app_openapi import make_openapi
from proxy.app_path import ReadPath
from proxy.app_public import Public
from proxy.cache.duty import OwnDuty
from proxy.cache.redis_duty import RedisDuty
from proxy.explaining import Explainer
from proxy.handlers.admin_openapi import AdminOpenapi
from proxy.handlers.operations import Operations
from proxy.jobs import Jobs
from proxy.warmup import Warmup


@dataclass(frozen=True, slots=True)
class Operators:
    operations: Operations
    rooms: AdminRooms
    openapi: AdminOpenapi
    jobs: Jobs
    warmup: Warmup


async def make_operators(
    stack: AsyncExitStack, ground: Ground, path: ReadPath, migration: Migration, public: Public
) -> Operators:
    settings, redis, backend = ground.settings, ground.redis, ground.backend
    operations = Operations(
        ground.telemetry,
        {
            "database": database_check(ground.looks, path.watermarks),
            "redis": redis_check(redis),
            "legacy": legacy_check(ground.legacy_url, path.legacy),
        },
    )
    jobs = await stack.enter_async_context(Jobs(ground.background, ground.clock))
    warmup = Warmup(
        path.read_through,
        path.watermarks,
        ground.memory,
        jobs,
        OwnDuty() if redis is None else RedisDuty(redis.connection, "warm"),
        ground.clock,
        fingerprint=backend.fingerprint,
        breakdowns=backend.breakdowns,
        written=path.store.written,
    )
    rooms = make_admin_rooms(
        settings,
        watermarks=path.watermarks,
        store=path.store,
        memory=ground.memory,
        explainer=Explainer(
            path.watermarks,
            path.store,
            backend.fingerprint,
            has_legacy=ground.legacy_url is not None,
            split_percent=lambda: migration.steering.state.percent_in_force,
        ),
        warmup=warmup,
        jobs=jobs,
        before_purge=no_load_kept(path.read_through, public.cached_routes),
        sources=operations.sources,
        telemetry=ground.telemetry,
        clock=ground.clock,
    )
    migration.furnish(rooms)
    ground.console.furnish(rooms, path.watermarks, ground.background)
    openapi = make_openapi(lambda: settings)
    rooms.rooms.append(openapi)
    return Operators(operations, rooms, openapi, jobs, warmup)
