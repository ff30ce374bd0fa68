"""`serve` with several workers: the process that holds the ports, until it is told to stop."""

import asyncio
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import structlog

from proxy.app_start import refuse_open_admin
from proxy.app_workers import supervise
from proxy.errors import ProxyError
from proxy.hang_up import Terminal, early_hang_up
from proxy.settings import environment, load_settings
from proxy.settings_file import read_text
from proxy.workers.post import Plan

log = structlog.get_logger(__name__)

_OF_THE_PORTS = ("host", "port", "admin_host", "admin_port", "log_format")


def read_plan(config: Path | None, given: Mapping[str, Any]) -> Plan:
    """What to start with, read from the file once. Raises SettingsError."""
    text = None if config is None else read_text(config)
    settings = load_settings(config, given, environment(), text=text)
    return Plan(settings, None if config is None else str(config), text)


async def supervise_until_told(
    plan: Plan, given: Mapping[str, Any], read: Callable[[], Plan]
) -> None:
    """Workers that share the port, until SIGTERM or SIGINT. SIGHUP: `read` and replace them.

    Raises what keeps the first ones from serving.
    """
    terminal = Terminal()
    early = early_hang_up()
    told = asyncio.Event()
    wants_reload = False
    async with supervise(plan, orjson.loads(orjson.dumps(dict(given), default=str))) as supervised:
        supervisor = supervised.supervisor

        def stop() -> None:
            supervisor.leave()
            told.set()

        def hang_up() -> None:
            nonlocal wants_reload
            if terminal.is_gone:
                stop()
            else:
                wants_reload = True
                told.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, hang_up)
        if early.has_come:
            hang_up()
        if await supervisor.start():
            log.info(
                "listening",
                url=str(supervised.url),
                admin=str(supervised.admin_url),
                database=str(plan.settings.database),
                workers=[post.number for post in supervisor],
            )
        while not supervisor.is_leaving:
            await told.wait()
            told.clear()
            if wants_reload and not supervisor.is_leaving:
                wants_reload = False
                try:
                    wanted = read()
                    _check(plan, wanted)
                except ProxyError as error:
                    log.error("reload_refused", error=str(error))
                else:
                    supervisor.turn_to(wanted)
        log.info("stopping")
    log.info("stopped")


def _check(first: Plan, wanted: Plan) -> None:
    """Raises SettingsError for what must not be, and tells what will not be."""
    for name in _OF_THE_PORTS:
        if getattr(first.settings, name) != getattr(wanted.settings, name):
            log.warning("setting_needs_restart", name=f"PROXY_{name.upper()}")
    at_our_port = {"admin_host": first.settings.admin_host}
    refuse_open_admin(wanted.settings.model_copy(update=at_our_port))
