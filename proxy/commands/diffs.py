"""`dashboard-proxy diffs`: how well both sides agree, for people and for scripts that gate."""

import re
from fractions import Fraction
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import orjson
import typer
from rich.console import Console

from proxy.commands.admin_client import AdminClient, open_admin
from proxy.commands.diffs_report import contract_as_text, print_diffs, print_sample
from proxy.commands.exit_codes import CHECK_FAILED
from proxy.commands.options import AdminUrl, AsJson, Config
from proxy.errors import SettingsError

_SHARE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})\s*(%?)", re.ASCII)


def diffs(
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, max=200, help="Samples to show, the newest first.")
    ] = 10,
    field: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only differences in this field.")
    ] = None,
    level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="Only those at campaign, adset or ad.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only from this day (UTC) on.")
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="One sample. With --json also both bodies."),
    ] = None,
    contract: Annotated[
        bool,
        typer.Option(
            "--contract",
            help="Fields that the legacy has and ours lack, as TOML to paste into the"
            " configuration file, and which rate mode is closer to the legacy.",
        ),
    ] = False,
    fail_over: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Exit code 1 when more than so many comparisons are mismatched (0.1% or 0.001),"
            " or when nothing was compared.",
        ),
    ] = None,
    url: AdminUrl = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Say what came of comparing the legacy's answers with ours.

    Differences stand in the order of what they have in excess of the
    legacy's differences from itself, then of their number. A * marks fields
    that decide whether a result is mismatched.
    """
    filters: dict[str, str] = {
        name: text
        for name, text in (("field", field), ("level", level), ("since", since))
        if text is not None
    }
    if (sample is not None) + contract > 1 or (
        (sample is not None or contract) and (filters or fail_over is not None)
    ):
        raise SettingsError(
            "--id and --contract stand alone: neither goes with the other,"
            " --field, --level, --since or --fail-over"
        )
    most = None if fail_over is None else parse_share(fail_over)
    admin = open_admin(url, config)
    if sample is not None:
        _show_sample(admin, sample, as_json)
    elif contract:
        _show_contract(admin, as_json)
    else:
        told = admin.get(f"/diffs?{urlencode({'limit': limit, **filters})}")
        if as_json:
            typer.echo(orjson.dumps(told).decode())
        else:
            print_diffs(Console(highlight=False), told)
        if most is not None:
            _gate(told["totals"], most)


def parse_share(text: str) -> Fraction:
    """`0.1%` or `0.001` as a share of 1, exactly. Raises SettingsError."""
    found = _SHARE.fullmatch(text.strip())
    share = Fraction(found[1]) / (100 if found[2] else 1) if found else None
    if share is None or share > 1:
        raise SettingsError(
            f"--fail-over {text[:40]!r} must be a percent, 0% to 100%, or a number, 0 to 1"
        )
    return share


def _gate(totals: dict[str, Any], most: Fraction) -> None:
    compared, mismatched = totals["compared"], totals["mismatched"]
    if not compared:
        # A script that gates a rollout must not pass for want of evidence.
        typer.echo("failed: nothing was compared", err=True)
        raise typer.Exit(CHECK_FAILED)
    if Fraction(mismatched, compared) > most:
        typer.echo(
            f"failed: {mismatched} of {compared} comparisons are mismatched"
            f" ({mismatched / compared:.3%}), more than {float(most):.6g} of all",
            err=True,
        )
        raise typer.Exit(CHECK_FAILED)


def _show_sample(admin: AdminClient, sample: str, as_json: bool) -> None:
    told = admin.get(f"/diffs/{quote(sample, safe='')}")
    if as_json:
        typer.echo(orjson.dumps(told).decode())
    else:
        print_sample(Console(highlight=False), told)


def _show_contract(admin: AdminClient, as_json: bool) -> None:
    told = admin.get("/contract")
    typer.echo(orjson.dumps(told).decode() if as_json else contract_as_text(told))
