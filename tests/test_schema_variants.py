"""Every form of tables that a deployment may have: what is answered and what the answer says."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.backends.backend import Fetched
from proxy.backends.database import Database
from proxy.backends.sqlite import SqliteBackend
from proxy.canonical import Limits, canonicalize
from proxy.clock import SystemClock
from proxy.demo.data import make_demo
from proxy.errors import BackendError, SettingsError
from proxy.query import ShapeName
from proxy.shapes import make_shapes
from proxy.telemetry import Telemetry
from tests.agreement import disagreements
from tests.oracle import expect
from tests.oracle_measures import RateMode
from tests.public_port import END, SMALL, Reply, ask, post, serving
from tests.writer import Writer

DAILY = "daily_mixpanel_metrics"
BREAKDOWN = "daily_mixpanel_metrics_breakdown"
QUESTION: dict[str, Any] = {
    "start_date": "2024-06-22",
    "end_date": "2024-06-30",
    "breakdown": "country",
    "include_sparkline": True,
}


@dataclass(frozen=True, slots=True)
class Variant:
    """Arguments of `make_demo`, SQL for either file after it, and the warnings of an answer."""

    warnings: set[str]
    demo: dict[str, Any] = field(default_factory=dict)
    sql: tuple[str, ...] = ()
    meta_sql: tuple[str, ...] | None = None

    def write(self, directory: Path) -> tuple[Path, Path | None]:
        path, meta_path = directory / "tables.db", directory / "meta.db"
        has_meta = self.meta_sql is not None
        make_demo(path, meta_path if has_meta else None, size=SMALL, end=END, **self.demo)
        execute(path, self.sql)
        if self.meta_sql is None:
            return path, None
        execute(meta_path, self.meta_sql)
        return path, meta_path


LEVEL_NAMES: dict[ShapeName, str] = {"dashboard": "hierarchy", "analytics": "group_by"}
NARROW = {"form": "narrow"}
VARIANTS = {
    "wide": Variant(set()),
    "the other spelling of the breakdown's counts": Variant(set(), {"counts": "users"}),
    "names without updated_at": Variant(set(), {"has_updated_at": False}),
    "a Meta database that is not needed": Variant(set(), meta_sql=()),
    "no breakdown table": Variant({"no_breakdown"}, {"has_breakdown": False}),
    "no hierarchy table": Variant({"no_hierarchy"}, {"has_hierarchy": False}),
    "neither": Variant(
        {"no_breakdown", "no_hierarchy"}, {"has_breakdown": False, "has_hierarchy": False}
    ),
    "no rows": Variant({"no_rows"}, sql=(f"DELETE FROM {DAILY}", f"DELETE FROM {BREAKDOWN}")),
    "ads without a hierarchy row": Variant(
        {"orphans"}, sql=("DELETE FROM id_hierarchy_mapping WHERE rowid < 3",)
    ),
    "narrow without Meta": Variant(
        {"narrow", "no_meta", "narrow_breakdown", "no_meta_breakdown"}, NARROW
    ),
    "narrow with Meta": Variant({"narrow", "narrow_breakdown"}, NARROW, meta_sql=()),
    "narrow, Meta indexed by date": Variant(
        {"narrow", "narrow_breakdown"},
        NARROW,
        meta_sql=("CREATE INDEX by_date ON ad_performance_daily (date)",),
    ),
    "narrow, Meta without countries": Variant(
        {"narrow", "narrow_breakdown", "no_meta_breakdown"},
        NARROW,
        meta_sql=("DROP TABLE ad_performance_daily_country",),
    ),
    "narrow, Meta without the plain table": Variant(
        {"narrow", "no_meta", "narrow_breakdown"},
        NARROW,
        meta_sql=("DROP TABLE ad_performance_daily",),
    ),
    "narrow without hierarchy and breakdown": Variant(
        {"narrow", "no_breakdown", "no_hierarchy"},
        {**NARROW, "has_breakdown": False, "has_hierarchy": False},
        meta_sql=(),
    ),
}


def execute(path: Path, statements: Sequence[str]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def fetch(
    path: Path,
    meta_path: Path | None,
    rate_mode: RateMode = "mean",
    shape: ShapeName = "analytics",
    **parameters: object,
) -> Fetched:
    async def run() -> Fetched:
        backend = SqliteBackend(
            Database(path, meta_path),
            make_shapes(),
            Telemetry(),
            SystemClock(),
            rate_mode=rate_mode,
            readers=1,
        )
        query = canonicalize(shape, {**QUESTION, **parameters}, Limits())
        async with backend:
            return await backend.fetch(query)

    return asyncio.run(run())


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_each_form_of_tables_is_answered_and_what_it_lacks_is_said(
    variant: Variant, tmp_path: Path
) -> None:
    path, meta_path = variant.write(tmp_path)
    for shape, level in LEVEL_NAMES.items():
        for rate_mode in ("mean", "ratio"):
            fetched = fetch(path, meta_path, rate_mode, shape, **{level: "campaign"})
            expected = expect(path, meta_path, {**QUESTION, level: "campaign"}, rate_mode, shape)
            assert disagreements(expected, orjson.loads(fetched.payload.body)) == []
            assert set(fetched.warnings) == variant.warnings


def test_narrow_tables_with_meta_tell_the_same_spend_as_wide_ones(tmp_path: Path) -> None:
    (tmp_path / "wide").mkdir()
    (tmp_path / "narrow").mkdir()
    wide = fetch(*VARIANTS["wide"].write(tmp_path / "wide"), group_by="campaign")
    narrow = fetch(*VARIANTS["narrow with Meta"].write(tmp_path / "narrow"), group_by="campaign")
    same = ("spend", "impressions", "clicks", "meta_trials_started", "mixpanel_trials_started")
    found, known = rows_of(narrow), rows_of(wide)
    assert found.keys() == known.keys()
    for row_id, row in known.items():
        assert [found[row_id][name] for name in same] == [row[name] for name in same]
        assert row["spend"] > 0
        assert found[row_id]["trial_conversion_rate"] == 0


def rows_of(fetched: Fetched) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in orjson.loads(fetched.payload.body)["data"]}


def test_a_meta_database_that_is_not_there_yet_is_as_none(tmp_path: Path) -> None:
    path, _ = VARIANTS["narrow without Meta"].write(tmp_path)
    fetched = fetch(path, tmp_path / "later.db")
    assert "no_meta" in fetched.warnings


def test_a_wide_table_without_some_columns_answers_and_names_the_measures(tmp_path: Path) -> None:
    variant = Variant(set(), sql=(f"ALTER TABLE {DAILY} DROP COLUMN actual_refunds_usd",))
    path, _ = variant.write(tmp_path)
    fetched = fetch(path, None)
    assert fetched.warnings == ("zero_measures",)
    answer = orjson.loads(fetched.payload.body)
    assert "actual_refunds" in answer["metadata"]["warnings"][0]
    assert {row["actual_refunds_usd"] for row in answer["data"]} == {0.0}


LACKING = [
    (f"DROP TABLE {DAILY}", f"lacks the required table {DAILY}"),
    ("DROP TABLE id_name_mapping", "lacks the required table id_name_mapping"),
    *(
        (
            f"ALTER TABLE {table} RENAME COLUMN {column} TO gone",
            f"the table {table} lacks the required column {column}",
        )
        for table, columns in {
            DAILY: (
                "date",
                "entity_type",
                "entity_id",
                "computed_at",
                "purchase_users_count",
                "estimated_revenue_usd",
            ),
            "id_name_mapping": ("entity_type", "entity_id", "canonical_name"),
            BREAKDOWN: ("breakdown_type", "breakdown_value", "date", "computed_at"),
            "id_hierarchy_mapping": ("ad_id", "adset_id", "campaign_id"),
        }.items()
        for column in columns
    ),
]


@pytest.mark.parametrize(("statement", "error"), LACKING)
async def test_what_is_required_and_lacking_stops_the_start_and_is_named(
    statement: str, error: str, tmp_path: Path
) -> None:
    path, _ = Variant(set(), sql=(statement,)).write(tmp_path)
    with pytest.raises(SettingsError, match=error) as raised:
        async with serving(path):
            pass
    assert str(path) in str(raised.value)


def test_what_is_lacking_later_is_a_failure_of_the_backend_that_names_it(tmp_path: Path) -> None:
    path, _ = Variant(set(), sql=("DROP TABLE id_name_mapping",)).write(tmp_path)
    with pytest.raises(BackendError, match="id_name_mapping") as raised:
        fetch(path, None)
    assert raised.value.reason == "schema"


CAMPAIGNS = {**QUESTION, "group_by": "campaign"}


async def answers_around(
    path: Path, change: Callable[[Writer], object], meta_path: Path | None = None
) -> list[Reply]:
    """The answers before and after `change`, and once more."""
    body = orjson.dumps(CAMPAIGNS)
    more: dict[str, Any] = {} if meta_path is None else {"meta_database": str(meta_path)}
    with Writer(path) as writer:
        async with serving(path, **more) as running:
            request = post("/analytics/data/optimized", body)
            before = await ask(running.url, request)
            change(writer)
            return [before, await ask(running.url, request), await ask(running.url, request)]


def is_as_expected(reply: Reply, path: Path, meta_path: Path | None = None) -> bool:
    expected = expect(path, meta_path, CAMPAIGNS, "mean", "analytics")
    assert disagreements(expected, orjson.loads(reply.body)) == []
    return reply.status == 200


def warned(reply: Reply) -> set[str]:
    text = reply.headers.get("x-dashboard-warning", "")
    return set(text.split(", ")) - {""}


async def test_a_narrow_table_that_becomes_wide_is_noticed(tmp_path: Path) -> None:
    path, meta_path = VARIANTS["narrow with Meta"].write(tmp_path)
    wide = tmp_path / "wide.db"
    make_demo(wide, None, size=SMALL, end=END)

    def widen(writer: Writer) -> None:
        # As an upgraded pipeline does it: the tables anew, in one commit.
        writer.sql(f"ATTACH '{wide}' AS other")
        writer.sql(
            *(f"DROP TABLE {table}" for table in (DAILY, BREAKDOWN)),
            *(f"CREATE TABLE {t} AS SELECT * FROM other.{t}" for t in (DAILY, BREAKDOWN)),
        )

    before, after, again = await answers_around(path, widen, meta_path)
    assert warned(before) == {"narrow", "narrow_breakdown"}
    assert warned(after) == set()
    assert is_as_expected(after, path, meta_path)
    assert again.headers["cache-status"] == "dashboard-proxy; hit"


async def test_a_column_that_is_added_is_noticed(tmp_path: Path) -> None:
    path, _ = VARIANTS["narrow without Meta"].write(tmp_path)

    def widen(writer: Writer) -> None:
        writer.sql(f"ALTER TABLE {DAILY} ADD COLUMN meta_spend DECIMAL(10,2) NOT NULL DEFAULT 2.5")

    before, after, again = await answers_around(path, widen)
    spends = [orjson.loads(reply.body)["data"][0]["spend"] for reply in (before, after)]
    assert spends[0] == 0
    # Nine days of one campaign.
    assert spends[1] == 22.5
    assert "zero_measures" in warned(after)
    assert again.headers["cache-status"] == "dashboard-proxy; hit"


async def test_a_breakdown_table_that_is_made_is_noticed(tmp_path: Path) -> None:
    path, _ = VARIANTS["no breakdown table"].write(tmp_path)
    other = tmp_path / "other.db"
    make_demo(other, None, size=SMALL, end=END)

    def make(writer: Writer) -> None:
        writer.sql(f"ATTACH '{other}' AS other")
        writer.sql(f"CREATE TABLE {BREAKDOWN} AS SELECT * FROM other.{BREAKDOWN}")

    before, after, again = await answers_around(path, make)
    assert warned(before) == {"no_breakdown"}
    assert warned(after) == set()
    assert is_as_expected(after, path)
    assert again.headers["cache-status"] == "dashboard-proxy; hit"


@pytest.mark.parametrize(
    ("table", "warning"), [(BREAKDOWN, "no_breakdown"), ("id_hierarchy_mapping", "no_hierarchy")]
)
async def test_a_table_that_is_dropped_is_noticed(table: str, warning: str, tmp_path: Path) -> None:
    path, _ = VARIANTS["wide"].write(tmp_path)
    before, after, again = await answers_around(path, lambda w: w.sql(f"DROP TABLE {table}"))
    assert warned(before) == set()
    assert warned(after) == {warning}
    assert is_as_expected(after, path)
    assert again.headers["cache-status"] == "dashboard-proxy; hit"


async def test_a_required_table_that_is_dropped_leaves_the_last_answer(tmp_path: Path) -> None:
    path, _ = VARIANTS["wide"].write(tmp_path)
    before, after, _ = await answers_around(path, lambda w: w.sql(f"DROP TABLE {DAILY}"))
    assert before.status == after.status == 200
    assert after.headers["x-dashboard-source"] == "stale"
    assert orjson.loads(after.body)["data"] == orjson.loads(before.body)["data"]


async def test_flat_answers_are_kept_though_each_row_has_its_own_microsecond(
    tmp_path: Path,
) -> None:
    own_moment = f"UPDATE {DAILY} SET computed_at = computed_at || printf('.%06d', rowid)"
    path, _ = Variant(set(), {"has_hierarchy": False}, (own_moment,)).write(tmp_path)
    body = orjson.dumps({"start_date": "2024-06-22", "end_date": "2024-06-30"})
    async with serving(path) as running:
        replies = [await ask(running.url, post("/data", body)) for _ in range(2)]
    assert replies[1].headers["cache-status"] == "dashboard-proxy; hit"
