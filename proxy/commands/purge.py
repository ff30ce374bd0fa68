"""`dashboard-proxy purge`: lets a running proxy forget what it holds."""

from typing import Annotated, Any

import orjson
import typer

from proxy.commands.admin_client import open_admin
from proxy.commands.exit_codes import CHECK_FAILED
from proxy.commands.options import AdminUrl, AsJson, Author, Config, Reason
from proxy.errors import SettingsError


def purge(
    everything: Annotated[bool, typer.Option("--all", help="Everything that is held.")] = False,
    start: Annotated[
        str | None, typer.Option(metavar="DATE", help="With --end: what was computed from these.")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="DATE", help="See --start.")] = None,
    query: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help='One question, as it is asked: \'{"start_date": "2024-01-01", …}\'.',
        ),
    ] = None,
    reason: Reason = None,
    author: Author = None,
    url: AdminUrl = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Forget answers, in memory and in Redis. Nothing needs this for freshness.

    Give one of --all, --start with --end, or --query. Exit code 1 when Redis
    could not be asked: what it holds is then still there.
    """
    body = _body(everything, start, end, query)
    body |= {"reason": reason} if reason else {}
    body |= {"author": author} if author else {}
    told = open_admin(url, config).post("/purge", body)
    if as_json:
        typer.echo(orjson.dumps(told).decode())
    else:
        typer.echo(f"{told['purged']} entries are gone.")
    if not told["is_complete"]:
        if not as_json:
            typer.echo("Redis could not be asked: what it holds is still there.", err=True)
        raise typer.Exit(CHECK_FAILED)


def _body(
    everything: bool, start: str | None, end: str | None, query: str | None
) -> dict[str, Any]:
    ways = [everything, start is not None or end is not None, query is not None]
    if sum(ways) != 1 or (start is None) != (end is None):
        raise SettingsError("say what to purge: --all, or --start and --end, or --query")
    if everything:
        return {"all": True}
    if query is None:
        return {"start_date": start, "end_date": end}
    try:
        return {"query": orjson.loads(query)}
    except orjson.JSONDecodeError as error:
        raise SettingsError(f"--query must be a JSON object: {error}") from error
