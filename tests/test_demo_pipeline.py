"""The demo's pipeline: three days rewritten, levels still agreeing, and the refill."""

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.data import Size, make_demo
from proxy.demo.pipeline import empty, keep_running, refill, run_pipeline

END = date(2024, 3, 31)
TINY = Size(campaigns=2, adsets=2, ads=3, days=6, density=0.8)
NOW = datetime(2024, 4, 1, 9, 30, 0, 123456, tzinfo=UTC)
STAMP = "2024-04-01 09:30:00.123456"
BEFORE = "2024-04-01 03:00:00"
DAILY = "daily_mixpanel_metrics"
BREAKDOWN = "daily_mixpanel_metrics_breakdown"


class FrozenClock:
    def now(self) -> float:
        return NOW.timestamp()

    def monotonic(self) -> float:
        return 0.0


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def contents(path: Path, table: str, where: str = "1") -> list[tuple[Any, ...]]:
    """All columns but the row id and `computed_at`, in an order of their own."""
    listed = [name for _, name, *_ in rows(path, f"PRAGMA table_info({table})")]
    kept = ", ".join(name for name in listed if name not in ("metric_id", "computed_at"))
    return sorted(rows(path, f"SELECT {kept} FROM {table} WHERE {where}"), key=repr)


def stamps(path: Path, table: str) -> list[tuple[Any, ...]]:
    return rows(path, f"SELECT DISTINCT computed_at, MIN(date) FROM {table} GROUP BY 1 ORDER BY 1")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "daily.db"
    make_demo(path, None, size=TINY, end=END)
    return path


@pytest.mark.parametrize("table", [DAILY, BREAKDOWN])
def test_a_run_moves_computed_at_and_touches_only_three_days(database: Path, table: str) -> None:
    older = contents(database, table, "date < '2024-03-29'")
    newer = contents(database, table, "date >= '2024-03-29'")
    run_pipeline(database, now=NOW)
    assert contents(database, table, "date < '2024-03-29'") == older
    changed = contents(database, table, "date >= '2024-03-29'")
    assert changed != newer
    assert len(changed) == len(newer)
    assert stamps(database, table) == [(BEFORE, "2024-03-26"), (STAMP, "2024-03-29")]


def test_replaced_rows_have_new_ids(database: Path) -> None:
    [(last,)] = rows(database, f"SELECT MAX(metric_id) FROM {DAILY}")
    run_pipeline(database, now=NOW)
    [(first_new,)] = rows(
        database, f"SELECT MIN(metric_id) FROM {DAILY} WHERE computed_at = '{STAMP}'"
    )
    assert first_new > last


def test_levels_and_breakdowns_agree_after_a_run_and_meta_counts_stay(database: Path) -> None:
    sql = (
        "SELECT DISTINCT date, SUM({trials}), CAST(ROUND(SUM(profit_usd) * 100) AS INTEGER),"
        " SUM(meta_impressions), CAST(ROUND(SUM(meta_spend) * 100) AS INTEGER)"
        " FROM {table} GROUP BY date, entity_type, {kind}"
    )
    meta = f"SELECT entity_id, date, meta_spend, meta_clicks, meta_trial_count FROM {DAILY}"
    before = sorted(rows(database, meta))
    run_pipeline(database, now=NOW)
    daily = rows(database, sql.format(trials="trial_users_count", table=DAILY, kind="1"))
    parts = rows(
        database,
        sql.format(trials="mixpanel_trial_count", table=BREAKDOWN, kind="breakdown_type"),
    )
    assert len(daily) == TINY.days
    assert sorted(parts) == sorted(daily)
    assert sorted(rows(database, meta)) == before


def test_the_breakdown_rows_come_in_a_later_commit(database: Path) -> None:
    seen: list[tuple[str, str]] = []

    def look() -> None:
        [(daily,)] = rows(database, f"SELECT MAX(computed_at) FROM {DAILY}")
        [(parts,)] = rows(database, f"SELECT MAX(computed_at) FROM {BREAKDOWN}")
        seen.append((daily, parts))

    run_pipeline(database, now=NOW, between=look)
    assert seen == [(STAMP, BEFORE)]


