"""The composition root: the only file that knows every part. Construction happens here."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import structlog
from yarl import URL

from proxy.app_access import make_doorman
from proxy.app_admin import make_admin_rooms
from proxy.app_cached import compose_cached_routes, no_load_kept
from proxy.app_checks import database_check, legacy_check, redis_check
from proxy.app_console import ConsoleParts
from proxy.app_listening import SHUTDOWN_S, Inherited, PublicPort, listen, listen_admin
from proxy.app_migration import compose_migration, open_records
from proxy.app_openapi import make_openapi
from proxy.app_shadow import open_yardstick
from proxy.app_start import check_database, refuse_open_admin, secret_of
from proxy.app_tracing import Tracing, open_tracing
from proxy.backends.database import Database
from proxy.backends.legacy import LegacyBackend
from proxy.backends.looks import SqliteLooks
from proxy.backends.sqlite import SqliteBackend
from proxy.background import Background
from proxy.cache.duty import OwnDuty
from proxy.cache.memory import MemoryStore
from proxy.cache.redis import RedisStore
from proxy.cache.redis_duty import RedisDuty
from proxy.cache.redis_leases import RedisLeases
from proxy.cache.tiered import TieredStore
from proxy.canonical import Limits
from proxy.clock import Clock, SystemClock
from proxy.errors import SettingsError, StoreError
from proxy.explaining import Explainer
from proxy.handlers.bypass import Bypass
from proxy.handlers.cors import Cors
from proxy.handlers.dashboard import Dashboard
from proxy.handlers.encodings import Encodings
from proxy.handlers.fast_lane import Lane
from proxy.handlers.front import Front
from proxy.handlers.operations import Operations
from proxy.handlers.passthrough import Passthrough
from proxy.handlers.upstream import open_legacy_session
from proxy.handlers.variants import Variants
from proxy.jobs import Jobs
from proxy.read_through import ReadThrough
from proxy.settings import Settings, environment
from proxy.shapes import make_shapes
from proxy.shared_flight import SharedFlight
from proxy.single_flight import SingleFlight
from proxy.telemetry import Telemetry
from proxy.tracing.tracer import Tracer
from proxy.warmup import Warmup
from proxy.watermarks import Watermarks

log = structlog.get_logger(__name__)

_LEASE_TTL_S = 5.0


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy that listens: where, and the parts that tests and the demo look at."""

    url: URL
    admin_url: URL
    read_through: ReadThrough
    watermarks: Watermarks
    telemetry: Telemetry
    background: Background
    warmup: Warmup
    jobs: Jobs
    port: PublicPort


