"""Composes a supervisor: the ports, which it holds for good, and the workers that serve them."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from yarl import URL

from proxy.app_admin import LARGEST_BODY
from proxy.app_listening import bound
from proxy.app_openapi import make_openapi
from proxy.app_start import refuse_open_admin, secret_of
from proxy.background import Background
from proxy.clock import Clock, SystemClock
from proxy.handlers.admin_live import AdminLive
from proxy.handlers.admin_runner import AdminRunner
from proxy.handlers.console import Console
from proxy.handlers.workers_admin import WorkersAdmin, make_workers_admin
from proxy.handlers.workers_operations import WorkerMetrics, WorkersOperations
from proxy.handlers.workers_overview import WorkersOverview
from proxy.settings import Settings
from proxy.telemetry import GAUGES
from proxy.workers.folders import own_folder, shared_folder, state_path
from proxy.workers.listeners import bind
from proxy.workers.orders import Orders
from proxy.workers.post import USUAL, Plan, Times
from proxy.workers.process import WorkerProcess
from proxy.workers.supervisor import Supervisor
from proxy.workers.totals import Totals

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
        folder = stack.enter_context(own_folder())
        shared = stack.enter_context(shared_folder(folder))
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
                state_path=str(state_path(shared, plan.settings.state)),
            )
            return await WorkerProcess.start(orders, listeners)

        metrics = WorkerMetrics()
        supervisor = Supervisor(
            plan, launch, Totals(GAUGES), background, clock,
            times=times, restarted=metrics.restarted,
        )  # fmt: skip
        overview = WorkersOverview(supervisor, clock)
        admin = WorkersAdmin(supervisor, clock)
        live = AdminLive(
            overview.snapshot, background, pipeline=overview.pipeline, audit=admin.newest_record
        )
        background.spawn(overview.follow(), name="history", endless=True)
        app = _operators(supervisor, metrics, live, admin, url)
        admin_url = await _listen_admin(stack, app, settings)
        # Before the port is closed: streams of events would hold that up.
        stack.callback(live.close)
        stack.push_async_callback(supervisor.stop)
        yield Supervised(url, admin_url, supervisor)


def _operators(
    supervisor: Supervisor,
    metrics: WorkerMetrics,
    live: AdminLive,
    admin: WorkersAdmin,
    public_url: URL,
) -> web.Application:
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
    return await bound(
        runner, settings.admin_host, settings.admin_port, "PROXY_ADMIN_HOST, PROXY_ADMIN_PORT"
    )
