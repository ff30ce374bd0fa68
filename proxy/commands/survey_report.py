"""A database's survey as a page to read and as one JSON object."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from proxy.backends.plans import Plan
from proxy.backends.survey import Survey, TableSurvey
from proxy.query import BREAKDOWNS, LEVELS, Query

WALKS = "walks all of history"
SLOW = "slow: whole hierarchy per row"
FINE = "OK"


def failures_of(found: Survey) -> list[str]:
    """What keeps the database from being fit to answer from; empty when nothing does."""
    return [f"the question {_named(plan.query)} {WALKS}" for plan in found.walks]


def verdict_of(plan: Plan) -> str:
    return WALKS if plan.walks else SLOW if plan.slow else FINE


def survey_as_json(path: Path, found: Survey | None, failures: Sequence[str]) -> dict[str, Any]:
    head: dict[str, Any] = {"ok": not failures, "failures": [*failures], "database": str(path)}
    if found is None:
        return head
    return head | {
        "form": found.form,
        "breakdown_counts": found.breakdown_counts,
        "absent": found.absent,
        "meta": found.meta,
        "tables": [_table_as_json(table) for table in found.tables],
        "missing_indexes": [
            {"table": m.table, "columns": m.columns, "purpose": m.purpose, "sql": m.sql}
            for m in found.missing_indexes
        ],
        "zero_measures": found.zero_measures,
        "questions": [_plan_as_json(plan) for plan in found.plans],
    }


def print_survey(
    console: Console,
    path: Path,
    found: Survey | None,
    failures: Sequence[str],
    *,
    is_verbose: bool,
) -> None:
    console.print(f"[bold]{escape(str(path))}[/bold]", soft_wrap=True, highlight=False)
    if found is not None:
        _print_variant(console, found)
        console.print(_tables(found), "", _plans(found))
        _print_indexes(console, found)
        _print_zeros(console, found)
        if is_verbose:
            _print_steps(console, found)
    console.print()
    for failure in failures:
        console.print(f"[red]failed:[/red] {escape(failure)}", soft_wrap=True, highlight=False)
    if not failures:
        console.print("[green]fit to answer from[/green]")


def _print_variant(console: Console, found: Survey) -> None:
    forms = {
        "wide": "wide: all measures are in the daily table",
        "narrow": "narrow: the daily table has counts and revenue only",
    }
    metas = {
        "none": "none",
        "not needed": "there, not needed: the tables have their own columns",
        "used": "there, used for what the tables lack",
    }
    lines = {
        "variant": forms[found.form],
        "breakdown counts": ", ".join(found.breakdown_counts) or "none: no breakdown table",
        "absent tables": ", ".join(found.absent) or "none",
        "Meta database": metas[found.meta],
    }
    for name, text in lines.items():
        console.print(f"  {name:17} {text}", soft_wrap=True, highlight=False)
    console.print()


def _tables(found: Survey) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("Table", no_wrap=True)
    table.add_column("Dates")
    table.add_column("Newest")
    table.add_column("Rows", justify="right")
    for own in found.tables:
        table.add_row(own.name, _dates(own), own.newest or "-", f"{own.rows:,}")
    return table


def _dates(own: TableSurvey) -> str:
    if own.first_date is None:
        return "-"
    gap = f", {own.days_missing} days missing" if own.days_missing else ""
    return f"{own.first_date} to {own.last_date}{gap}"


def _plans(found: Survey) -> Table:
    """A line per levels, a column per breakdown; a cell is the worst of its questions."""
    breakdowns = [b for b in BREAKDOWNS if any(p.query.breakdown == b for p in found.plans)]
    columns = ["no breakdown" if name == "all" else name for name in breakdowns]
    table = Table("Question", *columns, "sparkline", box=None, pad_edge=False)
    for place, level in enumerate(LEVELS):
        for depth in range(1, len(LEVELS) - place + 1):
            own = [p for p in found.plans if (p.query.level, p.query.depth) == (level, depth)]
            flat = [p for p in own if not p.query.include_sparkline]
            cells = [_worst([p for p in flat if p.query.breakdown == b]) for b in breakdowns]
            spark = _worst([p for p in own if p.query.include_sparkline])
            table.add_row(" > ".join(LEVELS[place : place + depth]), *cells, spark)
    return table


def _worst(plans: Sequence[Plan]) -> str:
    found = {verdict_of(plan) for plan in plans}
    worst = next(verdict for verdict in (WALKS, SLOW, FINE) if verdict in found)
    return f"[{'red' if worst is WALKS else 'yellow' if worst is SLOW else 'green'}]{worst}[/]"


def _print_indexes(console: Console, found: Survey) -> None:
    console.print()
    if not found.missing_indexes:
        console.print("Indexes: all that we use are there.")
        return
    console.print(
        "[yellow]Missing indexes[/yellow] (the pipeline's owner may add them; we do not):"
    )
    for missing in found.missing_indexes:
        console.print(f"  {missing.sql};", soft_wrap=True, highlight=False)
        console.print(f"      {missing.purpose}", soft_wrap=True, highlight=False)


def _print_zeros(console: Console, found: Survey) -> None:
    if not any(found.zero_measures.values()):
        console.print("Measures that would be 0: none.")
        return
    console.print("[yellow]Measures that would be 0:[/yellow]")
    by_names: dict[tuple[str, ...], list[str]] = {}
    for kind, names in found.zero_measures.items():
        by_names.setdefault(names, []).append("no breakdown" if kind == "all" else kind)
    for names, kinds in by_names.items():
        text = f"  {', '.join(kinds)}: {', '.join(names) or 'none'}"
        console.print(text, soft_wrap=True, highlight=False)


def _print_steps(console: Console, found: Survey) -> None:
    for plan in found.plans:
        console.print(f"\n[bold]{_named(plan.query)}[/bold]: {verdict_of(plan)}", highlight=False)
        for step in plan.steps:
            is_bad = step.strip() in (*plan.walks, *plan.slow)
            style = "red" if is_bad else "dim"
            console.print(f"  {step}", style=style, markup=False, soft_wrap=True, highlight=False)


def _named(query: Query) -> str:
    breakdown = "" if query.breakdown == "all" else f" by {query.breakdown}"
    sparkline = " with sparkline" if query.include_sparkline else ""
    return f"{' > '.join(query.levels)}{breakdown}{sparkline}"


def _table_as_json(own: TableSurvey) -> dict[str, Any]:
    return {
        "name": own.name,
        "rows": own.rows,
        "days": own.days,
        "days_missing": own.days_missing,
        "first_date": own.first_date,
        "last_date": own.last_date,
        "newest": own.newest,
    }


def _plan_as_json(plan: Plan) -> dict[str, Any]:
    return {
        "level": plan.query.level,
        "depth": plan.query.depth,
        "breakdown": plan.query.breakdown,
        "include_sparkline": plan.query.include_sparkline,
        "verdict": verdict_of(plan),
        "walks": plan.walks,
        "slow": plan.slow,
        "plan": plan.steps,
    }
