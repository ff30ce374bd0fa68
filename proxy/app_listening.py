"""Opens the two ports. What answers on them is made in app.py."""

import os
from contextlib import AsyncExitStack

from aiohttp import web
from yarl import URL

from proxy.app_admin import AdminRooms
from proxy.errors import SettingsError
from proxy.handlers.fast_lane import Lane
from proxy.handlers.front import Front
from proxy.handlers.lane_protocol import LaneServer
from proxy.handlers.limits import ConnectionLimit
from proxy.handlers.operations import Operations
from proxy.handlers.passthrough import SERVER_OPTIONS, Passthrough
from proxy.settings import Settings

SHUTDOWN_S = 10.0
_KEEPALIVE_S = 75.0
"""Longer than the usual reverse proxy keeps its idle connections, so that we never close first."""


async def listen(
    stack: AsyncExitStack, front: Front, lane: Lane, passthrough: Passthrough, settings: Settings
) -> URL:
    """The public port, until the stack unwinds; what it has begun it answers first."""
    server = LaneServer(
        front,
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
    site = web.TCPSite(runner, settings.host, settings.port)
    return await _bound(site, settings.host, runner, "PROXY_HOST, PROXY_PORT")


async def listen_admin(
    stack: AsyncExitStack, operations: Operations, admin: AdminRooms, settings: Settings
) -> URL:
    """The admin port, until the stack unwinds."""
    app = web.Application()
    app.add_routes(operations.routes())
    app.add_subapp("/admin", admin.application(settings))
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=SHUTDOWN_S, keepalive_timeout=_KEEPALIVE_S
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, settings.admin_host, settings.admin_port)
    return await _bound(site, settings.admin_host, runner, "PROXY_ADMIN_HOST, PROXY_ADMIN_PORT")


async def _bound(site: web.TCPSite, host: str, runner: web.BaseRunner, variable: str) -> URL:
    try:
        await site.start()
    except OSError as error:
        number = error.errno or 0
        known = os.strerror(number) if number > 0 else error.strerror
        reason = (known or str(error)).lower()
        raise SettingsError(f"cannot listen on {site.name} ({variable}): {reason}") from error
    port = runner.addresses[-1][1]
    return URL.build(scheme="http", host=host, port=port)
