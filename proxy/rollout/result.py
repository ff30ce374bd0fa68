"""Result: what came of comparing two answers. How they are compared is not known here."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["matched", "ignored", "mismatched"]
"""`ignored`: they differ, but in nothing that decides."""

Kind = Literal[
    "missing_key",
    "added_key",
    "type",
    "missing_row",
    "extra_row",
    "doubled_row",
    "order",
    "value",
    "unit",
    "set",
]
STRUCTURAL: frozenset[Kind] = frozenset({"missing_key", "type", "missing_row", "extra_row"})
"""Kinds that decide wherever they are found. At deciding fields `value` does too, no other kind."""

Scalar = None | bool | int | float | str


@dataclass(frozen=True, slots=True)
class Difference:
    """One kind of difference at one path, whatever rows it was found in.

    `path` has `*` where a row's id would stand: `data.*.children.*.spend`.
    `level` is the row's (`campaign`, `adset`, `ad`, empty at the top). Of the
    `count` rows that differ so, `control`, `candidate` and `relative_error`
    are of the worst one; a side that has nothing there, or no scalar, has a
    short text or None.
    """

    path: str
    field: str
    level: str
    kind: Kind
    control: Scalar
    candidate: Scalar
    relative_error: float | None = None
    count: int = 1
    is_deciding: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """`differences` are bounded in number, the deciding ones first; `rows` counts those compared.

    `is_structural`: a kind of STRUCTURAL is among them, whether shown or not.
    """

    outcome: Outcome
    differences: tuple[Difference, ...] = ()
    is_structural: bool = False
    rows: int = 0
