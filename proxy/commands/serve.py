"""`dashboard-proxy serve`: the proxy itself, until it is told to stop."""

import asyncio
import gc
import signal
import sys
from typing import Annotated, Any

import structlog
import typer
import uvloop

from proxy.app import run_proxy
from proxy.commands.options import Config, DatabaseFile, MetaDatabaseFile
from proxy.logs import configure_logs
from proxy.settings import Settings, environment, load_settings


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
    }
    settings = load_settings(config, given, environment())
    configure_logs(settings.log_format, sys.stderr, secrets=_secrets(settings))
    _tune()
    uvloop.run(_serve(settings))


def _tune() -> None:
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
    async with run_proxy(settings):
        await stop.wait()
    structlog.get_logger(__name__).info("stopped")


def _secrets(settings: Settings) -> list[str]:
    token = settings.admin_token
    return [] if token is None else [token.get_secret_value()]
