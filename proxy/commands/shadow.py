"""`dashboard-proxy shadow`: how many questions are put to the other side too."""

from typing import Annotated

import orjson
import typer
from rich.console import Console

from proxy.commands.admin_client import open_admin
from proxy.commands.options import AdminUrl, AsJson, Author, Config, Reason
from proxy.commands.split_report import cause, changed, leave_unless_kept
from proxy.errors import SettingsError


def shadow(
    rate: Annotated[
        float | None,
        typer.Argument(
            metavar="[RATE]",
            min=0,
            max=1,
            show_default=False,
            help="A share from 0 (none) to 1 (every question). Without it nothing changes.",
        ),
    ] = None,
    reason: Reason = None,
    author: Author = None,
    url: AdminUrl = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show the share of questions that is put to the other side too, or change it.

    That happens after the caller was answered, and the caller never sees it.
    What both sides said is compared: see diffs. The change is in force for
    the next request in every process and is kept over restarts.
    """
    if rate is None and (reason is not None or author is not None):
        raise SettingsError("--reason and --author are for a change: say which RATE")
    admin = open_admin(url, config)
    if rate is None:
        told = admin.get("/shadow")
    else:
        told = admin.post("/shadow", {"rate": rate, **cause(reason, author)})
    if as_json:
        typer.echo(orjson.dumps(told).decode())
    else:
        console = Console(highlight=False)
        share = f"[bold]{told['rate']:g}[/bold] ({100 * told['rate']:g}%)"
        console.print(f"{share} of the questions are put to the other side too.")
        console.print(changed(told))
    if rate is not None:
        leave_unless_kept(told, is_quiet=as_json)
