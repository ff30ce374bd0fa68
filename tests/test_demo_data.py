"""The demo's databases: levels and breakdowns agree, and equal seeds give equal rows."""

import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.data import SIZES, Size, make_demo

END = date(2024, 3, 31)
TINY = Size(campaigns=2, adsets=2, ads=3, days=5, density=0.8)
COUNTS = ["trial_users_count", "purchase_users_count", "meta_impressions", "meta_trial_count"]
MONEY = ["meta_spend", "estimated_revenue_usd", "adjusted_estimated_revenue_usd", "profit_usd"]


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def sums(columns: list[str]) -> str:
    return ", ".join(f"CAST(ROUND(SUM({name}) * 100) AS INTEGER)" for name in columns)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    paths = (tmp_path / "daily.db", tmp_path / "meta.db")
    make_demo(*paths, size=TINY, end=END)
    return paths


def test_campaigns_adsets_and_ads_add_up_to_the_same_on_every_day(made: tuple[Path, Path]) -> None:
    by_level = rows(
        made[0],
        f"SELECT date, entity_type, {sums(COUNTS + MONEY)} FROM daily_mixpanel_metrics"
        " GROUP BY date, entity_type",
    )
    assert len(by_level) == TINY.days * 3
    for day in {row[0] for row in by_level}:
        assert len({row[2:] for row in by_level if row[0] == day}) == 1


def test_each_parent_equals_the_sum_of_its_own_children(made: tuple[Path, Path]) -> None:
    for level, parent_column in (("adset", "adset_id"), ("campaign", "campaign_id")):
        own = rows(
            made[0],
            f"SELECT entity_id, date, {sums(MONEY)} FROM daily_mixpanel_metrics"
            f" WHERE entity_type = '{level}' GROUP BY 1, 2 ORDER BY 1, 2",
        )
        of_ads = rows(
            made[0],
            f"SELECT {parent_column}, date, {sums(MONEY)} FROM daily_mixpanel_metrics"
            " JOIN id_hierarchy_mapping ON ad_id = entity_id"
            " WHERE entity_type = 'ad' GROUP BY 1, 2 ORDER BY 1, 2",
        )
        assert own
        assert own == of_ads


def test_the_parts_of_a_breakdown_add_up_to_their_entity(made: tuple[Path, Path]) -> None:
    columns = ["meta_impressions", "meta_trial_count", *MONEY]
    keys = "entity_type, entity_id, date"
    own = rows(
        made[0],
        f"SELECT {keys}, {sums(['trial_users_count', *columns])}"
        f" FROM daily_mixpanel_metrics GROUP BY {keys} ORDER BY {keys}",
    )
    for kind in ("country", "region", "device"):
        parts = rows(
            made[0],
            f"SELECT {keys}, {sums(['mixpanel_trial_count', *columns])}"
            f" FROM daily_mixpanel_metrics_breakdown WHERE breakdown_type = '{kind}'"
            f" GROUP BY {keys} ORDER BY {keys}",
        )
        assert parts == own


def test_the_meta_database_holds_the_numbers_of_the_meta_columns(made: tuple[Path, Path]) -> None:
    daily = rows(
        made[0],
        "SELECT entity_id, date, meta_spend, meta_impressions, meta_clicks, meta_trial_count,"
        " meta_purchase_count FROM daily_mixpanel_metrics WHERE entity_type = 'ad' ORDER BY 1, 2",
    )
    columns = "spend, impressions, clicks, meta_trials, meta_purchases"
    assert daily == rows(
        made[1], f"SELECT ad_id, date, {columns} FROM ad_performance_daily ORDER BY 1, 2"
    )
    by_country = rows(
        made[0],
        "SELECT entity_id, date, breakdown_value, meta_spend, meta_impressions, meta_clicks,"
        " meta_trial_count, meta_purchase_count FROM daily_mixpanel_metrics_breakdown"
        " WHERE entity_type = 'ad' AND breakdown_type = 'country' ORDER BY 1, 2, 3",
    )
    assert by_country == rows(
        made[1],
        f"SELECT ad_id, date, country, {columns} FROM ad_performance_daily_country"
        " ORDER BY 1, 2, 3",
    )


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())


