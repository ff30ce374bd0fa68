"""`dashboard-proxy serve`: the proxy itself, until it is told to stop."""

import asyncio
import gc
import signal
import sys
from collections.abc import Collection
from typing import Annotated, Any

import structlog
import typer
import uvloop

from proxy.app import run_proxy
from proxy.commands.options import Config, DatabaseFile, MetaDatabaseFile
from proxy.commands.supervising import read_plan, supervise_until_told
from proxy.hang_up import Terminal, early_hang_up
from proxy.logs import configure_logs, log_what_nobody_catches
from proxy.settings import Settings, environment
from proxy.tracing.wanted import tracing_secrets
from proxy.workers.post import Plan

log = structlog.get_logger(__name__)


def serve(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Else 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Where the frontend comes in. 0: any free port. Else 8080.")
    ] = None,
    admin_port: Annotated[int | None, typer.Option(help="Health and metrics. Else 8081.")] = None,
    database: DatabaseFile = None,
    meta_database: MetaDatabaseFile = None,
    legacy_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The application behind.")
    ] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The shared cache tier. Without it: memory only."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Processes that share the port, each on a core of its own. Above 1, one that "
            "ends is replaced, and SIGHUP replaces all, one by one, with the configuration file "
            "read again. Else 1.",
        ),
    ] = None,
) -> None:
    """Answer the dashboard's questions until told to stop (Ctrl-C or SIGTERM).

    Every setting can also stand in a PROXY_… variable or in the file that
    --config names; what stands here wins. Only the database is required.
    """
    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "admin_port": admin_port,
        "database": database,
        "meta_database": meta_database,
        "legacy_url": legacy_url,
        "redis_url": redis_url,
        "workers": workers,
    }
    plan = read_plan(config, given)
    set_up_logs(plan.settings)
    if plan.settings.workers > 1:
        secrets = _secrets(plan.settings)

        def reread() -> Plan:
            wanted = read_plan(config, given)
            # Those of before are still in use.
            secrets.extend(one for one in _secrets(wanted.settings) if one not in secrets)
            log_on_stderr(plan.settings, secrets)
            return wanted

        uvloop.run(supervise_until_told(plan, given, reread))
        return
    tune()
    uvloop.run(_serve(plan.settings))


def set_up_logs(settings: Settings, *, worker: int | None = None) -> None:
    """The logs of this process, on stderr, with what ends it and what Python warns of."""
    log_on_stderr(settings, worker=worker)
    log_what_nobody_catches()


def log_on_stderr(
    settings: Settings, secrets: Collection[str] = (), *, worker: int | None = None
) -> None:
    """Without `secrets` and those of `settings` and the environment.

    NO_COLOR is of https://no-color.org.
    """
    environ = environment()
    configure_logs(
        settings.log_format,
        sys.stderr,
        secrets=[*_secrets(settings), *secrets, *tracing_secrets(environ)],
        may_colour=not environ.get("NO_COLOR") and environ.get("TERM") != "dumb",
        worker=worker,
    )


def tune() -> None:
    """Suit the interpreter to a server that makes thousands of dicts per answer in a thread."""
    # They die together when the answer is rendered: collecting in between finds nothing.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    # A hit waits this long at most for a thread that builds an answer.
    sys.setswitchinterval(0.001)


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    terminal = Terminal()
    early = early_hang_up()

    def hang_up() -> None:
        if terminal.is_gone:
            stop.set()
        else:
            log.warning("nothing_to_reload", why="one process alone reads its settings at start")

    loop.add_signal_handler(signal.SIGHUP, hang_up)
    if early.has_come:
        hang_up()
    async with run_proxy(settings):
        await stop.wait()
    log.info("stopped")


def _secrets(settings: Settings) -> list[str]:
    token = settings.admin_token
    return [] if token is None else [token.get_secret_value()]
