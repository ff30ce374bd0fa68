"""Opens what all parts stand on, in the order in which it must be closed."""

from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

import aiohttp
from yarl import URL

from proxy.app_console import ConsoleParts
from proxy.app_listening import SHUTDOWN_S, Inherited
from proxy.app_records import Records, open_records
from proxy.app_start import check_database, refuse_open_admin
from proxy.app_tracing import Tracing, open_tracing
from proxy.app_yardstick import Yardstick, open_yardstick
from proxy.backends.database import Database
from proxy.backends.looks import SqliteLooks
from proxy.backends.sqlite import SqliteBackend
from proxy.background import Background
from proxy.cache.memory import MemoryStore
from proxy.cache.redis import RedisStore
from proxy.clock import Clock
from proxy.errors import SettingsError, StoreError
from proxy.handlers.upstream import open_legacy_session
from proxy.query import ShapeName
from proxy.settings import Settings, environment
from proxy.shapes import Shape, make_shapes
from proxy.telemetry import Telemetry
from proxy.tracing.tracer import Tracer


@dataclass(frozen=True, slots=True)
class Ground:
    """The settings, and every resource. `background` is closed first: its tasks use the others."""

    settings: Settings
    clock: Clock
    telemetry: Telemetry
    tracing: Tracing
    shapes: dict[ShapeName, Shape]
    legacy_url: URL | None
    database: Database
    looks: SqliteLooks
    backend: SqliteBackend
    memory: MemoryStore
    redis: RedisStore | None
    console: ConsoleParts
    records: Records
    yardstick: Yardstick | None
    session: aiohttp.ClientSession
    background: Background


async def open_ground(
    stack: AsyncExitStack,
    settings: Settings,
    clock: Clock,
    tracer: Tracer | None,
    inherited: Inherited | None,
) -> Ground:
    """Raises SettingsError when the database is there but is not what it has to be."""
    if settings.database is None:
        raise SettingsError("PROXY_DATABASE is required: the path of the pre-computed tables")
    refuse_open_admin(settings)
    database = Database(settings.database, settings.meta_database)
    check_database(database)
    tracing = Tracing(tracer or await open_tracing(stack, environment(), clock))
    telemetry = Telemetry()
    shapes = make_shapes(settings.extra_fields)
    timeout_s = settings.query_timeout_s
    looks = await stack.enter_async_context(
        SqliteLooks(database, telemetry, clock, timeout_s=timeout_s)
    )
    console = stack.enter_context(ConsoleParts(settings, database, looks, telemetry, clock))
    backend = await stack.enter_async_context(
        SqliteBackend(
            database,
            shapes,
            telemetry,
            clock,
            rate_mode=settings.rate_mode,
            timeout_s=timeout_s,
            # With a legacy to ask instead, a locked database is not waited for long.
            lock_patience_s=timeout_s if settings.legacy_url is None else 0.5,
        )
    )
    redis = await _open_redis(stack, settings, telemetry, clock)
    connection = None if redis is None else redis.connection
    workers_path = None if inherited is None else inherited.state_path
    records = await open_records(stack, settings, connection, telemetry, clock, workers_path)
    yardstick = await open_yardstick(stack, settings, database, shapes, telemetry, clock)
    session = await stack.enter_async_context(open_legacy_session())
    # After all that its tasks use: they end before that is closed.
    background = await stack.enter_async_context(Background(drain_s=SHUTDOWN_S))
    return Ground(
        settings=settings,
        clock=clock,
        telemetry=telemetry,
        tracing=tracing,
        shapes=shapes,
        legacy_url=None if settings.legacy_url is None else URL(str(settings.legacy_url)),
        database=database,
        looks=looks,
        backend=backend,
        memory=MemoryStore(settings.memory_mb * 2**20, telemetry),
        redis=redis,
        console=console,
        records=records,
        yardstick=yardstick,
        session=session,
        background=background,
    )


async def _open_redis(
    stack: AsyncExitStack, settings: Settings, telemetry: Telemetry, clock: Clock
) -> RedisStore | None:
    if settings.redis_url is None:
        return None
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
    return redis
