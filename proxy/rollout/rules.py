"""Rules: what of two answers is held together, how closely, and which differences decide."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from proxy.settings_tables import CompareTable

OURS_ALONE = frozenset(
    {"entity_id", "breakdown_data", "breakdown_type", "breakdown_value", "sparkline_data"}
)
"""Keys that our records have whatever the legacy sends. One side without them differs in nothing;
where both have them they are compared like any other."""

_LONGEST_PATH = 1000


@dataclass(frozen=True, slots=True)
class Tolerance:
    """a and b differ when |a - b| > relative x max(|a|, |b|, floor)."""

    relative: float
    floor: float

    def is_exceeded(self, a: float, b: float) -> bool:
        """Numbers of any size, infinite ones and those that are none included."""
        if a == b:
            return False
        try:
            if not (math.isfinite(a) and math.isfinite(b)):
                return a == a or b == b
            return abs(a - b) > self.relative * max(abs(a), abs(b), self.floor)
        except OverflowError:
            # An int that no float can hold.
            if not all(isinstance(n, int) or math.isfinite(n) for n in (a, b)):
                return True
            most = max(abs(Fraction(a)), abs(Fraction(b)), Fraction(self.floor))
            return abs(Fraction(a) - Fraction(b)) > Fraction(self.relative) * most


@dataclass(frozen=True, slots=True)
class Patterns:
    """Patterns of paths, in which `*` stands for any text and nothing else is special."""

    texts: tuple[str, ...]
    _regex: re.Pattern[str] | None

    def match(self, path: str) -> bool:
        """Whether one fits `path` as a whole, or as it is told from a record it stands in."""
        if self._regex is None:
            return False
        start = 0
        path = path[:_LONGEST_PATH]
        while True:
            if self._regex.fullmatch(path, start):
                return True
            found = path.find("*.", start)
            if found < 0:
                return False
            start = found + 2


@dataclass(frozen=True, slots=True)
class Rules:
    """`deciding` and `rates` are names of fields, at whatever level they stand.

    `rates` are the fields that one side may send as percents, the other as fractions.
    """

    deciding: frozenset[str]
    ignore: Patterns
    as_set: Patterns
    tolerance: Tolerance
    tolerances: Mapping[str, Tolerance]
    rates: frozenset[str] = frozenset()

    def tolerance_of(self, field: str) -> Tolerance:
        return self.tolerances.get(field, self.tolerance)


def rules_of(table: CompareTable, rates: frozenset[str]) -> Rules:
    """The rules that the operator's table makes."""
    return Rules(
        deciding=frozenset(table.deciding),
        ignore=patterns_of(table.ignore),
        as_set=patterns_of(table.as_set),
        tolerance=Tolerance(table.relative, table.floor),
        tolerances={
            name: Tolerance(
                table.relative if own.relative is None else own.relative,
                table.floor if own.floor is None else own.floor,
            )
            for name, own in table.fields.items()
        },
        rates=rates,
    )


def patterns_of(texts: tuple[str, ...]) -> Patterns:
    kept = tuple(text for text in texts if text)
    if not kept:
        return Patterns((), None)
    # Stars side by side mean one, and would take a regular expression ages.
    shortened = (re.sub(r"\*+", "*", text) for text in kept)
    one_each = (".*".join(map(re.escape, text.split("*"))) for text in shortened)
    return Patterns(kept, re.compile("|".join(f"(?:{one})" for one in one_each), re.DOTALL))


def relative_error(a: float, b: float) -> float | None:
    """|a - b| / max(|a|, |b|), from 0 to 2. None where there is no such number."""
    try:
        a, b = float(a), float(b)
    except OverflowError:
        return None
    most = max(abs(a), abs(b))
    if not (math.isfinite(a) and math.isfinite(b)):
        return None
    # Divided first: the difference of two huge numbers may be too large for a float.
    return abs(a / most - b / most) if most else 0.0


def unit_factor(control: float, candidate: float, tolerance: Tolerance) -> int:
    """100 when the control is the percent of the candidate's fraction, -100 the other way round.

    0 when it is neither.
    """
    try:
        a, b = float(control), float(candidate)
    except OverflowError:
        return 0
    if not (math.isfinite(a) and math.isfinite(b)) or (a < 0) != (b < 0):
        return 0
    less, more = sorted((abs(a), abs(b)))
    # However wide the tolerance, it makes no percent of what is near the same number.
    if less == 0 or less * 10 > more:
        return 0
    # Fractions have 6 decimals at least: that much rounding is no difference of value.
    lenient = Tolerance(max(tolerance.relative, 1e-4), max(tolerance.floor, 1e-4))
    if lenient.is_exceeded(less * 100, more):
        return 0
    return 100 if abs(a) > abs(b) else -100
