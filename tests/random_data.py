"""Small random databases, ugly in every way that a deployment's may be, and questions to them."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeVar

from hypothesis import strategies as st

LEVELS = ("campaign", "adset", "ad")
BREAKDOWNS = ("country", "region", "device")
FIRST_DAY = date(2024, 2, 19)
"""The weeks from here on hold a 29th of February."""
DAYS = 24

_COUNTS = ("meta_impressions", "meta_clicks", "meta_trial_count", "meta_purchase_count")
_MONEY = (
    "meta_spend",
    "adjusted_estimated_revenue_usd",
    "actual_revenue_usd",
    "actual_refunds_usd",
    "net_actual_revenue_usd",
    "profit_usd",
)
_RATES = (
    "trial_conversion_rate_estimated",
    "trial_conversion_rate_actual",
    "trial_refund_rate_estimated",
    "trial_refund_rate_actual",
    "purchase_refund_rate_estimated",
    "purchase_refund_rate_actual",
    "estimated_roas",
    "trial_accuracy_ratio",
    "purchase_accuracy_ratio",
)
_META_COUNTS = ("impressions", "clicks", "meta_trials", "meta_purchases")
_VALUES: tuple[str | None, ...] = ("US", "us", "DE", "Île-de-France", "", "Unknown", None)
_TEXT_IDS = ("1", "01", "9", "10", "1.0", "1e1", "a", "A", "é", "x'y", "120211118830750001", " 1")
_INTEGER_IDS = (1, 9, 10, 11, 101, 120211118830750001)

T = TypeVar("T")
Row = tuple[Any, ...]
Form = Literal["wide", "narrow"]
Id = str | int


@dataclass(slots=True)
class Table:
    """Columns and rows in the order of insertion; `extra` is SQL after the table is made."""

    name: str
    columns: tuple[str, ...]
    types: Mapping[str, str]
    rows: list[Row] = field(default_factory=list)
    extra: tuple[str, ...] = ()

    def create(self, db: sqlite3.Connection, rows: Sequence[Row]) -> None:
        listed = ", ".join(f"{name} {self.types.get(name, '')}" for name in self.columns)
        db.execute(f"CREATE TABLE {self.name} ({listed})")
        for statement in self.extra:
            db.execute(statement)
        marks = ", ".join("?" * len(self.columns))
        db.executemany(f"INSERT INTO {self.name} VALUES ({marks})", rows)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a database is like; hypothesis chooses it, so that it can be made simpler.

    The cells come from `seed`: to draw thousands of them one by one would be slow.
    """

    seed: int
    entities: int
    density: float
    daily: Form
    breakdown: Form | None
    has_other_spelling: bool
    has_hierarchy: bool
    has_updated_at: bool
    has_nulls: bool
    has_declared_types: bool
    has_integer_ids: bool
    has_indexes: bool
    meta: Literal["none", "by ad", "by date", "without breakdowns"]
    stamps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class World:
    """Everything that two database files hold. `meta` is None where there is no Meta database."""

    tables: tuple[Table, ...]
    meta: tuple[Table, ...] | None

    def write(self, directory: Path, *, shuffled: int | None = None) -> tuple[Path, Path | None]:
        """Make both files. `shuffled` is the seed of another order of rows, with other rowids."""
        path = directory / "mixpanel.db"
        _write(path, self.tables, shuffled)
        if self.meta is None:
            return path, None
        meta_path = directory / "meta.db"
        _write(meta_path, self.meta, shuffled)
        return path, meta_path


def _write(path: Path, tables: Sequence[Table], shuffled: int | None) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=OFF")
        db.execute("PRAGMA synchronous=OFF")
        db.execute("BEGIN")
        for table in tables:
            rows = list(table.rows)
            if shuffled is not None:
                Random(shuffled).shuffle(rows)
            table.create(db, rows)
        db.execute("COMMIT")


plans = st.builds(
    Plan,
    seed=st.integers(0, 2**32),
    entities=st.integers(0, 5),
    density=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
    daily=st.sampled_from(["wide", "wide", "narrow"]),
    breakdown=st.sampled_from(["wide", "wide", "narrow", None]),
    has_other_spelling=st.booleans(),
    has_hierarchy=st.sampled_from([True, True, True, False]),
    has_updated_at=st.booleans(),
    has_nulls=st.booleans(),
    has_declared_types=st.booleans(),
    has_integer_ids=st.sampled_from([False, False, False, True]),
    has_indexes=st.booleans(),
    meta=st.sampled_from(["none", "by ad", "by date", "without breakdowns"]),
    stamps=st.sampled_from([(" ", ""), ("T", ""), (" ", ".000001"), ("T", ".654321")]),
)


