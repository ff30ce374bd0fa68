"""The composition root: a proxy from its settings. Each part is made in an `app_` file."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from yarl import URL

from proxy.app_ground import open_ground
from proxy.app_listening import Inherited, PublicPort, listen, listen_admin
from proxy.app_migration import compose_migration
from proxy.app_operators import make_operators
from proxy.app_path import make_read_path
from proxy.app_public import make_public
from proxy.background import Background
from proxy.clock import Clock, SystemClock
from proxy.jobs import Jobs
from proxy.read_through import ReadThrough
from proxy.settings import Settings
from proxy.telemetry import Telemetry
from proxy.tracing.tracer import Tracer
from proxy.warmup import Warmup
from proxy.watermarks import Watermarks

log = structlog.get_logger(__name__)


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
    async with AsyncExitStack() as stack:
        ground = await open_ground(stack, settings, clock or SystemClock(), tracer, inherited)
        path = make_read_path(ground)
        migration = await compose_migration(ground, path)
        public = make_public(ground, path, migration)
        operators = await make_operators(stack, ground, path, migration, public)
        ground.background.spawn(path.watermarks.follow(), name="follow", endless=True)
        ground.background.spawn(operators.warmup.follow(), name="warm-up", endless=True)
        admin_url = await listen_admin(
            stack, operators.operations, operators.rooms, settings, inherited
        )
        port = await listen(
            stack, public.entry, public.lane, public.passthrough, settings, inherited
        )
        stack.callback(ground.console.hang_up)
        operators.openapi.public_url = port.url
        log.info(
            "listening" if inherited is None else "worker_listening",
            url=str(port.url),
            admin=str(admin_url),
            database=str(ground.database.path),
        )
        yield Running(
            port.url,
            admin_url,
            path.read_through,
            path.watermarks,
            ground.telemetry,
            ground.background,
            operators.warmup,
            operators.jobs,
            port,
        )
        log.info("stopping")
