"""What /admin/diffs and /admin/contract tell, as pages to read."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_COLOURS = {"matched": "green", "ignored": "yellow", "mismatched": "red"}

Told = Mapping[str, Any]


def print_diffs(console: Console, told: Told) -> None:
    totals = told["totals"]
    compared = totals["compared"]
    parts = [_total(name, totals[name], compared) for name in _COLOURS]
    parts += [f"{totals[name]:,} {name}" for name in ("discarded", "dropped", "errors")]
    since = f" since {told['since']}" if told["since"] else ""
    console.print(f"[bold]{compared:,} compared{since}[/bold]: {', '.join(parts)}", soft_wrap=True)
    for outcome, reasons in told["reasons"].items():
        if reasons:
            words = ", ".join(f"{escape(why)} {count:,}" for why, count in reasons.items())
            console.print(f"  {outcome}: {words}", soft_wrap=True)
    noise = totals["noise"]
    if compared:
        console.print(f"  the legacy was held against itself {noise:,} times", soft_wrap=True)
    for table in (_fields(told), _levels(told), _samples(told)):
        if table.row_count:
            console.print()
            console.print(table)


def print_sample(console: Console, told: Told) -> None:
    console.print(
        f"[bold]{escape(told['id'])}[/bold] {told['at']}: {_outcome(told['outcome'])},"
        f" {told['rows']:,} rows, the caller got the {told['control_side']} answer",
        soft_wrap=True,
    )
    console.print(f"  {escape(_question(told['query']))}", soft_wrap=True)
    if told["note"]:
        console.print(f"  {escape(told['note'])}", soft_wrap=True)
    if told["differences"]:
        console.print()
        console.print(_differences(told))


def contract_as_text(told: Told) -> str:
    """TOML to paste. The rate modes follow as comments, so that the whole is TOML too."""
    lines = [told["toml"].rstrip("\n")] if told["toml"].strip() else []
    if not told["samples"]:
        lines.append("# No sample with both bodies is there yet: set a shadow rate.")
    if told["rate_modes"]:
        lines += ["", "# Rows in which a rate mode is closer to the legacy:"]
        width = max(len(one["field"]) for one in told["rate_modes"])
        for one in told["rate_modes"]:
            # A foreign name must not end the comment.
            field = ascii(one["field"])[1:-1]
            lines.append(
                f"#   {field:{width}}  mean {one['mean']:,}  ratio {one['ratio']:,}"
                f"  equal {one['equal']:,}  closer: {one['closer']}"
            )
    return "\n".join(lines)


def _fields(told: Told) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("Field", "Level", "Difference"):
        table.add_column(name, overflow="fold")
    for name in ("Results", "Rate", "Noise", "Excess, at least", "Worst"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in told["fields"]:
        worst = one["max_relative_error"]
        table.add_row(
            escape(one["field"]) + ("[red]*[/red]" if one["decided"] else ""),
            escape(one["level"]) or "-",
            one["kind"].replace("_", " "),
            f"{one['count']:,}",
            f"{one['rate']:.2%}",
            f"{one['noise_rate']:.2%}",
            f"{one['excess_rate_lower']:.2%}" if one["excess_rate_lower"] > 0 else "-",
            "-" if worst is None else f"{worst:.2%}",
        )
    return table


def _levels(told: Told) -> Table:
    table = Table("Question", box=None, pad_edge=False)
    for name in ("Compared", "Matched", "Ignored", "Mismatched"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in told["by_level"]:
        breakdown = "" if one["breakdown"] == "all" else f" by {one['breakdown']}"
        counts = [f"{one[name]:,}" for name in ("compared", *_COLOURS)]
        table.add_row(f"{one['level']}{breakdown}", *counts)
    return table


def _samples(told: Told) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("Sample", "At", "Outcome", "The caller got"):
        table.add_column(name, no_wrap=True)
    table.add_column("Differences", justify="right")
    table.add_column("Question", overflow="fold")
    for one in told["samples"]:
        table.add_row(
            escape(one["id"]),
            one["at"],
            _outcome(one["outcome"]),
            one["control_side"],
            f"{one['differences']:,}",
            escape(_question(one["query"])),
        )
    return table


def _differences(told: Told) -> Table:
    candidate = "optimized" if told["control_side"] == "legacy" else "legacy"
    table = Table("Path", "Difference", box=None, pad_edge=False)
    for name in (told["control_side"], candidate, "Error", "Rows"):
        table.add_column(name, justify="right")
    for one in told["differences"]:
        error = one["relative_error"]
        table.add_row(
            escape(one["path"]) + ("[red]*[/red]" if one["is_deciding"] else ""),
            one["kind"].replace("_", " "),
            escape(str(one["control"])),
            escape(str(one["candidate"])),
            "-" if error is None else f"{error:.2%}",
            f"{one['count']:,}",
        )
    return table


def _total(name: str, count: int, compared: int) -> str:
    share = f" ({count / compared:.2%})" if compared and count else ""
    return f"[{_COLOURS[name]}]{count:,} {name}[/]{share}"


def _outcome(outcome: str) -> str:
    colour = _COLOURS.get(outcome)
    return escape(outcome) if colour is None else f"[{colour}]{outcome}[/]"


def _question(query: Told) -> str:
    """`2024-01-01 to 2024-01-31, campaign by country`."""
    level = query.get("group_by", query.get("hierarchy", ""))
    breakdown = "" if query["breakdown"] == "all" else f" by {query['breakdown']}"
    depth = f", depth {query['depth']}"
    sparkline = ", sparkline" if query["include_sparkline"] else ""
    return f"{query['start_date']} to {query['end_date']}, {level}{breakdown}{depth}{sparkline}"
