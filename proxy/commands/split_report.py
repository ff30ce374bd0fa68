"""The split, the rollback and the shadow rate as people read them."""

from collections.abc import Mapping
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from proxy.commands.exit_codes import CHECK_FAILED

_MOST_LINES = 20


def print_split(told: Mapping[str, Any]) -> None:
    """What is in force, and the changes that led there."""
    console = Console(highlight=False)
    if told["rolled_back"]:
        console.print("[red]Rolled back[/red]: every caller gets the legacy's answer.")
    else:
        console.print(
            f"[bold]{told['percent']:g} %[/bold] of the callers get the optimized answer."
        )
    console.print(changed(told))
    history = told["history"]
    if not history:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("at", "action", "percent", "author", "reason"):
        table.add_column(name, overflow="fold", justify="right" if name == "percent" else "left")
    for line in history[:_MOST_LINES]:
        table.add_row(
            line["at"],
            escape(line["action"]),
            f"{line['percent']:g}",
            escape(line["author"]),
            escape(line["reason"]),
        )
    console.print()
    console.print(table)
    if len(history) > _MOST_LINES:
        console.print(f"{len(history) - _MOST_LINES} older changes: see --json")


def changed(told: Mapping[str, Any]) -> str:
    if told["changed_at"] is None:
        return "As the settings say: it was never changed."
    reason = f": {escape(told['reason'])}" if told["reason"] else ""
    return f"Since {told['changed_at']}, by {escape(told['author'])}{reason}"


def leave_unless_kept(told: Mapping[str, Any], *, is_quiet: bool) -> None:
    """Exit code 1 for what is in force, but would not outlive a restart yet."""
    if told["is_kept"]:
        return
    if not is_quiet:
        typer.echo(
            "It is in force, but not on the proxy's disk yet: the proxy goes on trying. Until then"
            " a restart would lose it. See PROXY_STATE and the proxy's log.",
            err=True,
        )
    raise typer.Exit(CHECK_FAILED)


def cause(reason: str | None, author: str | None) -> dict[str, str]:
    """What a body says of who asks for the change and why."""
    given = {"reason": reason, "author": author}
    return {name: text for name, text in given.items() if text}
