"""The legacy's numbers, computed its own slow way: four queries per entity and day.

It shares nothing with the proxy's statement, so that comparing them means something.
"""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cached_property
from math import fsum
from pathlib import Path

from proxy.demo.fields import COUNTS, FAMILIES, FIELDS, FROM_META, MONEY, RATES, Json, Record
from proxy.demo.question import Question
from proxy.query import LEVELS, Level

DAILY = "daily_mixpanel_metrics"
DIVIDED = "daily_mixpanel_metrics_breakdown"

Values = dict[str, list[float]]
"""Name in FAMILIES -> one value per day that has one."""


def open_readonly(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)


def compute(
    database: Path,
    meta_database: Path | None,
    question: Question,
    *,
    is_stopping: Callable[[], bool] = lambda: False,
) -> list[Record]:
    """Records of the asked level with all below them, highest adjusted revenue first.

    Raises sqlite3.Error; InterruptedError soon after `is_stopping` says so.
    """
    with closing(open_readonly(database)) as db:
        if meta_database is None:
            return _Computation(db, None, question, is_stopping).records()
        with closing(open_readonly(meta_database)) as meta:
            return _Computation(db, meta, question, is_stopping).records()


class _Computation:
    """One question being worked on."""

    def __init__(
        self,
        db: sqlite3.Connection,
        meta: sqlite3.Connection | None,
        question: Question,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._db = db
        self._meta = meta
        self._question = question
        self._is_stopping = is_stopping

    def records(self) -> list[Record]:
        active = {level: self._active(level) for level in LEVELS}
        # An adset whose ads have rows is shown though it has none itself, and so on up.
        active["adset"] |= {self._adset_of[ad] for ad in active["ad"] if ad in self._adset_of}
        parents = {self._campaign_of[i] for i in active["adset"] if i in self._campaign_of}
        active["campaign"] |= parents
        children: dict[tuple[str, str], list[str]] = {}
        for child, parent in self._adset_of.items():
            if child in active["ad"]:
                children.setdefault(("adset", parent), []).append(child)
        for child, parent in self._campaign_of.items():
            if child in active["adset"]:
                children.setdefault(("campaign", parent), []).append(child)
        return self._sorted(self._question.level, sorted(active[self._question.level]), children)

    def _sorted(
        self, level: Level, ids: list[str], children: dict[tuple[str, str], list[str]]
    ) -> list[Record]:
        records: list[tuple[float, str, Record]] = []
        for entity_id in ids:
            if self._is_stopping():
                raise InterruptedError
            own = self._measured(self._daily(level, entity_id), level, entity_id)
            record: Record = {"id": f"{level}_{entity_id}", "entity_type": level}
            record |= {"name": self._name(level, entity_id)} | self._parents(level, entity_id)
            record |= {field: own[name] for field, name in FIELDS.items()}
            if self._question.breakdown != "all":
                record["breakdowns"] = self._breakdowns(level, entity_id)
            below: list[Json] = []
            if level != "ad":
                next_level = LEVELS[LEVELS.index(level) + 1]
                below += self._sorted(next_level, children.get((level, entity_id), []), children)
            record["children"] = below
            records.append((-own["adjusted"], entity_id, record))
        return [record for _, _, record in sorted(records, key=lambda line: line[:2])]

    def _active(self, level: Level) -> set[str]:
        sql = f"SELECT entity_id FROM {DAILY} WHERE date = ? AND entity_type = ?"
        return {
            str(entity_id)
            for day in self._question.days
            for (entity_id,) in self._db.execute(sql, (day, level))
        }

    def _daily(self, level: Level, entity_id: str) -> Values:
        found: Values = {}
        where = "date = ? AND entity_type = ? AND entity_id = ?"
        for day in self._question.days:
            for columns in self._families(DAILY):
                sql = f"SELECT {', '.join(columns.values())} FROM {DAILY} WHERE {where}"
                for row in self._db.execute(sql, (day, level, entity_id)):
                    _collect(found, list(columns), row)
        return found

    def _divided(self, level: Level, entity_id: str) -> dict[str, Values]:
        """The same per breakdown value."""
        found: dict[str, Values] = {}
        where = "entity_type = ? AND entity_id = ? AND date = ? AND breakdown_type = ?"
        for day in self._question.days:
            for columns in self._families(DIVIDED):
                listed = ", ".join(columns.values())
                sql = f"SELECT breakdown_value, {listed} FROM {DIVIDED} WHERE {where}"
                key = (level, entity_id, day, self._question.breakdown)
                for value, *row in self._db.execute(sql, key):
                    _collect(found.setdefault(str(value), {}), list(columns), row)
        return found

    def _breakdowns(self, level: Level, entity_id: str) -> list[Json]:
        values: list[tuple[float, str, Json]] = []
        for value, found in self._divided(level, entity_id).items():
            own = self._measured(found, level, entity_id, value)
            line: Record = {"name": value, "id": f"{value}_{entity_id}"}
            line |= {field: own[name] for field, name in FIELDS.items()}
            values.append((-own["adjusted"], value, line))
        ordered = [line for _, _, line in sorted(values, key=lambda line: line[:2])]
        return [{"type": self._question.breakdown, "values": ordered}]

    def _measured(
        self, found: Values, level: Level, entity_id: str, value: str | None = None
    ) -> dict[str, float]:
        """Sums, and plain means of the rates; what a narrow table lacks comes from Meta."""
        own: dict[str, float] = {name: fsum(found.get(name, ())) for name in COUNTS | FROM_META}
        own |= {name: fsum(found.get(name, ())) for name in MONEY}
        for name in RATES:
            days = found.get(name, [])
            own[name] = fsum(days) / len(days) if days else 0.0
        if self._is_narrow:
            own |= self._from_meta(level, entity_id, value)
            own["adjusted"] = own["estimated"]
            own["profit"] = own["estimated"] - own["spend"]
            own["roas"] = _ratio(own["estimated"], own["spend"])
            own["trial_accuracy"] = _ratio(own["trials"], own["meta_trials"])
            own["purchase_accuracy"] = _ratio(own["purchases"], own["meta_purchases"])
        return {name: _rounded(name, number) for name, number in own.items()}

    def _from_meta(self, level: Level, entity_id: str, value: str | None) -> dict[str, float]:
        kind = None if value is None else self._question.breakdown
        table = "ad_performance_daily" + (f"_{kind}" if kind else "")
        where = "ad_id = ? AND date = ?" + (f" AND {kind} = ?" if kind else "")
        found: Values = {}
        if self._meta is not None:
            for ad in self._ads_below(level, entity_id):
                for day in self._question.days:
                    key = (ad, day) if value is None else (ad, day, value)
                    sql = f"SELECT {', '.join(FROM_META)} FROM {table} WHERE {where}"
                    for row in self._meta.execute(sql, key):
                        _collect(found, list(FROM_META), row)
        return {name: fsum(found.get(name, ())) for name in FROM_META}

    def _ads_below(self, level: Level, entity_id: str) -> list[str]:
        if level == "ad":
            return [entity_id]
        adsets = {entity_id}
        if level == "campaign":
            adsets = {i for i, campaign in self._campaign_of.items() if campaign == entity_id}
        return [ad for ad, adset in self._adset_of.items() if adset in adsets]

    def _families(self, table: str) -> list[dict[str, str]]:
        if table == DAILY:
            return self._daily_families
        return self._divided_families

    @cached_property
    def _daily_families(self) -> list[dict[str, str]]:
        return _present(FAMILIES, _columns(self._db, DAILY))

    @cached_property
    def _divided_families(self) -> list[dict[str, str]]:
        columns = _columns(self._db, DIVIDED)
        counts = dict(COUNTS)
        if "mixpanel_trial_count" in columns:
            counts = {"trials": "mixpanel_trial_count", "purchases": "mixpanel_purchase_count"}
        return _present((counts, *FAMILIES[1:]), columns)

    @cached_property
    def _is_narrow(self) -> bool:
        return "meta_spend" not in _columns(self._db, DAILY)

    @cached_property
    def _hierarchy(self) -> list[tuple[str, str, str]]:
        """The most trusted line last; empty where a deployment has no such table."""
        if not _columns(self._db, "id_hierarchy_mapping"):
            return []
        return self._db.execute(
            "SELECT ad_id, adset_id, campaign_id FROM id_hierarchy_mapping"
            " ORDER BY relationship_confidence, last_seen_date, campaign_id DESC"
        ).fetchall()

    @cached_property
    def _adset_of(self) -> dict[str, str]:
        return {ad: adset for ad, adset, _ in self._hierarchy}

    @cached_property
    def _campaign_of(self) -> dict[str, str]:
        return {adset: campaign for _, adset, campaign in self._hierarchy}

    def _parents(self, level: Level, entity_id: str) -> Record:
        ids: dict[str, str | None] = {level: entity_id}
        if level == "ad":
            ids["adset"] = self._adset_of.get(entity_id)
        if level != "campaign":
            ids["campaign"] = self._campaign_of.get(ids["adset"] or "")
        named: Record = {}
        for kind in LEVELS:
            if kind in ids:
                own_id = ids[kind]
                named[f"{kind}_id"] = own_id
                named[f"{kind}_name"] = None if own_id is None else self._name(kind, own_id)
        return named

    def _name(self, level: Level, entity_id: str) -> str:
        sql = "SELECT canonical_name FROM id_name_mapping WHERE entity_type = ? AND entity_id = ?"
        row = self._db.execute(sql, (level, entity_id)).fetchone()
        return str(row[0]) if row else f"Unknown {level.capitalize()} ({entity_id})"


def _columns(db: sqlite3.Connection, table: str) -> set[str]:
    return {name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,))}


def _present(families: Sequence[dict[str, str]], columns: set[str]) -> list[dict[str, str]]:
    kept = [{name: c for name, c in family.items() if c in columns} for family in families]
    return [family for family in kept if family]


def _collect(found: Values, names: Sequence[str], row: Sequence[float | None]) -> None:
    for name, number in zip(names, row, strict=True):
        if number is not None:
            found.setdefault(name, []).append(number)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0


def _rounded(name: str, number: float) -> float:
    if name in MONEY or name == "spend":
        return round(number, 2)
    if name in RATES:
        return round(number, 6)
    return int(number)