@asynccontextmanager
async def run_proxy(
    settings: Settings,
    clock: Clock | None = None,
    inherited: Inherited | None = None,
    tracer: Tracer | None = None,
) -> AsyncIterator[Running]:
    """A proxy that listens while the context lasts; what it has begun it answers on the way out.

    With `inherited` it is one of several workers and has no ports of its own. Raises
    SettingsError when the database is there but is not what it has to be, or a port is taken.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        if settings.database is None:
            raise SettingsError("PROXY_DATABASE is required: the path of the pre-computed tables")
        refuse_open_admin(settings)
        database = Database(settings.database, settings.meta_database)
        check_database(database)
        tracing = Tracing(tracer or await open_tracing(stack, environment(), clock))
        telemetry = Telemetry()
        shapes = make_shapes(settings.extra_fields)
        looks = await stack.enter_async_context(
            SqliteLooks(database, telemetry, clock, timeout_s=settings.query_timeout_s)
        )
        console = stack.enter_context(ConsoleParts(settings, database, looks, telemetry, clock))
        backend = await stack.enter_async_context(
            SqliteBackend(
                database,
                shapes,
                telemetry,
                clock,
                rate_mode=settings.rate_mode,
                timeout_s=settings.query_timeout_s,
                # With a legacy to ask instead, a locked database is not waited for long.
                lock_patience_s=settings.query_timeout_s if settings.legacy_url is None else 0.5,
            )
        )
        memory = MemoryStore(settings.memory_mb * 2**20, telemetry)
        redis = None
        if settings.redis_url is not None:
            redis = await stack.enter_async_context(
                RedisStore(
                    str(settings.redis_url),
                    telemetry=telemetry,
                    clock=clock,
                    entry_ttl_s=settings.entry_ttl_s,
                )
            )
            with suppress(StoreError):
                # So that the first questions find a connection that is there.
                await redis.ping()
        records = await open_records(
            stack, settings, None if redis is None else redis.connection, telemetry, clock
        )
        yardstick = await open_yardstick(stack, settings, database, shapes, telemetry, clock)
        session = await stack.enter_async_context(open_legacy_session())
        # After all that its tasks use: they end before that is closed.
        background = await stack.enter_async_context(Background(drain_s=SHUTDOWN_S))
        store = TieredStore(memory, tracing.store(redis), telemetry, background)
        shared = None
        if redis is not None:
            leases = RedisLeases(
                redis.connection, entry_ttl_s=settings.entry_ttl_s, lease_ttl_s=_LEASE_TTL_S
            )
            shared = SharedFlight(
                tracing.leases(leases),
                store,
                background,
                telemetry,
                clock,
                wait_s=settings.query_timeout_s,
                renew_s=_LEASE_TTL_S / 3,
                new_token=lambda: uuid.uuid4().hex,
            )
        legacy_url = None if settings.legacy_url is None else URL(str(settings.legacy_url))
        legacy = None
        if legacy_url is not None:
            legacy = LegacyBackend(
                legacy_url, session, shapes, clock,
                timeout_s=settings.legacy_timeout_s, tracer=tracing.tracer,
            )  # fmt: skip
        watermarks = Watermarks(
            tracing.looks(console.looks),
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
            tracing.backend(backend),
            legacy,
            telemetry,
            clock,
            shared=shared,
        )
        passthrough = Passthrough(
            legacy_url=legacy_url,
            session=session,
            telemetry=telemetry,
            timeout_s=settings.legacy_timeout_s,
            tracer=tracing.tracer,
        )
        migration = await compose_migration(
            settings, records, yardstick, background, read_through, watermarks, shapes,
            legacy_url, session, telemetry, clock, tracing.tracer,
        )  # fmt: skip
        steering = migration.steering
        doorman = make_doorman(settings, session, background, clock, tracing.tracer)
        lane = Lane(
            read_through, telemetry, clock,
            shadow=migration.shadow, doorman=doorman, tracer=tracing.tracer,
        )  # fmt: skip
        migration.listen(telemetry, lane.forget)
        encodings = Encodings(SingleFlight(background), store.keep_encoding)
        dashboard = Dashboard(
            read_through,
            Bypass(passthrough, telemetry, clock),
            encodings,
            lane,
            telemetry,
            clock,
            limits=Limits(settings.max_range_days),
            cors=Cors(frozenset(settings.cors_origins)),
            variants=Variants(
                lambda: steering.split,
                lambda: steering.state.rolled_back,
                has_legacy=legacy is not None,
                allow_override=settings.split.allow_override,
                admin_token=secret_of(settings.admin_token),
            ),
            has_legacy=legacy is not None,
            sampling=migration.sampling,
            doorman=doorman,
        )
        operations = Operations(
            telemetry,
            {
                "database": database_check(looks, watermarks),
                "redis": redis_check(redis),
                "legacy": legacy_check(legacy_url, legacy),
            },
        )
        jobs = await stack.enter_async_context(Jobs(background, clock))
        warmup = Warmup(
            read_through,
            watermarks,
            memory,
            jobs,
            OwnDuty() if redis is None else RedisDuty(redis.connection, "warm"),
            clock,
            fingerprint=backend.fingerprint,
            breakdowns=backend.breakdowns,
            written=store.written,
        )
        cached_routes = compose_cached_routes(
            settings, legacy_url, session, passthrough, watermarks, store, encodings,
            background, telemetry, clock, doorman, tracing.tracer,
        )  # fmt: skip
        admin = make_admin_rooms(
            settings,
            watermarks=watermarks,
            store=store,
            memory=memory,
            explainer=Explainer(
                watermarks,
                store,
                backend.fingerprint,
                has_legacy=legacy is not None,
                split_percent=lambda: steering.state.percent_in_force,
            ),
            warmup=warmup,
            jobs=jobs,
            before_purge=no_load_kept(read_through, cached_routes),
            sources=operations.sources,
            telemetry=telemetry,
            clock=clock,
        )
        migration.furnish(admin)
        console.furnish(admin, watermarks, background)
        openapi = make_openapi(lambda: settings)
        admin.rooms.append(openapi)
        front = Front(
            dashboard,
            passthrough,
            telemetry,
            clock,
            cached_routes=cached_routes,
            doorman=doorman,
            cors=Cors(frozenset(settings.cors_origins)),
        )
        background.spawn(watermarks.follow(), name="follow", endless=True)
        background.spawn(warmup.follow(), name="warm-up", endless=True)
        admin_url = await listen_admin(stack, operations, admin, settings, inherited)
        entry = tracing.entry(front, cached_routes)
        port = await listen(stack, entry, lane, passthrough, settings, inherited)
        stack.callback(console.hang_up)
        url = port.url
        openapi.public_url = url
        event = "listening" if inherited is None else "worker_listening"
        log.info(event, url=str(url), admin=str(admin_url), database=str(database.path))
        yield Running(
            url, admin_url, read_through, watermarks, telemetry, background, warmup, jobs, port
        )
        log.info("stopping")
