"""Holds an answer against what the oracle expects, cell by cell."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any

from proxy.document import WARNINGS
from tests.oracle import Expected
from tests.oracle_measures import Cell

_SLACK = Decimal("1e-9")
_RELATIVE_SLACK = Decimal("1e-11")
"""What REAL arithmetic may lose of a ratio over a sum that all but cancels out."""


def disagreements(expected: Expected, answer: Mapping[str, Any]) -> list[str]:
    """A line for each thing in `answer` that is not as expected; rows have to be in order.

    A number may be off by half of its last place, so that a tie may go either way.
    """
    return [*_top_level(expected, answer), *_different("data", expected.data, answer["data"])]


def _top_level(expected: Expected, answer: Mapping[str, Any]) -> Iterator[str]:
    if list(answer) != ["success", "data", "metadata"] or answer["success"] is not True:
        yield f"top level: {list(answer)} {answer.get('success')}"
    metadata = dict(answer["metadata"])
    yield from _wrong_warnings(expected.warnings, metadata.pop("warnings"))
    computed_at = metadata.pop("computed_at")
    found = None if computed_at is None else datetime.fromisoformat(computed_at)
    if found != expected.newest or metadata.pop("generated_at") != computed_at:
        yield f"computed_at: {computed_at!r}, expected {expected.newest}"
    yield from _different("metadata", expected.metadata, metadata)


def _wrong_warnings(expected: Mapping[str, int | None], sentences: list[str]) -> Iterator[str]:
    wanted = {
        WARNINGS[word] if number is None else WARNINGS[word].format(count=number)
        for word, number in expected.items()
    }
    if len(sentences) != len(wanted) or set(sentences) != wanted:
        yield f"warnings: {sentences}, expected {sorted(wanted)}"


def _different(where: str, expected: Any, found: Any) -> Iterator[str]:
    if isinstance(expected, Cell):
        if not _is_rounded(expected, found):
            yield f"{where}: {found!r}, expected {expected.exact}"
    elif isinstance(expected, dict) and isinstance(found, dict):
        if expected.keys() != found.keys():
            yield f"{where}: fields {sorted(expected.keys() ^ found.keys())}"
        for name in expected.keys() & found.keys():
            yield from _different(f"{where}.{name}", expected[name], found[name])
    elif isinstance(expected, list) and isinstance(found, list):
        yield from _different_rows(where, expected, found)
    elif type(expected) is not type(found) or expected != found:
        yield f"{where}: {found!r}, expected {expected!r}"


def _different_rows(where: str, expected: list[Any], found: list[Any]) -> Iterator[str]:
    wanted = {_named(row): row for row in expected}
    names = [_named(row) for row in found]
    if sorted(names) != sorted(wanted):
        yield f"{where}: rows {names}, expected {list(wanted)}"
        return
    # By the revenue that is shown: a tie in the third decimal may be rounded either way.
    ordered = sorted(found, key=lambda row: (-_revenue(row), _named(row)))
    if names != [_named(row) for row in ordered]:
        yield f"{where}: order {names}"
    for name, row in zip(names, found, strict=True):
        yield from _different(f"{where}[{name}]", wanted[name], row)


def _revenue(row: Mapping[str, Any]) -> float:
    return float(row.get("estimated_revenue_adjusted", row.get("estimated_revenue", 0)))


def _is_rounded(expected: Cell, found: object) -> bool:
    if isinstance(found, bool) or not isinstance(found, int | float):
        return False
    if expected.places == 0:
        return isinstance(found, int) and found == expected.exact
    shown = Decimal(repr(found))
    slack = _SLACK + abs(expected.exact) * _RELATIVE_SLACK
    half = Decimal(5).scaleb(-expected.places - 1)
    with localcontext() as context:
        context.prec = 60
        is_on_grid = shown == round(shown, expected.places) and not (
            shown == 0 and shown.is_signed()
        )
    return is_on_grid and abs(shown - expected.exact) <= half + slack


def _named(row: Mapping[str, Any]) -> str:
    """What tells one row of a list from another."""
    for name in ("breakdown_value", "id", "date", "type"):
        if name in row:
            return str(row[name])
    return str(sorted(row))
