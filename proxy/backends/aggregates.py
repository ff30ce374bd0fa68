"""Cells to SQL: how a measure's days are put together and rounded, for one table's columns."""

from dataclasses import dataclass, field
from typing import Literal

from proxy.backends.schema import Schema, Table, form_of
from proxy.measures import MEASURES, Measure, Unit
from proxy.shapes import Cell

RateMode = Literal["mean", "ratio"]

# SQLite's ROUND without digits goes half away from zero, which digits do not
# promise in every version. A fraction is rounded far out first, so that a
# tie such as 0.0000125 does not depend on the last bit of the sum.
_ROUNDED = {
    Unit.COUNT: "CAST(ROUND({}) AS INTEGER)",
    Unit.MONEY: "ROUND(({}) * 1e2) / 1e2 + 0.0",
    Unit.FRACTION: "ROUND(ROUND(({}) * 1e13) / 1e7) / 1e6 + 0.0",
}
_PERCENT = "ROUND(ROUND(({}) * 1e15) / 1e7) / 1e6 + 0.0"


@dataclass(slots=True)
class Aggregates:
    """Collects the aggregate expressions that the cells of one table need, each once.

    `columns()` stand in the grouping SELECT, where the table is called `d`;
    `cell()` gives the expression over them for the SELECT around it, where
    the grouped row is called `own` and the sums of the Meta database `ads`.
    """

    schema: Schema
    table: Table
    rate_mode: RateMode
    has_meta: bool
    _aliases: dict[str, str] = field(default_factory=dict)

    def cell(self, cell: Cell) -> str:
        value = self.value(MEASURES[cell.measure])
        if cell.divisor is not None:
            value = _divided(value, self.value(MEASURES[cell.divisor]))
        if cell.is_percent:
            return _PERCENT.format(value)
        return _ROUNDED[cell.unit].format(value)

    def columns(self) -> list[str]:
        """The SELECT list of the grouping query, aliases included."""
        return [f"{expression} AS {alias}" for expression, alias in self._aliases.items()]

    def value(self, measure: Measure) -> str:
        """The unrounded value of `measure` over the range; 0 where nothing is known."""
        column = self.schema.column(self.table, measure)
        if form_of(self.table) == "narrow" and (column is None or measure.ratio):
            return self._stand_in(measure)
        if self.rate_mode == "ratio" and measure.ratio is not None:
            numerator, denominator = measure.ratio
            return _divided(self.value(MEASURES[numerator]), self.value(MEASURES[denominator]))
        if column is None:
            return "0"
        if measure.is_sum:
            return f"COALESCE({self._alias(f'SUM(d.{column})')}, 0)"
        if self.rate_mode == "mean":
            return f"COALESCE({self._alias(f'AVG(d.{column})')}, 0)"
        return self._weighted(column, measure)

    def _weighted(self, column: str, measure: Measure) -> str:
        weights = [self.schema.column(self.table, MEASURES[name]) for name in measure.weighting]
        if None in weights:
            return "0"
        weight = " * ".join(f"d.{name}" for name in weights)
        total = self._alias(f"SUM(d.{column} * {weight})")
        # A NULL day is left out of both sums, as AVG leaves it out.
        weighed = self._alias(f"SUM(CASE WHEN d.{column} IS NOT NULL THEN {weight} END)")
        return _divided(f"COALESCE({total}, 0)", weighed)

    def _stand_in(self, measure: Measure) -> str:
        if measure.meta_column is not None:
            return f"COALESCE(ads.{measure.meta_column}, 0)" if self.has_meta else "0"
        if measure.narrow is None:
            return "0"
        left, operator, right = (
            part if part in "=-/" else self.value(MEASURES[part]) for part in measure.narrow
        )
        if operator == "/":
            return _divided(left, right)
        return left if operator == "=" else f"({left} - {right})"

    def _alias(self, expression: str) -> str:
        alias = self._aliases.setdefault(expression, f"a{len(self._aliases)}")
        return f"own.{alias}"


def _divided(numerator: str, denominator: str) -> str:
    if "0" in (numerator, denominator):
        return "0"
    # What a REAL sum leaves of numbers that cancel out is no denominator.
    return f"CASE WHEN ABS({denominator}) >= 1e-9 THEN {numerator} * 1.0 / {denominator} ELSE 0 END"
