"""Opens the two ports. What answers on them is made elsewhere."""

import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from yarl import URL

from proxy.app_admin import LARGEST_BODY, AdminRooms
from proxy.handlers.admin import make_admin
from proxy.handlers.admin_runner import AdminRunner
from proxy.handlers.console import Console
from proxy.handlers.entry import Entry
from proxy.handlers.fast_lane import Lane
from proxy.handlers.lane_server import LaneServer
from proxy.handlers.limits import ConnectionLimit
from proxy.handlers.operations import Operations
from proxy.handlers.passthrough import SERVER_OPTIONS, Passthrough
from proxy.settings import Settings
from proxy.workers.listeners import refused

SHUTDOWN_S = 10.0
BACKLOG = 1024
"""Connections that wait to be accepted while workers come and go."""
_KEEPALIVE_S = 75.0
"""Longer than the usual reverse proxy keeps its idle connections, so that we never close first."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """What one of several workers has in place of ports of its own.

    `sockets` listen already, at `url`. Its admin port is a Unix socket at
    `admin_path`, which wants `admin_token` whatever the settings say. At `state_path`
    the workers keep in memory what is in force, for each other and for the next one.
    """

    sockets: Sequence[socket.socket]
    url: URL
    admin_path: Path
    admin_token: str
    state_path: Path | None = None


class PublicPort:
    """Where the frontend comes in, and how to leave it to others."""

    def __init__(
        self, url: URL, runner: web.ServerRunner, server: LaneServer, passthrough: Passthrough
    ) -> None:
        self.url = url
        self._runner = runner
        self._server = server
        self._passthrough = passthrough

    async def drain(self, grace_s: float) -> None:
        """Accept nothing more, and answer what still comes on the connections there are.

        Idle ones stay open for `grace_s`; what is under way has SHUTDOWN_S beyond that.
        """
        for site in self._runner.sites:
            await site.stop()
        self._passthrough.hang_up()
        await self._server.drain(grace_s, grace_s + SHUTDOWN_S)

    @property
    def is_draining(self) -> bool:
        return self._server.is_draining

    def hurry(self) -> None:
        """Have `drain` wait no longer."""
        self._server.hurry()


async def listen(
    stack: AsyncExitStack,
    entry: Entry,
    lane: Lane,
    passthrough: Passthrough,
    settings: Settings,
    inherited: Inherited | None = None,
) -> PublicPort:
    """The public port, until the stack unwinds; what it has begun it answers first."""
    server = LaneServer(
        entry,
        lane,
        access_log=None,
        keepalive_timeout=_KEEPALIVE_S,
        connections=ConnectionLimit(settings.max_connections_per_address),
        **SERVER_OPTIONS,
    )
    runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    stack.callback(passthrough.hang_up)
    if inherited is not None:
        url = inherited.url
        for listener in inherited.sockets:
            await web.SockSite(runner, listener, backlog=BACKLOG).start()
    else:
        url = await bound(runner, settings.host, settings.port, "PROXY_HOST, PROXY_PORT")
    return PublicPort(url, runner, server, passthrough)


async def listen_admin(
    stack: AsyncExitStack,
    operations: Operations,
    admin: AdminRooms,
    settings: Settings,
    inherited: Inherited | None = None,
) -> URL:
    """The admin port, until the stack unwinds."""
    app = web.Application()
    app.add_routes(operations.routes())
    app.add_routes(Console().routes())
    if inherited is not None:
        app.add_subapp("/admin", make_admin(admin.rooms, inherited.admin_token, LARGEST_BODY))
    else:
        app.add_subapp("/admin", admin.application(settings))
    runner = AdminRunner(
        app, access_log=None, shutdown_timeout=SHUTDOWN_S, keepalive_timeout=_KEEPALIVE_S
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    if inherited is not None:
        await web.UnixSite(runner, inherited.admin_path).start()
        return URL.build(scheme="http", host="worker")
    return await bound(
        runner, settings.admin_host, settings.admin_port, "PROXY_ADMIN_HOST, PROXY_ADMIN_PORT"
    )


async def bound(runner: web.BaseRunner, host: str, port: int, variables: str) -> URL:
    """Where `runner` listens now. Raises SettingsError that names `variables`."""
    try:
        await web.TCPSite(runner, host, port).start()
    except (OSError, ValueError) as error:
        raise refused(host, port, error, variables) from error
    return URL.build(scheme="http", host=host, port=runner.addresses[-1][1])
