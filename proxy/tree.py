"""A statement's rows to nested records: parents, names, order, breakdowns and sparklines. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from proxy.query import LEVELS, Level, Query
from proxy.section import HEAD_WIDTH, Row, Section
from proxy.shapes import Shape
from proxy.sparkline import sparkline_day, sparkline_days
from proxy.timestamps import newer

Record = dict[str, Any]

_TITLES = {"campaign": "Campaign", "adset": "Adset", "ad": "Ad"}
_NUMBER = HEAD_WIDTH
"""Index of the first cell; it is the one that orders rows."""


@dataclass(frozen=True, slots=True)
class Tree:
    """`records` of the requested level, nested; what was read to make them.

    `rows_read` counts the rows of the range per (table word, level). `orphans`
    counts records of the requested or nested levels that no hierarchy row names.
    """

    records: list[Record]
    rows_read: Mapping[tuple[str, str], int]
    computed_at: str | None
    orphans: int


def build_tree(query: Query, shape: Shape, rows: Iterable[Row], *, has_hierarchy: bool) -> Tree:
    """Nest `rows` as `query` asks. Row order in does not matter, out it is fixed."""
    return _Builder(query, shape, rows, has_hierarchy).tree()


class _Builder:
    def __init__(
        self, query: Query, shape: Shape, rows: Iterable[Row], has_hierarchy: bool
    ) -> None:
        self.query = query
        self.shape = shape
        self.levels = query.levels if has_hierarchy else query.levels[:1]
        self.has_hierarchy = has_hierarchy
        sections: tuple[list[Row], ...] = ([], [], [], [], [])
        for row in rows:
            sections[row[0]].append(row)
        self.sections = sections
        self.names = {
            level: {str(row[2]): row[3] for row in sections[section]}
            for level, section in (("campaign", Section.CAMPAIGN), ("adset", Section.ADSET))
        }
        self.campaign_of = {
            str(row[2]): None if row[4] is None else str(row[4]) for row in sections[Section.ADSET]
        }
        self.breakdowns = self._breakdowns()
        self.sparklines = self._sparklines()
        self.values = itemgetter(
            *(_NUMBER + shape.cells.index(cell) for cell in shape.fields.values())
        )
        self.keys = {level: self._keys(level) for level in self.levels}
        self.days = sparkline_days(query) if query.include_sparkline else []
        self.zeros: Row = tuple(cell.zero for cell in shape.cells)
        self.orphans = 0

    def tree(self) -> Tree:
        nodes: dict[Level, dict[str, Record]] = {}
        parent: Level | None = None
        for level in self.levels:
            nodes[level] = self._records(level, nodes[parent] if parent else None)
            parent = level
        read: dict[tuple[str, str], int] = {("daily", level): 0 for level in self.levels}
        stamps: set[str | None] = set()
        for section, table in ((Section.OWN, "daily"), (Section.BREAKDOWN, "breakdown")):
            for row in self.sections[section]:
                if row[5]:
                    where = (table, row[1])
                    read[where] = read.get(where, 0) + row[5]
                    stamps.add(row[6])
        newest: str | None = None
        for stamp in stamps:
            newest = newer(newest, stamp)
        return Tree(list(nodes[self.levels[0]].values()), read, newest, self.orphans)

    def _records(self, level: Level, parents: dict[str, Record] | None) -> dict[str, Record]:
        """The records of `level` in order, each put under its parent where there is one."""
        found = {str(row[2]): row for row in self.sections[Section.OWN] if row[1] == level}
        for entity_id, name in self._through_children(level).items():
            if entity_id not in found:
                found[entity_id] = (
                    Section.OWN, level, entity_id, name, None, None, None, *self.zeros
                )  # fmt: skip
        ordered = sorted(found.items(), key=itemgetter(0))
        ordered.sort(key=lambda item: item[1][_NUMBER], reverse=True)
        records: dict[str, Record] = {}
        for entity_id, row in ordered:
            adset_id, campaign_id = self._parents(level, entity_id, row)
            record = self._record(level, entity_id, row, adset_id, campaign_id)
            records[entity_id] = record
            parent_id = campaign_id if level == "adset" else adset_id
            if level != "campaign" and parent_id is None:
                self.orphans += 1
            elif parents is not None and parent_id in parents:
                parents[parent_id]["children"].append(record)
        return records

    def _through_children(self, level: Level) -> Mapping[str, str | None]:
        """Entities of `level` that rows of a nested level make appear, with their names."""
        deeper = self.levels[self.levels.index(level) + 1 :]
        if not deeper or level == "ad":
            return {}
        return self.names[level]

    def _parents(self, level: Level, entity_id: str, row: Row) -> tuple[str | None, str | None]:
        """(adset id, campaign id); an ad belongs where its adset was put."""
        if level == "campaign" or not self.has_hierarchy:
            return None, None
        if level == "adset":
            return None, self.campaign_of.get(entity_id)
        adset_id = None if row[4] is None else str(row[4])
        return adset_id, None if adset_id is None else self.campaign_of.get(adset_id)

    def _record(
        self,
        level: Level,
        entity_id: str,
        row: Row,
        adset_id: str | None,
        campaign_id: str | None,
    ) -> Record:
        name = display_name(level, entity_id, row[3])
        split = [
            self._breakdown_record(part) for part in self.breakdowns.get((level, entity_id), ())
        ]
        tail: tuple[Any, ...] = ([], split)
        if self.shape.has_breakdowns:
            tail = (*tail, self._older_breakdowns(entity_id, split))
        if self.query.include_sparkline:
            tail = (*tail, self._sparkline(level, entity_id))
        head: tuple[Any, ...] = (f"{level}_{entity_id}", level)
        if not self.shape.has_parents:
            head = (*head, name)
        elif level == "campaign":
            head = (*head, entity_id, name, entity_id, name)
        else:
            campaign = (campaign_id, self._known("campaign", campaign_id))
            if level == "adset":
                head = (*head, entity_id, name, *campaign, entity_id, name)
            else:
                adset = (adset_id, self._known("adset", adset_id))
                head = (*head, entity_id, name, *campaign, *adset, entity_id, name)
        return dict(zip(self.keys[level], head + self.values(row) + tail, strict=True))

    def _keys(self, level: Level) -> tuple[str, ...]:
        """The names of a record's fields in order: records are made by the thousand."""
        head: tuple[str, ...] = ("id", "entity_type")
        if self.shape.has_parents:
            own_and_above = LEVELS[: LEVELS.index(level) + 1]
            named = (f"{above}_{what}" for above in own_and_above for what in ("id", "name"))
            head = (*head, "entity_id", "name", *named)
        else:
            head = (*head, "name")
        tail: tuple[str, ...] = ("children", "breakdown_data")
        if self.shape.has_breakdowns:
            tail = (*tail, "breakdowns")
        if self.query.include_sparkline:
            tail = (*tail, "sparkline_data")
        return (*head, *self.shape.fields, *tail)

    def _known(self, level: Level, entity_id: str | None) -> str | None:
        if entity_id is None:
            return None
        return display_name(level, entity_id, self.names[level].get(entity_id))

    def _breakdowns(self) -> dict[tuple[str, str], list[Row]]:
        rows = sorted(self.sections[Section.BREAKDOWN], key=lambda row: str(row[3]))
        rows.sort(key=itemgetter(_NUMBER), reverse=True)
        by_entity: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            by_entity.setdefault((row[1], str(row[2])), []).append(row)
        return by_entity

    def _breakdown_record(self, row: Row) -> Record:
        record: Record = {
            "breakdown_type": self.query.breakdown,
            "breakdown_value": str(row[3]),
        }
        record.update(zip(self.shape.fields, self.values(row), strict=True))
        return record

    def _older_breakdowns(self, entity_id: str, records: list[Record]) -> list[Record]:
        if not records:
            return []
        values = [
            {
                "id": f"{record['breakdown_value']}_{entity_id}",
                "name": record["breakdown_value"],
                **record,
            }
            for record in records
        ]
        return [{"type": self.query.breakdown, "values": values}]

    def _sparklines(self) -> dict[tuple[str, str], dict[str, Row]]:
        by_entity: dict[tuple[str, str], dict[str, Row]] = {}
        for row in self.sections[Section.SPARKLINE]:
            by_entity.setdefault((row[1], str(row[2])), {})[str(row[3])] = row
        return by_entity

    def _sparkline(self, level: str, entity_id: str) -> list[Record]:
        days = self.sparklines.get((level, entity_id), {})
        return [sparkline_day(day, days.get(day)) for day in self.days]


def display_name(level: str, entity_id: str, name: object) -> str:
    return str(name) if name else f"Unknown {_TITLES[level]} ({entity_id})"
