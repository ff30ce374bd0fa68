"""`dashboard-proxy status`: how a running proxy is."""

from collections.abc import Mapping
from typing import Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from proxy.commands.admin_client import open_admin
from proxy.commands.options import AdminUrl, AsJson, Config

_COLOURS = {
    "settled": "green", "up": "green", "rebuilding": "yellow", "unknown": "red", "down": "red",
}  # fmt: skip


def status(url: AdminUrl = None, config: Config = None, as_json: AsJson = False) -> None:
    """Say how a running proxy is: freshness, cache, sources, jobs."""
    told = open_admin(url, config).get("/status")
    if as_json:
        typer.echo(orjson.dumps(told).decode())
        return
    Console(highlight=False).print(_table(told))


def _table(told: Mapping[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    fresh, cache = told["freshness"], told["cache"]
    table.add_row("version", f"{told['version']}, up {_duration(told['uptime_s'])}")
    table.add_row("data", f"{_coloured(fresh['state'])}, computed {fresh['computed_at'] or '-'}")
    table.add_row("", f"since {fresh['since'] or '-'}")
    asked = cache["hits"] + cache["misses"]
    rate = f", {cache['hits'] / asked:.1%} hits" if asked else ""
    megabytes = f"{cache['bytes'] / 2**20:,.1f} MiB"
    table.add_row("cache", f"{cache['entries']:,} entries, {megabytes}{rate}")
    for name, state in told["sources"].items():
        table.add_row(name, _coloured(state))
    for job in told["jobs"]:
        errors = f", {job['errors']} errors" if job["errors"] else ""
        note = f" ({escape(job['note'])})" if job["note"] else ""
        progress = f"{job['done']}/{job['total']}{errors}{note}"
        table.add_row("job", f"{job['kind']} {job['about']}: {job['state']} {progress}")
    return table


def _coloured(state: str) -> str:
    colour = _COLOURS.get(state)
    return state if colour is None else f"[{colour}]{state}[/]"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