def test_equal_seeds_give_equal_rows_and_other_seeds_others(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.db", "b.db", "c.db")]
    for path, seed in zip(paths, (7, 7, 8), strict=True):
        make_demo(path, path.with_suffix(".meta"), size=TINY, end=END, seed=seed)
    first, same, other = (dump(path) for path in paths)
    assert first == same
    assert first != other
    assert dump(paths[0].with_suffix(".meta")) == dump(paths[1].with_suffix(".meta"))


def test_a_day_is_the_same_whatever_range_it_was_made_in(tmp_path: Path) -> None:
    long, short = tmp_path / "long.db", tmp_path / "short.db"
    make_demo(long, None, size=TINY, end=END, computed_at="2024-04-01 00:00:00")
    days = Size(campaigns=2, adsets=2, ads=3, days=1, density=0.8)
    make_demo(short, None, size=days, end=date(2024, 3, 29), computed_at="2024-04-01 00:00:00")
    sql = (
        "SELECT entity_id, trial_users_count, meta_spend, profit_usd FROM daily_mixpanel_metrics"
        " WHERE date = '2024-03-29' ORDER BY 1"
    )
    assert rows(long, sql) == rows(short, sql) != []


def test_size_s_has_its_entities_days_and_believable_values(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    make_demo(path, None, size="s", end=END)
    assert rows(
        path,
        "SELECT entity_type, COUNT(DISTINCT entity_id), COUNT(DISTINCT date), MAX(date)"
        " FROM daily_mixpanel_metrics GROUP BY 1 ORDER BY 1",
    ) == [
        ("ad", 60, SIZES["s"].days, "2024-03-31"),
        ("adset", 15, SIZES["s"].days, "2024-03-31"),
        ("campaign", 5, SIZES["s"].days, "2024-03-31"),
    ]
    assert rows(path, "SELECT DISTINCT computed_at FROM daily_mixpanel_metrics") == [
        ("2024-04-01 03:00:00",)
    ]
    [(wrong,)] = rows(
        path,
        "SELECT COUNT(*) FROM daily_mixpanel_metrics WHERE LENGTH(entity_id) <> 18"
        " OR trial_conversion_rate_actual NOT BETWEEN 0 AND 1 OR estimated_roas < 0"
        " OR meta_spend < 0 OR trial_refund_rate_actual NOT BETWEEN 0 AND 1"
        " OR ABS(estimated_roas * meta_spend - adjusted_estimated_revenue_usd)"
        "    > 0.01 + 0.0002 * meta_spend"
        " OR ABS(profit_usd - (adjusted_estimated_revenue_usd - meta_spend)) > 0.001"
        " OR (trial_user_ids IS NOT NULL"
        "     AND json_array_length(trial_user_ids) <> trial_users_count)",
    )
    assert wrong == 0
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_parents_rate_lies_between_those_of_its_children(made: tuple[Path, Path]) -> None:
    wrong = rows(
        made[0],
        "SELECT own.entity_id FROM daily_mixpanel_metrics own"
        " JOIN id_hierarchy_mapping ON adset_id = own.entity_id"
        " JOIN daily_mixpanel_metrics ad ON ad.entity_id = ad_id AND ad.date = own.date"
        " WHERE own.entity_type = 'adset' AND ad.trial_users_count > 0"
        " GROUP BY own.entity_id, own.date HAVING own.trial_conversion_rate_actual NOT BETWEEN"
        "  MIN(ad.trial_conversion_rate_actual) - 0.0001 AND MAX(ad.trial_conversion_rate_actual)",
    )
    assert wrong == []


def columns(path: Path, table: str) -> set[str]:
    return {name for (name,) in rows(path, f"SELECT name FROM pragma_table_info('{table}')")}


def test_the_narrow_form_has_three_measures_and_the_same_numbers(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    narrow = tmp_path / "narrow.db"
    make_demo(narrow, None, size=TINY, end=END, form="narrow")
    ids = {f"{kind}_user_ids" for kind in ("trial", "purchase", "post_trial", "converted")}
    ids |= {"trial_refund_user_ids", "purchase_refund_user_ids"}
    assert columns(narrow, "daily_mixpanel_metrics") == ids | {
        *("metric_id", "date", "entity_type", "entity_id", "trial_users_count"),
        *("purchase_users_count", "estimated_revenue_usd", "data_quality_score", "computed_at"),
    }
    assert "meta_spend" not in columns(narrow, "daily_mixpanel_metrics_breakdown")
    sql = "SELECT entity_id, date, trial_users_count, estimated_revenue_usd, trial_user_ids"
    sql += " FROM daily_mixpanel_metrics ORDER BY 1, 2"
    assert rows(narrow, sql) == rows(made[0], sql)


def test_the_breakdown_counts_can_be_spelt_the_other_way(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    make_demo(other, None, size=TINY, end=END, counts="users")
    table = "daily_mixpanel_metrics_breakdown"
    assert rows(
        other, f"SELECT SUM(trial_users_count), SUM(purchase_users_count) FROM {table}"
    ) == (
        rows(
            made[0], f"SELECT SUM(mixpanel_trial_count), SUM(mixpanel_purchase_count) FROM {table}"
        )
    )
    assert "mixpanel_trial_count" not in columns(other, table)


def test_tables_and_columns_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "bare.db"
    make_demo(
        path,
        None,
        size=TINY,
        end=END,
        has_breakdown=False,
        has_hierarchy=False,
        has_updated_at=False,
    )
    tables = rows(path, "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%_m%'")
    assert {name for (name,) in tables} == {"daily_mixpanel_metrics", "id_name_mapping"}
    assert "updated_at" not in columns(path, "id_name_mapping")
    indexes = {
        name for (name,) in rows(path, "SELECT name FROM sqlite_master WHERE type = 'index'")
    }
    assert "idx_daily_metrics_date_type_id" in indexes
    assert not {name for name in indexes if "breakdown" in name or "hierarchy" in name}
    assert "idx_id_name_mapping_updated" not in indexes


def test_breakdown_rows_can_be_kept_to_the_last_days(tmp_path: Path) -> None:
    path = tmp_path / "last.db"
    size = Size(campaigns=1, adsets=1, ads=2, days=5, breakdown_days=2)
    make_demo(path, None, size=size, end=END)
    days = rows(path, "SELECT DISTINCT date FROM daily_mixpanel_metrics_breakdown ORDER BY 1")
    assert days == [("2024-03-30",), ("2024-03-31",)]


def test_progress_goes_up_to_one(tmp_path: Path) -> None:
    told: list[float] = []
    make_demo(tmp_path / "p.db", None, size=TINY, end=END, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_failure_half_way_leaves_the_files_from_before(made: tuple[Path, Path]) -> None:
    before = [path.read_bytes() for path in made]

    def interrupt(done: float) -> None:
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_demo(*made, size=TINY, end=END, seed=2, progress=interrupt)
    assert [path.read_bytes() for path in made] == before
    assert sorted(path.name for path in made[0].parent.iterdir()) == ["daily.db", "meta.db"]