def make_world(plan: Plan) -> World:
    """The same world for the same plan."""
    return _Maker(plan).world()


@st.composite
def questions(draw: st.DrawFn, shape: str) -> dict[str, Any]:
    """The parameters of a question, defaults left out now and then."""
    start = FIRST_DAY + timedelta(days=draw(st.integers(-2, DAYS)))
    end = start + timedelta(days=draw(st.sampled_from([0, 1, 6, 13, 30])))
    parameters: dict[str, Any] = {"start_date": start.isoformat(), "end_date": end.isoformat()}
    level = "hierarchy" if shape == "dashboard" else "group_by"
    optional: dict[str, st.SearchStrategy[Any]] = {
        level: st.sampled_from(LEVELS),
        "breakdown": st.sampled_from(["all", *BREAKDOWNS]),
        "depth": st.integers(1, 3),
        "include_sparkline": st.booleans(),
    }
    for name, values in optional.items():
        if (value := draw(st.none() | values)) is not None:
            parameters[name] = value
    return parameters


class _Maker:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.random = Random(plan.seed)
        pool: Sequence[Id] = _INTEGER_IDS if plan.has_integer_ids else _TEXT_IDS
        # One pool for all levels: the same id stands under two of them.
        self.ids = {
            level: self.random.sample(pool, min(plan.entities, len(pool))) for level in LEVELS
        }
        id_type = "INTEGER" if plan.has_integer_ids else "TEXT"
        self.types = {f"{name}_id": id_type for name in ("entity", *LEVELS)}
        if plan.has_declared_types:
            self.types |= dict.fromkeys(("date", "last_seen_date"), "DATE")
            self.types |= dict.fromkeys(_COUNTS + _META_COUNTS, "INTEGER")
            self.types |= dict.fromkeys((*_MONEY, "estimated_revenue_usd"), "DECIMAL(10,2)")
            self.types |= dict.fromkeys(_RATES, "DECIMAL(5,4)")

    def world(self) -> World:
        tables = [self.daily(), self.names()]
        if self.plan.breakdown is not None:
            tables.append(self.breakdown(self.plan.breakdown))
        if self.plan.has_hierarchy:
            tables.append(self.hierarchy())
        meta = None if self.plan.meta == "none" else self.meta()
        return World(tuple(tables), meta)

    def days(self, density: float) -> list[str]:
        """Some days of the weeks, with holes."""
        days = [(FIRST_DAY + timedelta(days=ahead)).isoformat() for ahead in range(DAYS)]
        return [day for day in days if self.random.random() < density]

    def measures(self, form: Form, counts: tuple[str, str]) -> dict[str, Any]:
        cells: dict[str, Any] = {name: self.count() for name in counts}
        cells["estimated_revenue_usd"] = self.money()
        if form == "wide":
            cells |= {name: self.count() for name in _COUNTS}
            cells |= {name: self.money() for name in _MONEY}
            cells |= {name: self.rate() for name in _RATES}
        return cells | {"computed_at": self.stamp()}

    def daily(self) -> Table:
        counts = ("trial_users_count", "purchase_users_count")
        table = self.table("daily_mixpanel_metrics", ("date", "entity_type", "entity_id"))
        table.columns += tuple(self.measures(self.plan.daily, counts))
        for level in (*LEVELS, "account"):
            for entity_id in self.ids.get(level, ["1"]):
                for day in self.days(self.plan.density * self.random.choice([0, 0.5, 1])):
                    cells = self.measures(self.plan.daily, counts)
                    table.rows.append((day, level, entity_id, *cells.values()))
        if self.plan.has_indexes:
            table.extra = (
                f"CREATE UNIQUE INDEX daily_key ON {table.name} (date, entity_type, entity_id)",
                f"CREATE INDEX daily_type ON {table.name} (entity_type)",
            )
        return table

    def breakdown(self, form: Form) -> Table:
        counts = ("mixpanel_trial_count", "mixpanel_purchase_count")
        if self.plan.has_other_spelling:
            counts = ("trial_users_count", "purchase_users_count")
        key = ("entity_type", "entity_id", "date", "breakdown_type", "breakdown_value")
        table = self.table("daily_mixpanel_metrics_breakdown", key)
        table.columns += tuple(self.measures(form, counts))
        for level in LEVELS:
            for entity_id in self.ids[level]:
                for day in self.days(self.plan.density * self.random.choice([0, 0.5])):
                    kind = self.random.choice(BREAKDOWNS)
                    for value in self.values():
                        cells = self.measures(form, counts).values()
                        table.rows.append((level, entity_id, day, kind, value, *cells))
        if self.plan.has_indexes:
            indexed = "entity_type, entity_id, date, breakdown_type"
            table.extra = (f"CREATE INDEX breakdown_key ON {table.name} ({indexed})",)
        return table

    def names(self) -> Table:
        table = self.table("id_name_mapping", ("entity_type", "entity_id", "canonical_name"))
        if self.plan.has_updated_at:
            table.columns += ("updated_at",)
        for level in LEVELS:
            for entity_id in self.ids[level]:
                name = self.random.choice([f"{level} {entity_id}", "Näme \u2028 \"'", "", "gone"])
                if name == "gone" or (name == "" and not self.plan.has_nulls):
                    continue
                known = self.random.choice([name, None]) if self.plan.has_nulls else name
                updated = ("2024-03-01 00:00:00",) if self.plan.has_updated_at else ()
                table.rows.append((level, entity_id, known, *updated))
        return table

    def hierarchy(self) -> Table:
        """Adsets under two campaigns, with confidences, dates and ids that tie; ads left out."""
        key = ("ad_id", "adset_id", "campaign_id")
        table = self.table("id_hierarchy_mapping", key)
        table.columns += ("relationship_confidence", "last_seen_date")
        if not self.ids["ad"]:
            return table
        for ad in self.ids["ad"]:
            for _ in range(self.random.choice([0, 1, 1, 1, 2])):
                adset = self.nullable(self.random.choice(self.ids["adset"]), 0.1)
                campaign = self.nullable(self.random.choice(self.ids["campaign"]), 0.1)
                confidence = self.nullable(self.random.choice([0.5, 0.9, 1, 1.0]), 0.2)
                seen = self.nullable(self.random.choice(["2024-02-28", "2024-03-01"]), 0.2)
                table.rows.append((ad, adset, campaign, confidence, seen))
        if self.plan.has_indexes:
            table.extra = (f"CREATE INDEX hierarchy_adset ON {table.name} (adset_id)",)
        return table

    def meta(self) -> tuple[Table, ...]:
        kinds: tuple[str | None, ...] = (None, *BREAKDOWNS)
        if self.plan.meta == "without breakdowns":
            kinds = (None,)
        return tuple(self.meta_table(kind) for kind in kinds)

    def meta_table(self, kind: str | None) -> Table:
        split = () if kind is None else (kind,)
        name = "_".join(("ad_performance_daily", *split))
        table = self.table(name, ("ad_id", "date", *split, "adset_id", "campaign_id"))
        table.columns += ("spend", *_META_COUNTS)
        for ad in self.ids["ad"]:
            for day in self.days(self.plan.density):
                # Meta's own idea of the parents, which need not be the mapping's.
                adset = self.nullable(self.random.choice(self.ids["adset"]), 0.1)
                campaign = self.nullable(self.random.choice(self.ids["campaign"]), 0.1)
                for value in self.values() if kind else [None]:
                    cells = [self.count() for _ in _META_COUNTS]
                    own = () if kind is None else (value,)
                    table.rows.append((ad, day, *own, adset, campaign, self.money(), *cells))
        lead = "date, ad_id" if self.plan.meta == "by date" else "ad_id, date"
        table.extra = (f"CREATE INDEX {name}_key ON {name} ({lead})",)
        return table

    def table(self, name: str, columns: tuple[str, ...]) -> Table:
        return Table(name, columns, self.types)

    def values(self) -> list[str | None]:
        chosen = self.random.sample(_VALUES, self.random.randint(1, 4))
        return [value for value in chosen if value is not None or self.plan.has_nulls]

    def nullable(self, value: T, share: float) -> T | None:
        return None if self.plan.has_nulls and self.random.random() < share else value

    def count(self) -> int | float | None:
        count = self.random.choice([0, 0, 1, 2, 7, 1000])
        stored: int | float = self.random.choice([count, count, float(count)])
        return self.number(stored)

    def money(self) -> int | float | None:
        cents = self.random.choice([0, 0, 1, 50, 199, 1000, 123_456, -250])
        return self.number(self.random.choice([cents / 100, cents, round(cents / 100 + 0.005, 3)]))

    def rate(self) -> int | float | None:
        return self.number(self.random.choice([0, 0, 1, 0.25, 0.3333, 0.1234, 1 / 3, 2.5]))

    def number(self, value: float) -> int | float | None:
        return self.nullable(value, 0.2)

    def stamp(self) -> str | None:
        between, fraction = self.plan.stamps
        day, second = self.random.randint(1, 28), self.random.randint(0, 59)
        return f"2024-03-{day:02}{between}03:00:{second:02}{fraction}"
