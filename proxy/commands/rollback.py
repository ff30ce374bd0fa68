"""`dashboard-proxy rollback`: all traffic back to the legacy, now."""

from typing import Annotated

import orjson
import typer

from proxy.commands.admin_client import open_admin
from proxy.commands.options import AdminUrl, AsJson, Author, Config
from proxy.commands.split_report import cause, leave_unless_kept, print_split


def rollback(
    lift: Annotated[
        bool,
        typer.Option(
            "--lift",
            help="End the rollback instead. The percent is then 0, not what it was before: "
            "go on with split or rollout start.",
        ),
    ] = False,
    reason: Annotated[
        str | None,
        typer.Option("--reason", metavar="TEXT", help="Why, for the history and the audit list."),
    ] = None,
    author: Author = None,
    url: AdminUrl = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Send all of /analytics/data to the legacy from the next request on, in every process.

    It stays until somebody lifts it: no restart does, nor a rollout. Exit code
    1 when it is in force, but the proxy could not write it to its disk yet.
    """
    admin = open_admin(url, config)
    if lift:
        told = admin.delete("/rollback", cause(reason, author))
    else:
        told = admin.post("/rollback", cause(reason, author))
    if as_json:
        typer.echo(orjson.dumps(told).decode())
    else:
        print_split(told)
    leave_unless_kept(told, is_quiet=as_json)
