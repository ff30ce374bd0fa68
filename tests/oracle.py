"""What an answer must hold, worked out in plain Python from the raw rows and CONTRACT.md alone.

Slow, obvious and written apart from the proxy's SQL: the two must agree in every cell.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

from tests.oracle_measures import (
    CENTS,
    COUNT,
    Cell,
    RateMode,
    Record,
    Shape,
    fields_of,
    narrow_totals,
    ratio,
    rounded,
    wide_totals,
)
from tests.oracle_tables import Parents, Tables

LEVELS = ("campaign", "adset", "ad")


@dataclass(frozen=True, slots=True)
class Expected:
    """`newest` is the moment that `computed_at` must name, None where nothing was read.

    `warnings` maps a warning's word to the number in it, None where it has none.
    """

    data: list[dict[str, Any]]
    metadata: dict[str, Any]
    newest: datetime | None
    warnings: dict[str, int | None]


@dataclass(frozen=True, slots=True)
class _Question:
    shape: Shape
    start: date
    end: date
    level: str
    breakdown: str
    depth: int
    has_sparkline: bool

    @classmethod
    def of(cls, shape: Shape, parameters: Record) -> "_Question":
        name, default = ("hierarchy", "campaign") if shape == "dashboard" else ("group_by", "ad")
        level = parameters.get(name, default)
        return cls(
            shape,
            date.fromisoformat(parameters["start_date"]),
            date.fromisoformat(parameters["end_date"]),
            level,
            parameters.get("breakdown", "all"),
            min(parameters.get("depth", 3), 3 - LEVELS.index(level)),
            parameters.get("include_sparkline", False),
        )

    def as_config(self) -> dict[str, Any]:
        return {
            "start_date": self.start.isoformat(),
            "end_date": self.end.isoformat(),
            "hierarchy" if self.shape == "dashboard" else "group_by": self.level,
            "breakdown": self.breakdown,
            "depth": self.depth,
            "include_sparkline": self.has_sparkline,
        }


def expect(
    path: Path,
    meta_path: Path | None,
    parameters: Record,
    rate_mode: RateMode,
    shape: Shape,
) -> Expected:
    """The whole answer to `parameters`, numbers not yet rounded."""
    question = _Question.of(shape, parameters)
    tables = Tables.read(path, meta_path, question.breakdown)
    with localcontext() as context:
        context.prec = 60
        return _Answer(question, tables, rate_mode).complete()


class _Answer:
    def __init__(self, question: _Question, tables: Tables, rate_mode: RateMode) -> None:
        self.question = question
        self.tables = tables
        self.rate_mode = rate_mode
        self.parents = Parents.of(tables.hierarchy or [])
        first = LEVELS.index(question.level)
        sent = question.depth if tables.hierarchy is not None else 1
        self.levels = LEVELS[first : first + sent]
        self.names = {
            (str(row["entity_type"]), str(row["entity_id"])): row["canonical_name"]
            for row in tables.names
        }
        self.in_range = [row for row in tables.daily if self._is_read(row)]
        self.broken_down = [
            row
            for row in tables.breakdown or []
            if row["breakdown_type"] == question.breakdown and self._is_read(row)
        ]

    def complete(self) -> Expected:
        appearing, orphans = self._appearing()
        data = self._rows(self.levels, appearing, None)
        question = self.question
        span = f"{question.start.isoformat()} to {question.end.isoformat()}"
        metadata: dict[str, Any] = {"date_range": span, "data_source": "pre_computed_optimized"}
        if question.shape == "dashboard":
            metadata |= {"total_records": len(data), "query_time_ms": 0}
        else:
            metadata |= {"record_count": len(data), "query_config": question.as_config()}
        newest = self._newest(appearing)
        return Expected(data, metadata, newest, self._warnings(orphans, bool(data)))

    def _is_read(self, row: Record) -> bool:
        return row["entity_type"] in self.levels and self._is_in_range(row)

    def _is_in_range(self, row: Record) -> bool:
        day: str = row["date"]
        return self.question.start.isoformat() <= day <= self.question.end.isoformat()

    def _appearing(self) -> tuple[dict[str, set[str]], int]:
        """The ids of each level sent that appear, and how many of them have no parent."""
        appearing: dict[str, set[str]] = {level: set() for level in self.levels}
        for row in self.in_range:
            level, entity_id = row["entity_type"], str(row["entity_id"])
            line = self.parents.line(level, entity_id)
            for above, parent in line.items():
                if above in appearing and parent is not None:
                    appearing[above].add(parent)
        orphans = [
            (level, entity_id)
            for level in self.levels
            if level != "campaign"
            for entity_id in appearing[level]
            if self.parents.line(level, entity_id)[_above(level)] is None
        ]
        return appearing, len(orphans)

    def _rows(
        self, levels: Sequence[str], appearing: Mapping[str, set[str]], parent: str | None
    ) -> list[dict[str, Any]]:
        """The rows of the first of `levels` under `parent` (None: all of them), in order."""
        if not levels:
            return []
        level = levels[0]
        rows = []
        for entity_id in appearing[level]:
            line = self.parents.line(level, entity_id)
            if parent is not None and line[_above(level)] != parent:
                continue
            revenue = self._totals(level, entity_id)["adjusted"]
            row = self._row(level, entity_id, line)
            row["children"] = self._rows(levels[1:], appearing, entity_id)
            rows.append(((-rounded(revenue, 2), entity_id), row))
        return [row for _, row in sorted(rows, key=lambda pair: pair[0])]

    def _row(self, level: str, entity_id: str, line: Record) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": f"{level}_{entity_id}",
            "entity_type": level,
            "name": self._name(level, entity_id),
            **fields_of(self.question.shape, self._totals(level, entity_id)),
            "breakdown_data": self._breakdown_data(level, entity_id),
        }
        if self.question.has_sparkline:
            row["sparkline_data"] = self._sparkline(level, entity_id)
        if self.question.shape == "analytics":
            row["entity_id"] = entity_id
            for above, known in line.items():
                row[f"{above}_id"] = known
                row[f"{above}_name"] = None if known is None else self._name(above, known)
            row["breakdowns"] = self._breakdowns(row["breakdown_data"], entity_id)
        return row

    def _name(self, level: str, entity_id: str) -> str:
        known = self.names.get((level, entity_id))
        return known or f"Unknown {level.capitalize()} ({entity_id})"

    def _totals(self, level: str, entity_id: str) -> dict[str, Decimal]:
        """The measures of an entity over the range."""
        rows = _of(self.in_range, level, entity_id)
        if not self.tables.is_daily_narrow:
            return wide_totals(rows, self.rate_mode)
        meta = [row for row in self.tables.meta or [] if self._is_in_range(row)]
        return narrow_totals(rows, _of_meta(meta, level, entity_id))

    def _breakdown_data(self, level: str, entity_id: str) -> list[dict[str, Any]]:
        by_value: dict[str, list[Record]] = {}
        for row in _of(self.broken_down, level, entity_id):
            by_value.setdefault(_value(row["breakdown_value"]), []).append(row)
        kind = self.question.breakdown
        of_entity = [
            row
            for row in _of_meta(self.tables.meta_breakdown or [], level, entity_id)
            if self._is_in_range(row)
        ]
        found = []
        for value, rows in by_value.items():
            if self.tables.is_breakdown_narrow:
                meta = [row for row in of_entity if _value(row[kind]) == value]
                totals = narrow_totals(rows, meta)
            else:
                totals = wide_totals(rows, self.rate_mode)
            row = {
                "breakdown_type": kind,
                "breakdown_value": value,
                **fields_of(self.question.shape, totals),
            }
            found.append(((-rounded(totals["adjusted"], 2), value), row))
        return [row for _, row in sorted(found, key=lambda pair: pair[0])]

    def _breakdowns(self, rows: list[dict[str, Any]], entity_id: str) -> list[dict[str, Any]]:
        if not rows:
            return []
        values = []
        for row in rows:
            value = row["breakdown_value"]
            values.append({**row, "id": f"{value}_{entity_id}", "name": value})
        return [{"type": self.question.breakdown, "values": values}]

    def _sparkline(self, level: str, entity_id: str) -> list[dict[str, Any]]:
        own = _of(self.tables.daily, level, entity_id)
        meta = _of_meta(self.tables.meta or [], level, entity_id)
        days = []
        for back in range(13, -1, -1):
            day = (self.question.end - timedelta(days=back)).isoformat()
            rows = [row for row in own if row["date"] == day]
            if self.tables.is_daily_narrow:
                totals = narrow_totals(rows, [row for row in meta if row["date"] == day])
            else:
                totals = wide_totals(rows, self.rate_mode)
            roas = ratio(totals["adjusted"], totals["spend"])
            days.append(
                {
                    "date": day,
                    "rolling_1d_roas": Cell(roas, 2),
                    "rolling_1d_spend": Cell(totals["spend"], CENTS),
                    "rolling_1d_revenue": Cell(totals["adjusted"], CENTS),
                    "rolling_1d_conversions": Cell(totals["purchases"], COUNT),
                    "rolling_1d_trials": Cell(totals["trials"], COUNT),
                    "rolling_1d_meta_trials": Cell(totals["meta_trials"], COUNT),
                    "rolling_window_days": 1,
                    "has_data": bool(rows),
                }
            )
        return days

    def _newest(self, appearing: Mapping[str, set[str]]) -> datetime | None:
        moments = [
            datetime.fromisoformat(row["computed_at"])
            for row in [*self.in_range, *self.broken_down]
            if row["computed_at"] is not None
            and str(row["entity_id"]) in appearing[row["entity_type"]]
        ]
        return max(moments, default=None)

    def _warnings(self, orphans: int, has_rows: bool) -> dict[str, int | None]:
        tables = self.tables
        wants_breakdown = self.question.breakdown != "all"
        is_breakdown_narrow = (
            wants_breakdown and tables.breakdown is not None and tables.is_breakdown_narrow
        )
        warnings: dict[str, int | None] = {}
        if not has_rows:
            warnings["no_rows"] = None
        if tables.hierarchy is None:
            warnings["no_hierarchy"] = None
        elif orphans:
            warnings["orphans"] = orphans
        if wants_breakdown and tables.breakdown is None:
            warnings["no_breakdown"] = None
        for is_narrow, meta, of in (
            (tables.is_daily_narrow, tables.meta, ""),
            (is_breakdown_narrow, tables.meta_breakdown, "_breakdown"),
        ):
            if is_narrow:
                warnings[f"narrow{of}"] = None
            if is_narrow and meta is None:
                warnings[f"no_meta{of}"] = None
        return warnings


def _above(level: str) -> str:
    return LEVELS[LEVELS.index(level) - 1]


def _of(rows: Iterable[Record], level: str, entity_id: str) -> list[Record]:
    return [
        row for row in rows if row["entity_type"] == level and str(row["entity_id"]) == entity_id
    ]


def _of_meta(rows: Iterable[Record], level: str, entity_id: str) -> list[Record]:
    return [row for row in rows if str(row[f"{level}_id"]) == entity_id]


def _value(raw: object) -> str:
    return "Unknown" if raw is None else str(raw)
