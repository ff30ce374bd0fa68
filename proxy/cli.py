"""The command line: all that `dashboard-proxy` can do. What each does is in commands/."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from proxy import __version__
from proxy.commands.admin_client import UnreachableError
from proxy.commands.check_db import check_db
from proxy.commands.demo import demo
from proxy.commands.diffs import diffs
from proxy.commands.exit_codes import BAD_USAGE, CHECK_FAILED, UNREACHABLE
from proxy.commands.purge import purge
from proxy.commands.rollback import rollback
from proxy.commands.rollout import rollout
from proxy.commands.serve import serve
from proxy.commands.shadow import shadow
from proxy.commands.split import split
from proxy.commands.status import status
from proxy.commands.warm import warm
from proxy.commands.worker import worker
from proxy.errors import ProxyError, SettingsError

cli = typer.Typer(
    name="dashboard-proxy",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit codes: 0 done, 1 a check failed, 2 bad usage, 3 the proxy cannot be reached.",
)


def main() -> None:
    """Run the command line; the only place that turns an error into an exit code."""
    try:
        cli()
    except ProxyError as error:
        text = f"[red]error:[/red] {escape(str(error))}"
        Console(stderr=True).print(text, highlight=False, soft_wrap=True)
        sys.exit(_exit_code(error))


def _exit_code(error: ProxyError) -> int:
    match error:
        case SettingsError():
            return BAD_USAGE
        case UnreachableError():
            return UNREACHABLE
        case _:
            return CHECK_FAILED


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(f"dashboard-proxy {__version__}")
        raise typer.Exit


@cli.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """A read-through cache in front of a marketing dashboard.

    Never used it? [bold]dashboard-proxy demo[/bold] shows it at work on made-up data.
    [bold]check-db[/bold] looks your own database over, [bold]serve[/bold] runs the proxy on it.
    """


cli.command()(serve)
cli.command("check-db")(check_db)
cli.command()(demo)
cli.command()(status)
cli.command()(warm)
cli.command()(purge)
cli.command()(split)
cli.command()(rollback)
cli.command()(shadow)
cli.command()(diffs)
cli.command()(rollout)
cli.command(hidden=True)(worker)
