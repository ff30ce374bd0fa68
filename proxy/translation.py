"""The legacy API's records to the rows of a shape, by that shape's own declaration. Pure.

The legacy names its fields as the analytics shape does. A field of another
shape is filled from the analytics field that is declared from the same
measure. What the legacy does not send is 0, and is named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.query import LEVELS, Query
from proxy.shapes import ORDER_MEASURE, Cell, Shape
from proxy.sparkline import blank_sparkline

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Translated:
    """Rows of the shape, and the fields that no record of the legacy had."""

    records: list[Record]
    lacking: tuple[str, ...]


def translate_records(
    query: Query, records: Sequence[object], legacy: Shape, shape: Shape
) -> Translated:
    """`records` of the legacy, of shape `legacy`, as rows of `shape`, nested as `query` asks."""
    work = _Translation(query, _sources(legacy, shape), shape)
    rows = work.rows(records, LEVELS.index(query.level), query.depth)
    wanted = [*shape.fields, *(["sparkline_data"] if query.include_sparkline else [])]
    lacking = tuple(name for name in wanted if name not in work.filled) if rows else ()
    return Translated(rows, lacking)


def _sources(legacy: Shape, shape: Shape) -> dict[str, tuple[str, ...]]:
    """Field of `shape` -> the legacy's fields of the same measure, best first."""
    return {
        name: tuple(
            known
            for known, source in legacy.fields.items()
            if source == Cell(cell.measure, cell.divisor)
        )
        for name, cell in shape.fields.items()
    }


@dataclass(slots=True)
class _Translation:
    query: Query
    sources: Mapping[str, tuple[str, ...]]
    shape: Shape
    filled: set[str] = field(default_factory=set)

    def rows(self, records: Sequence[object], level: int, depth: int) -> list[Record]:
        """The rows of one list, each id once: the legacy repeats an adset for each of its ads."""
        found: dict[str, Record] = {}
        for record in records:
            if not isinstance(record, Mapping):
                continue
            row = self._row(record, level, depth)
            found.setdefault(row["id"], row)
        return self._ordered(list(found.values()))

    def _row(self, record: Mapping[str, Any], level: int, depth: int) -> Record:
        word = LEVELS[level]
        children = record.get("children")
        nested = children if isinstance(children, list) and depth > 1 else []
        row: Record = {
            "id": str(record.get("id", "")),
            "entity_type": str(record.get("entity_type") or record.get("type") or word),
            "name": str(record.get("name", "")),
            **self._numbers(record),
            "children": self.rows(nested, min(level + 1, len(LEVELS) - 1), depth - 1),
            "breakdown_data": self._breakdown_rows(record),
        }
        if self.query.include_sparkline:
            row["sparkline_data"] = self._sparkline(record)
        return row

    def _sparkline(self, record: Mapping[str, Any]) -> list[Any]:
        sent = record.get("sparkline_data")
        if not isinstance(sent, list) or not sent:
            return blank_sparkline(self.query)
        self.filled.add("sparkline_data")
        return sent

    def _breakdown_rows(self, record: Mapping[str, Any]) -> list[Record]:
        groups = record.get("breakdowns")
        rows = []
        for group in groups if isinstance(groups, list) else []:
            if not isinstance(group, Mapping) or group.get("type") != self.query.breakdown:
                continue
            for value in group.get("values") or []:
                if isinstance(value, Mapping):
                    named = {
                        "breakdown_type": self.query.breakdown,
                        "breakdown_value": str(value.get("name", "")),
                    }
                    rows.append({**named, **self._numbers(value)})
        return self._ordered(rows)

    def _numbers(self, record: Mapping[str, Any]) -> Record:
        return {name: self._number(record, name, cell) for name, cell in self.shape.fields.items()}

    def _number(self, record: Mapping[str, Any], name: str, cell: Cell) -> int | float:
        for source in self.sources[name]:
            value = record.get(source)
            if isinstance(value, int | float) and not isinstance(value, bool):
                self.filled.add(name)
                if not cell.is_percent:
                    return value
                # Its rates are fractions at the top and sometimes percents below.
                return round(value * 100, 6) if abs(value) <= 1 else value
        return cell.zero

    def _ordered(self, rows: list[Record]) -> list[Record]:
        order = next(
            (name for name, cell in self.shape.fields.items() if cell == Cell(ORDER_MEASURE)), None
        )
        rows.sort(key=lambda row: str(row.get("id") or row.get("breakdown_value")))
        if order is not None:
            rows.sort(key=lambda row: float(row[order]), reverse=True)
        return rows
