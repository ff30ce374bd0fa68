"""How SQLite would answer each form of question, and whether that walks all of history."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import apsw

from proxy.backends.aggregates import RateMode
from proxy.backends.schema import Schema
from proxy.backends.statement import compile_statement
from proxy.query import BREAKDOWNS, LEVELS, Query, ShapeName
from proxy.shapes import Shape

_ANY_DAY = date(2000, 1, 1)
_STEP = re.compile(r"(SCAN|SEARCH) (\S+)(.*)")

# The names by which statement.py calls the tables that hold history: the
# tables of the range, and those in which it hops from ad to ad.
_RANGED = frozenset({"d", "p"})
_HOPPED = re.compile(r"q|(meta\.)?ad_performance_daily\w*")
_HIERARCHY = "h"


@dataclass(frozen=True, slots=True)
class Plan:
    """SQLite's plan for one form of question: its steps, indented as they nest.

    `walks` are the steps whose cost grows with all of history, `slow` those
    that read a whole mapping table for each row.
    """

    query: Query
    steps: tuple[str, ...]
    walks: tuple[str, ...]
    slow: tuple[str, ...]


def forms(schema: Schema) -> Iterator[Query]:
    """One question of each form that this schema can be asked.

    Of the two shapes only the one with all measures: tables and order are the same in both.
    """
    breakdowns = BREAKDOWNS if schema.breakdown is not None else BREAKDOWNS[:1]
    for place, level in enumerate(LEVELS):
        for depth in range(1, len(LEVELS) - place + 1):
            for breakdown in breakdowns:
                for has_sparkline in (False, True):
                    yield Query(
                        "analytics", _ANY_DAY, _ANY_DAY, level, breakdown, depth, has_sparkline
                    )


def plan_of(
    connection: apsw.Connection,
    query: Query,
    shapes: Mapping[ShapeName, Shape],
    schema: Schema,
    rate_mode: RateMode,
) -> Plan:
    """Raises apsw.Error."""
    statement = compile_statement(query, shapes[query.shape], schema, rate_mode)
    rows: list[tuple[Any, ...]] = connection.execute(
        f"EXPLAIN QUERY PLAN {statement.sql}", statement.parameters(query)
    ).fetchall()
    indents = {0: -1}
    steps = []
    for own, parent, _, text in rows:
        indents[own] = indents.get(parent, -1) + 1
        steps.append(f"{'  ' * indents[own]}{text}")
    return Plan(query, tuple(steps), tuple(walks_in(steps)), tuple(slow_in(steps)))


def walks_in(steps: Iterable[str]) -> Iterator[str]:
    """The steps that read rows outside the range, however long ago."""
    for step in map(str.strip, steps):
        found = _STEP.match(step)
        if found is None:
            continue
        verb, name, how = found.groups()
        # An index that SQLite makes for one statement is made from the whole table.
        is_whole = verb == "SCAN" or "AUTOMATIC" in how
        is_ranged = name in _RANGED and not is_whole and re.search(r"\bdate[=<>]", how)
        if (name in _RANGED and not is_ranged) or (_HOPPED.fullmatch(name) and is_whole):
            yield step


def slow_in(steps: Iterable[str]) -> Iterator[str]:
    """The steps that read the whole hierarchy anew for each adset or ad."""
    for step in map(str.strip, steps):
        found = _STEP.match(step)
        if found and found[2] == _HIERARCHY and (found[1] == "SCAN" or "AUTOMATIC" in found[3]):
            yield step
