"""`dashboard-proxy demo`: the proxy at work on made-up data, with nothing else installed."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import aiohttp
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from proxy.clock import Clock, SystemClock
from proxy.commands.demo_migration import show_migration
from proxy.demo.asking import Timed
from proxy.demo.children import Children
from proxy.demo.data import make_demo
from proxy.demo.show import (
    DAYS,
    Act,
    Data,
    Seen,
    Stage,
    pipeline_runs,
    set_stage,
    three_requests,
    without_settings,
)
from proxy.errors import SettingsError
from proxy.settings import environment

_ANSWER_TIMEOUT_S = 300.0


class Programme(StrEnum):
    """What there is to see."""

    tour = "tour"
    migration = "migration"


class Size(StrEnum):
    """Sizes of data.SIZES."""

    s = "s"
    m = "m"
    l = "l"  # noqa: E741 (the size's own name)


def demo(
    size: Annotated[
        Size,
        typer.Option(
            help="How much data. s: 60 ads over 60 days, at once. "
            "m: 2,000 ads over 180 days, under a minute. l: 20,000 ads over a year, minutes."
        ),
    ] = Size.s,
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="Where its data and logs go; written anew each time")
    ] = Path(".demo"),
    interval: Annotated[
        float, typer.Option(min=1.0, help="Seconds between two runs of the pipeline.")
    ] = 10.0,
    play: Annotated[
        Programme,
        typer.Option(
            help="tour: three requests, then the pipeline at its work. migration: from 0 % to "
            "100 %, with a rollback on the way, in under two minutes."
        ),
    ] = Programme.tour,
    once: Annotated[
        bool, typer.Option("--once", help="Stop after the three requests, with exit code 0.")
    ] = False,
) -> None:
    """Show the proxy at work: made-up data, a slow dashboard behind it, a pipeline that writes.

    Nothing else has to be installed or running. Asks one question three
    times and shows how long each answer took: a miss, a hit, and what the
    dashboard's own application takes. Then it goes on until Ctrl-C, and shows
    what becomes of the cache when the pipeline writes. With --play migration
    it shows instead how the traffic is carried over from the one to the other.
    """
    clock = SystemClock()
    console = Console(highlight=False)
    data = _make_data(size.value, folder, clock)
    if play is Programme.migration:
        work = partial(show_migration, console, data, folder, environment(), clock)
    else:
        work = partial(_show, console, data, folder, interval, once, clock)
    asyncio.run(_until_told(work))


async def _show(
    console: Console, data: Data, folder: Path, interval_s: float, is_once: bool, clock: Clock
) -> None:
    timeout = aiohttp.ClientTimeout(total=_ANSWER_TIMEOUT_S)
    async with (
        Children(folder, without_settings(environment())) as children,
        aiohttp.ClientSession(timeout=timeout) as session,
    ):
        with Console(stderr=True).status("starting"):
            stage = await set_stage(
                children, data, folder / "proxy-state.db", interval_s=interval_s
            )
        _print_stage(console, stage)
        _print_acts(console, await three_requests(session, stage, data.end, clock))
        if is_once:
            return
        console.print("\nThe pipeline goes on writing. [bold]Ctrl-C[/bold] stops everything.\n")
        async for seen in pipeline_runs(session, stage, data.end, clock):
            _print_seen(console, seen)


async def _until_told(work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` until its end or until a signal, which cancels it once and is no error."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    told = asyncio.Event()

    def stop() -> None:
        # A second Ctrl-C must not break off the stopping of the children.
        if task is not None and not told.is_set():
            told.set()
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    try:
        await work()
    except asyncio.CancelledError:
        if not told.is_set():
            raise


def _make_data(size: str, folder: Path, clock: Clock) -> Data:
    end = datetime.fromtimestamp(clock.now()).date() - timedelta(days=1)
    data = Data(folder / "mixpanel_data.db", folder / "meta.db", end)
    columns = (TextColumn("making demo data"), BarColumn(), TaskProgressColumn())
    console = Console(stderr=True)
    is_hidden = not console.is_terminal
    try:
        with Progress(*columns, console=console, transient=True, disable=is_hidden) as progress:
            bar = progress.add_task("", total=1.0)
            make_demo(
                data.database,
                data.meta_database,
                size=size,
                end=end,
                progress=lambda share: progress.update(bar, completed=share),
            )
    except OSError as error:
        raise SettingsError(f"--folder {folder}: cannot write there: {error.strerror}") from error
    return data


def _print_stage(console: Console, stage: Stage) -> None:
    urls = {
        "dashboard": f"{stage.url}/",
        "health": f"{stage.admin_url}/health/ready",
        "metrics": f"{stage.admin_url}/metrics",
        "legacy": f"{stage.legacy_url}/",
    }
    notes = {"dashboard": "the page, through the proxy", "legacy": "the application behind it"}
    for name, url in urls.items():
        note = f"  [dim]{notes[name]}[/dim]" if name in notes else ""
        console.print(f"[bold]{name:10}[/bold] {url}{note}", soft_wrap=True)
    console.print()


def _print_acts(console: Console, acts: list[Act]) -> None:
    own_ms = acts[-1].timed.ms
    table = Table(
        title=f"Campaigns with their adsets and ads, the last {DAYS} days", title_justify="left"
    )
    for name in ("request", "put to", "cache says"):
        table.add_column(name)
    for name in ("KB", "ms", "faster"):
        table.add_column(name, justify="right")
    for act in acts:
        ratio = "" if act is acts[-1] else f"{own_ms / max(act.timed.ms, 0.001):,.0f}x"
        kilobytes = f"{act.timed.bytes / 1000:,.0f}"
        table.add_row(
            act.what, act.asked, act.timed.cache or "-", kilobytes, f"{act.timed.ms:.1f}", ratio
        )
    console.print(table)


def _print_seen(console: Console, seen: Seen) -> None:
    console.print(
        f"[bold]{seen.line}[/bold]. The last {DAYS} days: {_met(seen.touched)}."
        f" The {DAYS} days before: {_met(seen.untouched)}.",
        soft_wrap=True,
    )


def _met(timed: Timed) -> str:
    met = "[green]still a hit[/green]" if timed.is_hit else "[yellow]read again[/yellow]"
    return f"{met}, {timed.ms:.1f} ms"
