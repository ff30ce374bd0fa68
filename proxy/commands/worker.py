"""`python -m proxy worker`: one of the processes that `serve --workers` starts. Not for people."""

import asyncio
import signal
import socket
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from prometheus_client.exposition import generate_latest
from yarl import URL

from proxy.app import run_proxy
from proxy.app_listening import Inherited
from proxy.commands.exit_codes import BAD_USAGE, CHECK_FAILED
from proxy.commands.serve import set_up_logs, tune
from proxy.errors import ProxyError, SettingsError
from proxy.settings import Settings, environment, load_settings
from proxy.workers.folders import discard
from proxy.workers.leash import Leash
from proxy.workers.orders import Orders, Report
from proxy.workers.share import share_of


def worker(
    orders: Annotated[int, typer.Option(help="Number of the socket that tells what to do.")],
) -> None:
    """One of the processes that `serve --workers` starts. Nothing to start by hand."""
    # Both are for the supervisor, which tells us what they mean.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    leash = Leash(socket.socket(fileno=orders))
    told = leash.orders()
    try:
        settings = load_settings(
            None if told.config is None else Path(told.config),
            told.given,
            environment(),
            text=told.text,
        )
        set_up_logs(settings, worker=told.number)
        tune()
        uvloop.run(_work(share_of(settings), told, leash))
    except ProxyError as error:
        code = BAD_USAGE if isinstance(error, SettingsError) else CHECK_FAILED
        leash.say(Report("failed", str(error), code))
        raise typer.Exit(code) from error
    leash.let_go()


async def _work(settings: Settings, told: Orders, leash: Leash) -> None:
    """Until it is told to leave. A drain lasts as long as it needs, all else ends at once."""
    stirred, leave = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def gone() -> None:
        # Nobody else cleans up after it.
        for path in (told.admin_path, told.state_path):
            if path is not None:
                discard(Path(path).parent)
        stirred.set()

    def end() -> None:
        leave.set()
        stirred.set()

    loop.add_signal_handler(signal.SIGTERM, end)
    leash.follow(
        loop,
        on_drain=stirred.set,
        on_gone=gone,
        leave_s=told.grace_s + told.leave_s,
    )
    inherited = Inherited(
        [socket.socket(fileno=number) for number in told.listeners],
        URL(told.url),
        Path(told.admin_path),
        told.admin_token,
        None if told.state_path is None else Path(told.state_path),
    )
    async with run_proxy(settings, inherited=inherited) as running:
        leash.say(Report("listening"))
        await stirred.wait()
        if not leave.is_set():
            loop.add_signal_handler(signal.SIGTERM, running.port.hurry)
            await running.port.drain(told.grace_s)
    # All that was begun is answered and counted.
    leash.say(Report("left", generate_latest(running.telemetry.registry).decode()))
