"""Composes a supervisor: the ports, which it holds for good, and the workers that serve them."""

import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from yarl import URL

from proxy.app_admin import LARGEST_BODY
from proxy.app_listening import bound
from proxy.app_openapi import make_openapi
from proxy.app_start import refuse_open_admin, secret_of
from proxy.background import Background
from proxy.clock import Clock, SystemClock
from proxy.errors import SettingsError
from proxy.handlers.admin_live import AdminLive
from proxy.handlers.admin_runner import AdminRunner
from proxy.handlers.console import Console
from proxy.handlers.workers_admin import WorkersAdmin, make_workers_admin
from proxy.handlers.workers_operations import WorkerMetrics, WorkersOperations
from proxy.handlers.workers_overview import WorkersOverview
from proxy.settings import Settings
from proxy.telemetry import GAUGES
from proxy.workers.listeners import bind
from proxy.workers.orders import Orders
from proxy.workers.post import USUAL, Plan, Times
from proxy.workers.process import WorkerProcess
from proxy.workers.supervisor import Supervisor
from proxy.workers.totals import Totals

_LONGEST_FOLDER = 80
"""The path of a Unix socket has room for about 100 bytes."""
_LAST_WORDS_S = 2.0


@dataclass(frozen=True, slots=True)
class Supervised:
    """A supervisor and its ports. The workers come with `supervisor.start`."""

    url: URL
    admin_url: URL
    supervisor: Supervisor


@asynccontextmanager
async def supervise(
    plan: Plan, given: Mapping[str, Any], *, clock: Clock | None = None, times: Times = USUAL
) -> AsyncIterator[Supervised]:
    """The ports, held while the context lasts; on the way out the workers leave first.

    `given` are options of the command line, which each worker reads beside the file of
    its plan. Raises SettingsError.
    """
    clock = clock or SystemClock()
    settings = plan.settings
    refuse_open_admin(settings)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(_own_folder())
        listeners = await bind(settings.host, settings.port)
        for listener in listeners:
            stack.callback(listener.close)
        port = listeners[-1].getsockname()[1]
        url = URL.build(scheme="http", host=settings.host, port=port)
        background = await stack.enter_async_context(Background())
        token = secrets.token_hex(32)

        async def launch(plan: Plan, number: int) -> WorkerProcess:
            orders = Orders(
                number=number,
                config=plan.config,
                text=plan.text,
                given=given,
                listeners=tuple(listener.fileno() for listener in listeners),
                url=str(url),
                admin_path=str(folder / f"{number}.sock"),
                admin_token=token,
                grace_s=times.grace_s,
                leave_s=times.leave_s,
            )
            return await WorkerProcess.start(orders, listeners)

        metrics = WorkerMetrics()
        supervisor = Supervisor(
            plan, launch, Totals(GAUGES), background, clock,
            times=times, restarted=metrics.restarted,
        )  # fmt: skip
        app = _admin(supervisor, metrics, stack, background, clock, url)
        admin_url = await _listen_admin(stack, app, settings)
        stack.push_async_callback(supervisor.stop)
        yield Supervised(url, admin_url, supervisor)


def _admin(
    supervisor: Supervisor,
    metrics: WorkerMetrics,
    stack: AsyncExitStack,
    background: Background,
    clock: Clock,
    public_url: URL,
) -> web.Application:
    overview = WorkersOverview(supervisor)
    supervisor.before_drain = overview.remember
    admin = WorkersAdmin(supervisor, clock)
    live = AdminLive(
        overview.snapshot, background, pipeline=overview.pipeline, audit=admin.newest_record
    )
    stack.callback(live.close)
    # A worker does not know by which address its supervisor was asked.
    openapi = make_openapi(lambda: supervisor.plan.settings)
    openapi.public_url = public_url
    app = web.Application()
    app.add_routes(WorkersOperations(supervisor, metrics).routes())
    app.add_routes(Console().routes())

    def token() -> str | None:
        return secret_of(supervisor.plan.settings.admin_token)

    # What answers all that the others do not comes last.
    app.add_subapp("/admin", make_workers_admin([live, openapi, admin], token, LARGEST_BODY))
    return app


async def _listen_admin(stack: AsyncExitStack, app: web.Application, settings: Settings) -> URL:
    runner = AdminRunner(app, access_log=None, shutdown_timeout=_LAST_WORDS_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, settings.admin_host, settings.admin_port)
    return await bound(site, settings.admin_host, runner, "PROXY_ADMIN_HOST, PROXY_ADMIN_PORT")


@contextmanager
def _own_folder() -> Iterator[Path]:
    """For the workers' own admin ports: nobody else may look in. Raises SettingsError."""
    try:
        made = tempfile.mkdtemp(prefix="dashboard-proxy-")
        if len(made) > _LONGEST_FOLDER:
            shutil.rmtree(made)
            made = tempfile.mkdtemp(prefix="dashboard-proxy-", dir="/tmp")
    except OSError as error:
        raise SettingsError(
            f"PROXY_WORKERS above 1 needs a directory for temporary files (TMPDIR): {error}"
        ) from error
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)
