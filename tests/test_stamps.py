"""How new the rows of dates are, read from real files."""

from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from proxy.backends.database import Database
from proxy.backends.stamps import SqliteStamps
from proxy.clock import SystemClock
from proxy.demo.data import make_demo
from proxy.errors import BackendError
from proxy.looks import TABLES
from proxy.telemetry import Telemetry
from tests.public_port import END, SMALL, make_database
from tests.traced_database import TracedDatabase
from tests.writer import Writer

STAMP = "2024-07-01 03:00:00"
DAY = str(END)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "daily.db")


@pytest.fixture
async def stamps(database: Path) -> AsyncIterator[SqliteStamps]:
    stamps = SqliteStamps(Database(database), Telemetry(), SystemClock())
    yield stamps
    stamps.close()


async def test_each_date_is_as_new_as_its_newest_row(stamps: SqliteStamps, database: Path) -> None:
    for table in TABLES:
        assert await stamps.newest(table, [DAY]) == {DAY: STAMP}
    with Writer(database) as writer:
        writer.sql(
            "UPDATE daily_mixpanel_metrics SET computed_at = '2024-07-02 03:00:00'"
            f" WHERE date = '{DAY}' AND entity_type = 'campaign'"
        )
    assert await stamps.newest("daily", [DAY]) == {DAY: "2024-07-02 03:00:00"}


async def test_a_date_without_rows_has_no_time(stamps: SqliteStamps) -> None:
    assert await stamps.newest("daily", ["1999-01-01", DAY]) == {"1999-01-01": None, DAY: STAMP}


async def test_rows_are_counted_by_date(stamps: SqliteStamps) -> None:
    counts = await stamps.counts("daily")
    assert len(counts) == SMALL.days
    assert counts[DAY] == 14


async def test_without_an_index_by_date_all_is_read_at_once(
    stamps: SqliteStamps, database: Path
) -> None:
    with Writer(database) as writer:
        writer.sql("DROP INDEX idx_daily_metrics_date_range")
        writer.sql("DROP INDEX idx_daily_metrics_date_type_id")
        # The one behind UNIQUE (date, …) goes with the table only.
        writer.sql("CREATE TABLE copy AS SELECT * FROM daily_mixpanel_metrics")
        writer.sql("DROP TABLE daily_mixpanel_metrics")
        writer.sql("ALTER TABLE copy RENAME TO daily_mixpanel_metrics")
    found = await stamps.newest("daily", [DAY])
    assert len(found) == SMALL.days
    assert found[DAY] == STAMP


async def test_without_a_breakdown_table_there_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "plain.db"
    make_demo(path, None, size=SMALL, end=END, has_breakdown=False)
    stamps = SqliteStamps(Database(path), Telemetry(), SystemClock())
    assert await stamps.newest("breakdown", [DAY]) == {DAY: None}
    assert await stamps.counts("breakdown") == {}
    stamps.close()


async def test_a_database_that_is_gone_is_told(tmp_path: Path) -> None:
    stamps = SqliteStamps(Database(tmp_path / "none.db"), Telemetry(), SystemClock())
    with pytest.raises(BackendError):
        await stamps.counts("daily")
    stamps.close()


@pytest.mark.parametrize("is_analyzed", [False, True])
async def test_dates_are_found_by_an_index_whatever_the_planner_thinks(
    database: Path, is_analyzed: bool
) -> None:
    if is_analyzed:
        with Writer(database) as writer:
            writer.sql("ANALYZE")
    traced = TracedDatabase(database)
    stamps = SqliteStamps(traced, Telemetry(), SystemClock())
    for table in TABLES:
        await stamps.newest(table, [DAY])
    stamps.close()
    asked = [sql for sql in traced.begun if "MAX(d.computed_at)" in sql]
    assert len(asked) == 2
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    for sql in asked:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", ("[]",))]
        assert any("USING INDEX" in step and "(date=?)" in step for step in plan), plan
    connection.close()
