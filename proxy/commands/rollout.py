"""`dashboard-proxy rollout`: how far the plan has come, and what to do with it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from proxy.commands.admin_client import open_admin
from proxy.commands.options import AdminUrl, AsJson, Author, Config, Reason
from proxy.errors import SettingsError

_COLOURS = {
    "pass": "green", "complete": "green", "running": "green",
    "paused": "yellow", "insufficient": "yellow",
    "fail": "red", "rolled_back": "red",
}  # fmt: skip
_NAMES = {
    "structural_rate": "structure",
    "mismatch_rate": "mismatches",
    "error_rate": "errors",
    "p95_ms": "p95",
}
_CHANGES_SHOWN = 5


class Action(StrEnum):
    start = "start"
    pause = "pause"
    resume = "resume"
    promote = "promote"
    abort = "abort"


def rollout(
    action: Annotated[
        Action | None,
        typer.Argument(
            help="start: at the first step. pause and resume: the guard leaves it alone, and "
            "goes on at the same step. promote: the next step now. abort: back to 0 %, for good."
        ),
    ] = None,
    reason: Reason = None,
    author: Author = None,
    url: AdminUrl = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show how far the rollout has come and why it holds, or change it with an ACTION.

    Exit code 3 when the action is not possible now; the error says what is.
    """
    if action is None and (reason or author):
        raise SettingsError("--reason and --author go with an ACTION: there is nothing to change")
    client = open_admin(url, config)
    if action is None:
        told = client.get("/rollout")
    else:
        body: dict[str, object] = {"action": action.value}
        body |= {"reason": reason} if reason else {}
        body |= {"author": author} if author else {}
        told = client.post("/rollout", body)
    if as_json:
        typer.echo(orjson.dumps(told).decode())
        return
    console = Console(highlight=False)
    console.print(_summary(told))
    if told["thresholds"]:
        console.print(_thresholds(told["thresholds"]))
    if told["history"]:
        console.print(_history(told["history"]))


def _summary(told: Mapping[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("rollout", f"{_coloured(told['state'])}, {told['percent']:g} % optimized")
    if told["steps"]:
        has_begun = told["state"] in ("running", "paused", "complete")
        steps = [f"{percent:g}" for percent in told["steps"]]
        if has_begun and told["step"] < len(steps):
            steps[told["step"]] = f"[bold]>{steps[told['step']]}<[/]"
        table.add_row("steps", " ".join(steps))
    table.add_row("verdict", _coloured(told["verdict"]))
    if told["reason"]:
        table.add_row("", escape(told["reason"]))
    return table


def _thresholds(findings: list[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("threshold", "verdict"):
        table.add_column(name, no_wrap=True)
    for name in ("samples", "observed", "at least", "allowed"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in findings:
        is_latency = one["name"] == "p95_ms"
        # The bound of a latency is a share of answers, not milliseconds.
        lower = None if is_latency else one["lower"]
        table.add_row(
            _NAMES.get(one["name"], escape(one["name"])),
            _coloured(one["verdict"]),
            f"{one['samples']:,} of {one['needed']:,}",
            _shown(one["observed"], is_latency),
            _shown(lower if lower is None else max(0.0, lower), is_latency),
            _shown(one["allowed"], is_latency),
        )
    return table


def _history(changes: list[Mapping[str, Any]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(4):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for change in changes[:_CHANGES_SHOWN]:
        table.add_row(
            change["at"],
            escape(change["author"]),
            change["action"],
            f"{change['percent']:g} %",
            escape(change["reason"]),
        )
    return table


def _shown(value: float | None, is_latency: bool) -> str:
    if value is None:
        return "-"
    return f"{value:.1f} ms" if is_latency else f"{value:.2%}"


def _coloured(word: str) -> str:
    colour = _COLOURS.get(word)
    return word if colour is None else f"[{colour}]{word}[/]"