def test_equal_seeds_and_times_write_equal_rows(database: Path, tmp_path: Path) -> None:
    copies = [tmp_path / "a.db", tmp_path / "b.db", tmp_path / "c.db"]
    for copy, seed in zip(copies, (5, 5, 6), strict=True):
        make_demo(copy, None, size=TINY, end=END)
        run_pipeline(copy, now=NOW, seed=seed)
    first, same, other = (contents(copy, DAILY) for copy in copies)
    assert first == same != other


def test_narrow_tables_without_breakdown_are_rewritten_too(tmp_path: Path) -> None:
    path = tmp_path / "narrow.db"
    make_demo(path, None, size=TINY, end=END, form="narrow", has_breakdown=False)
    run_pipeline(path, now=NOW, days=1)
    assert stamps(path, DAILY) == [(BEFORE, "2024-03-26"), (STAMP, "2024-03-31")]
    sums = rows(
        path,
        f"SELECT DISTINCT date, SUM(trial_users_count) FROM {DAILY} GROUP BY date, entity_type",
    )
    assert len(sums) == TINY.days


def test_refilling_brings_the_same_numbers_back_the_breakdown_last(database: Path) -> None:
    before = [contents(database, table) for table in (DAILY, BREAKDOWN)]
    empty(database)
    assert contents(database, DAILY) == contents(database, BREAKDOWN) == []
    seen: list[tuple[int, int]] = []

    def look() -> None:
        seen.append((len(contents(database, DAILY)), len(contents(database, BREAKDOWN))))

    refill(database, now=NOW, between=look)
    assert seen == [(len(before[0]), 0)]
    assert [contents(database, table) for table in (DAILY, BREAKDOWN)] == before
    assert stamps(database, DAILY) == stamps(database, BREAKDOWN) == [(STAMP, "2024-03-26")]
    assert [path.name for path in database.parent.iterdir()] == [database.name]


def test_an_empty_table_is_left_as_it_is(database: Path) -> None:
    empty(database)
    run_pipeline(database, now=NOW)
    assert contents(database, DAILY) == []


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        run_pipeline(tmp_path / "none.db", now=NOW)
    assert list(tmp_path.iterdir()) == []


async def test_it_runs_as_often_as_asked_and_rebuilds_in_between(database: Path) -> None:
    told: list[str] = []
    before = contents(database, DAILY, "date < '2024-03-29'")
    await keep_running(
        database,
        clock=FrozenClock(),
        interval_s=0,
        runs=3,
        rebuild_every=2,
        silence_s=0,
        tell=told.append,
    )
    assert [line.split(",")[0] for line in told] == [
        "run 1: the last 3 days rewritten",
        "run 2: emptied",
        "run 2: refilled",
        "run 3: the last 3 days rewritten",
    ]
    assert contents(database, DAILY, "date < '2024-03-29'") == before


async def test_cancelled_in_the_silence_it_refills_at_once(database: Path) -> None:
    before = contents(database, DAILY)
    loop, is_empty = asyncio.get_running_loop(), asyncio.Event()

    def tell(line: str) -> None:
        loop.call_soon_threadsafe(is_empty.set)

    work = keep_running(database, clock=FrozenClock(), rebuild_every=1, silence_s=3600, tell=tell)
    task = asyncio.create_task(work)
    await is_empty.wait()
    assert contents(database, DAILY) == []
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await loop.shutdown_default_executor()
    assert contents(database, DAILY) == before


def test_it_runs_as_its_own_process(database: Path) -> None:
    command = [sys.executable, "-m", "proxy.demo.pipeline", "--database", str(database)]
    done = subprocess.run([*command, "--runs", "1"], capture_output=True, timeout=60, text=True)
    assert (done.returncode, done.stdout) == (0, "run 1: the last 3 days rewritten\n")
    assert len(stamps(database, DAILY)) == 2
