"""`dashboard-proxy split`: how many callers get the optimized answer."""

from typing import Annotated

import orjson
import typer

from proxy.commands.admin_client import open_admin
from proxy.commands.options import AdminUrl, AsJson, Author, Config, Reason
from proxy.commands.split_report import cause, leave_unless_kept, print_split
from proxy.errors import SettingsError


def split(
    percent: Annotated[
        float | None,
        typer.Argument(
            metavar="[PERCENT]",
            min=0,
            max=100,
            show_default=False,
            help="0: all callers get the legacy's answer. 100: all get the optimized one. "
            "Without it nothing changes.",
        ),
    ] = None,
    reason: Reason = None,
    author: Author = None,
    url: AdminUrl = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show the split of /analytics/data between the legacy and the optimized side, or change it.

    A caller stays on its side; a higher percent moves callers to the optimized
    one only. The change is in force for the next request in every process, is
    kept over restarts, and stands in the history. A rollout that runs is
    paused by it. While rolled back it is refused: see rollback --lift.
    """
    if percent is None and (reason is not None or author is not None):
        raise SettingsError("--reason and --author are for a change: say which PERCENT")
    admin = open_admin(url, config)
    if percent is None:
        told = admin.get("/split")
    else:
        told = admin.post("/split", {"percent": percent, **cause(reason, author)})
    if as_json:
        typer.echo(orjson.dumps(told).decode())
    else:
        print_split(told)
    if percent is not None:
        leave_unless_kept(told, is_quiet=as_json)
