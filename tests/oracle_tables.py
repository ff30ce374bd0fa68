"""The raw tables of one database as lists of rows, and which parent each row is given."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from tests.oracle_measures import Record, number


@dataclass(frozen=True, slots=True)
class Tables:
    """Every table as a list of rows; None where it is not there."""

    daily: list[Record]
    is_daily_narrow: bool
    breakdown: list[Record] | None
    is_breakdown_narrow: bool
    names: list[Record]
    hierarchy: list[Record] | None
    meta: list[Record] | None
    meta_breakdown: list[Record] | None

    @classmethod
    def read(cls, path: Path, meta_path: Path | None, breakdown: str) -> "Tables":
        with closing(sqlite3.connect(path)) as own:
            daily, daily_columns = _table(own, "daily_mixpanel_metrics")
            broken, broken_columns = _table(own, "daily_mixpanel_metrics_breakdown")
            names, _ = _table(own, "id_name_mapping")
            hierarchy, _ = _table(own, "id_hierarchy_mapping")
        meta: list[Record] | None = None
        meta_breakdown: list[Record] | None = None
        if meta_path is not None:
            with closing(sqlite3.connect(meta_path)) as other:
                meta, _ = _table(other, "ad_performance_daily")
                meta_breakdown, _ = _table(other, f"ad_performance_daily_{breakdown}")
        return cls(
            daily or [],
            "meta_spend" not in daily_columns,
            broken,
            "meta_spend" not in broken_columns,
            names or [],
            hierarchy,
            meta,
            meta_breakdown,
        )


@dataclass(slots=True)
class Parents:
    """Which adset an ad has and which campaign an adset has, each decided once."""

    adset_of: dict[str, str] = field(default_factory=dict)
    campaign_of: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, hierarchy: Iterable[Record]) -> "Parents":
        rows = list(hierarchy)
        return cls(_best(rows, "ad_id", "adset_id"), _best(rows, "adset_id", "campaign_id"))

    def line(self, level: str, entity_id: str) -> dict[str, str | None]:
        """The entity and those above it, by level; None where one is not known."""
        if level == "campaign":
            return {"campaign": entity_id}
        adset = entity_id if level == "adset" else self.adset_of.get(entity_id)
        campaign = None if adset is None else self.campaign_of.get(adset)
        line: dict[str, str | None] = {"campaign": campaign, "adset": adset}
        return line if level == "adset" else {**line, "ad": entity_id}


def _table(connection: sqlite3.Connection, name: str) -> tuple[list[Record] | None, list[str]]:
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
    if not columns:
        return None, []
    rows = connection.execute(f"SELECT * FROM {name}").fetchall()
    return [dict(zip(columns, row, strict=True)) for row in rows], columns


def _best(rows: Iterable[Record], child: str, parent: str) -> dict[str, str]:
    """One parent for each child: most confident, then newest, then smallest id as text."""
    best: dict[str, tuple[Decimal, str, str]] = {}
    # From the smallest id up, so that only a better row takes the place.
    known = [row for row in rows if row[child] is not None and row[parent] is not None]
    for row in sorted(known, key=lambda row: str(row[parent])):
        rank = (number(row["relationship_confidence"]), row["last_seen_date"] or "")
        held = best.get(str(row[child]))
        if held is None or rank > held[:2]:
            best[str(row[child])] = (*rank, str(row[parent]))
    return {child_id: parent_id for child_id, (_, _, parent_id) in best.items()}
