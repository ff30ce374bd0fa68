"""What looks see of real databases that another process writes to, in all the ways it may."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest

from proxy.backends.database import Database
from proxy.backends.looks import SqliteLooks
from proxy.background import Background
from proxy.clock import SystemClock
from proxy.demo.data import Size, make_demo
from proxy.errors import BackendError, BackendUnavailable
from proxy.looks import TableWord
from proxy.query import Breakdown, Level, Query
from proxy.telemetry import Telemetry
from proxy.watermarks import Watermarks
from tests.waiting import until
from tests.writer import Writer

TINY = Size(campaigns=2, adsets=2, ads=2, days=6)
END = date(2024, 3, 31)
DAYS = [str(END - timedelta(days=back)) for back in range(TINY.days)][::-1]
OLD, LAST = DAYS[0], DAYS[-1]
STAMP = "2024-04-01 03:00:00"
"""Of all rows, as the demo data are made."""
DAILY = "daily_mixpanel_metrics"
BREAKDOWN = "daily_mixpanel_metrics_breakdown"
EXPLICIT = (
    f"INSERT OR REPLACE INTO {DAILY} (date, entity_type, entity_id, computed_at)"
    " VALUES ('{date}', 'campaign', '{id}', '{stamp}')"
)


def question(day: str, level: Level = "campaign", breakdown: Breakdown = "all") -> Query:
    on = date.fromisoformat(day)
    return Query("analytics", on, on, level, breakdown)


@dataclass
class Eye:
    """What following the database knows of it, look by look."""

    looks: SqliteLooks
    watermarks: Watermarks
    background: Background

    async def tokens(self, *queries: Query) -> list[str]:
        readings = [await self.watermarks.current(query) for query in queries]
        return [reading.watermark.token for reading in readings if reading is not None]

    async def changed(self) -> set[str]:
        """The dates whose token is another than at the last call."""
        now = dict(zip(DAYS, await self.tokens(*map(question, DAYS)), strict=True))
        before, self._known = self._known, now
        return {day for day in DAYS if before.get(day) != now[day]}

    _known: dict[str, str]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "daily.db"
    make_demo(path, None, size=TINY, end=END)
    return path


@pytest.fixture
def writer(database: Path) -> Iterator[Writer]:
    with Writer(database) as writer:
        yield writer


@asynccontextmanager
async def eye_on(path: Path, meta: Path | None = None) -> AsyncIterator[Eye]:
    telemetry, clock = Telemetry(), SystemClock()
    database = Database(path, meta)
    async with Background() as background, SqliteLooks(database, telemetry, clock) as looks:
        watermarks = Watermarks(looks, background, telemetry, clock, recount_s=0)
        eye = Eye(looks, watermarks, background, {})
        await eye.changed()
        yield eye


@pytest.fixture
async def eye(database: Path) -> AsyncIterator[Eye]:
    async with eye_on(database) as eye:
        yield eye


async def test_a_run_changes_its_three_days_and_no_other(eye: Eye, writer: Writer) -> None:
    writer.run("2024-04-01 09:00:00")
    assert await eye.changed() == set(DAYS[-3:])


async def test_the_breakdown_rows_of_a_run_are_seen_when_they_come(
    eye: Eye, writer: Writer
) -> None:
    queries = [question(LAST), question(LAST, breakdown="country"), question(OLD, "ad", "device")]
    before = await eye.tokens(*queries)
    writer.run_daily("2024-04-01 09:00:00")
    between = await eye.tokens(*queries)
    writer.finish()
    after = await eye.tokens(*queries)
    assert before[0] != between[0] == after[0]
    assert len({before[1], between[1], after[1]}) == 3
    assert before[2] == between[2] == after[2]


@pytest.mark.parametrize(
    "stamp",
    [
        "2024-04-01 03:00:01",
        "2024-04-01 03:00:00.000001",
        "2024-04-01T03:00:00",
        "2024-04-01T02:10:00.5",
        STAMP,
        "2024-04-01 02:00:00",
        "2024-03-31T23:59:59",
        "2019-01-01 00:00:00",
    ],
)
async def test_a_replaced_row_is_seen_whatever_its_computed_at(
    eye: Eye, writer: Writer, stamp: str
) -> None:
    [[entity]] = writer.sql(f"SELECT MIN(entity_id) FROM {DAILY} WHERE entity_type = 'campaign'")
    writer.sql(EXPLICIT.format(date=DAYS[2], id=entity, stamp=stamp))
    assert await eye.changed() == {DAYS[2]}


@pytest.mark.parametrize(
    "stamp", ["2024-04-01 03:00:01", "2024-04-01T03:00:00", STAMP, "2024-04-01 02:00:00"]
)
async def test_a_row_updated_in_place_is_seen(eye: Eye, writer: Writer, stamp: str) -> None:
    writer.sql(
        f"UPDATE {DAILY} SET trial_users_count = trial_users_count + 1, computed_at = '{stamp}'"
        f" WHERE date = '{DAYS[2]}' AND entity_type = 'campaign'"
    )
    assert await eye.changed() == {DAYS[2]}


@pytest.mark.parametrize(
    "column",
    [
        "trial_users_count",
        "meta_spend",
        "adjusted_estimated_revenue_usd",
        "trial_refund_rate_actual",
        "actual_refunds_usd",
    ],
)
async def test_a_number_rewritten_within_the_newest_second_is_seen(
    eye: Eye, writer: Writer, column: str
) -> None:
    writer.sql(
        f"UPDATE {DAILY} SET {column} = {column} + 0.01 WHERE metric_id ="
        f" (SELECT MAX(metric_id) FROM {DAILY} WHERE date = '{LAST}' AND entity_type = 'campaign')"
    )
    assert await eye.changed() == {LAST}


async def test_numbers_that_change_places_are_seen(eye: Eye, writer: Writer) -> None:
    [[first, one], [second, other]] = writer.sql(
        f"SELECT metric_id, trial_users_count FROM {DAILY}"
        f" WHERE date = '{LAST}' AND entity_type = 'campaign' ORDER BY 1"
    )
    assert one != other
    update = f"UPDATE {DAILY} SET trial_users_count = {{}} WHERE metric_id = {{}}"
    writer.sql(update.format(other, first), update.format(one, second))
    assert await eye.changed() == {LAST}


async def test_a_breakdown_rewritten_within_the_newest_second_is_seen(
    eye: Eye, writer: Writer
) -> None:
    country, device = question(LAST, breakdown="country"), question(LAST, breakdown="device")
    before = await eye.tokens(country, device)
    writer.sql(
        f"UPDATE {BREAKDOWN} SET mixpanel_trial_count = mixpanel_trial_count + 1"
        f" WHERE date = '{LAST}' AND breakdown_type = 'country'"
    )
    after = await eye.tokens(country, device)
    assert before[0] != after[0]
    assert before[1] == after[1]


async def test_a_day_updated_in_place_after_the_clock_went_back_is_seen(
    eye: Eye, writer: Writer
) -> None:
    stamp = f"UPDATE {DAILY} SET computed_at = '{{}}'"
    writer.sql(stamp.format("2024-03-01 03:00:00"))
    writer.sql(stamp.format("2024-04-01 03:00:00") + f" WHERE date = '{LAST}'")
    await eye.changed()
    writer.sql(stamp.format("2024-04-01 02:00:00") + f" WHERE date = '{DAYS[2]}'")
    assert await eye.changed() == {DAYS[2]}


async def test_a_row_among_those_of_a_large_run_is_seen_within_its_second(
    eye: Eye, writer: Writer
) -> None:
    # As many as three days of 20,000 ads have in the breakdown table.
    writer.sql(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 138000)"
        f" INSERT INTO {BREAKDOWN} (entity_type, entity_id, date, breakdown_type, breakdown_value,"
        f" computed_at) SELECT 'ad', 'x' || i, '{LAST}', 'country', 'US', '2024-04-01 09:00:00'"
        " FROM n"
    )
    by_country = question(LAST, "ad", "country")
    before = await eye.tokens(by_country)
    writer.sql(f"UPDATE {BREAKDOWN} SET mixpanel_trial_count = 7 WHERE entity_id = 'x9'")
    assert await eye.tokens(by_country) != before


async def test_a_new_day_is_seen(eye: Eye, writer: Writer) -> None:
    tomorrow = str(END + timedelta(days=1))
    before = await eye.tokens(question(tomorrow))
    writer.sql(EXPLICIT.format(date=tomorrow, id="1", stamp=STAMP))
    assert await eye.tokens(question(tomorrow)) != before
    assert await eye.changed() == set()


async def test_deleted_rows_are_found_by_counting(eye: Eye, writer: Writer) -> None:
    writer.sql(
        f"DELETE FROM {DAILY} WHERE metric_id = (SELECT MIN(metric_id) FROM {DAILY}"
        f" WHERE date = '{OLD}' AND entity_type = 'campaign')"
    )
    at_once = await eye.changed()
    await until(lambda: len(eye.background) == 0)
    assert at_once | await eye.changed() == {OLD}


@pytest.mark.parametrize("table", ["daily", "breakdown"])
async def test_counts_are_the_rows_of_each_date(eye: Eye, writer: Writer, table: TableWord) -> None:
    name = {"daily": DAILY, "breakdown": BREAKDOWN}[table]
    rows = writer.sql(f"SELECT date, COUNT(*) FROM {name} GROUP BY date")
    assert await eye.looks.counts(table) == {day: count for day, count in rows}  # noqa: C416


async def test_emptying_and_refilling_is_seen_as_any_date_written(eye: Eye, writer: Writer) -> None:
    since = (await eye.looks.changes(None)).snapshot
    writer.empty()
    emptied = await eye.looks.changes(since)
    assert emptied.dates["daily"] is None
    assert await eye.looks.counts("daily") == {}
    assert await eye.looks.states("daily", DAYS) == {}
    writer.refill("2024-04-01 09:00:00")
    refilled = await eye.looks.changes(emptied.snapshot)
    assert refilled.dates["daily"] in (None, frozenset(DAYS))
    assert set(await eye.looks.states("daily", DAYS)) == set(DAYS)


@pytest.mark.parametrize(
    ("renamed", "seen"),
    [
        ("campaign", [True, True, True]),
        ("adset", [False, True, True]),
        ("ad", [False, False, True]),
    ],
)
async def test_a_new_name_changes_only_what_shows_names_of_its_level(
    eye: Eye, writer: Writer, renamed: str, seen: list[bool]
) -> None:
    on = END
    queries = [
        Query("analytics", on, on, "campaign", depth=1),
        Query("analytics", on, on, "adset", depth=1),
        Query("analytics", on, on, "ad"),
    ]
    before = await eye.tokens(*queries)
    writer.sql(
        "UPDATE id_name_mapping SET canonical_name = canonical_name || '!'"
        f" WHERE rowid = (SELECT MIN(rowid) FROM id_name_mapping WHERE entity_type = '{renamed}')"
    )
    after = await eye.tokens(*queries)
    assert [one != other for one, other in zip(before, after, strict=True)] == seen


async def test_names_written_again_as_they_were_change_nothing(eye: Eye, writer: Writer) -> None:
    writer.sql(
        "UPDATE id_name_mapping SET updated_at = '2024-04-01 09:00:00',"
        " last_seen_date = '2024-04-01', frequency_count = frequency_count + 1",
        "UPDATE id_hierarchy_mapping SET updated_at = '2024-04-01 09:00:00',"
        " last_seen_date = '2024-04-01'",
    )
    assert await eye.changed() == set()


@pytest.mark.parametrize(
    "move",
    [
        # An ad to another adset.
        "UPDATE id_hierarchy_mapping SET adset_id ="
        " (SELECT MAX(adset_id) FROM id_hierarchy_mapping)"
        " WHERE ad_id = (SELECT ad_id FROM id_hierarchy_mapping ORDER BY adset_id LIMIT 1)",
        # An adset to another campaign.
        "UPDATE id_hierarchy_mapping SET campaign_id ="
        " (SELECT MAX(campaign_id) FROM id_hierarchy_mapping)"
        " WHERE adset_id ="
        " (SELECT adset_id FROM id_hierarchy_mapping ORDER BY campaign_id LIMIT 1)",
        # One mapping less.
        "DELETE FROM id_hierarchy_mapping WHERE ad_id ="
        " (SELECT MIN(ad_id) FROM id_hierarchy_mapping)",
    ],
)
async def test_a_move_in_the_hierarchy_changes_what_shows_it(
    eye: Eye, writer: Writer, move: str
) -> None:
    flat = Query("analytics", END, END, "campaign", depth=1)
    before = await eye.tokens(flat)
    writer.sql(move)
    assert await eye.changed() == set(DAYS)
    assert await eye.tokens(flat) == before


async def test_the_campaign_of_an_adset_under_two_is_the_one_that_ranks_first(
    eye: Eye, writer: Writer
) -> None:
    [[adset, own, other]] = writer.sql(
        "SELECT adset_id, campaign_id, (SELECT MAX(campaign_id) FROM id_hierarchy_mapping)"
        " FROM id_hierarchy_mapping ORDER BY campaign_id LIMIT 1"
    )
    assert own != other
    move = (
        f"UPDATE id_hierarchy_mapping SET campaign_id = '{other}', relationship_confidence = {{}}"
        f" WHERE ad_id = (SELECT MIN(ad_id) FROM id_hierarchy_mapping WHERE adset_id = '{adset}')"
    )
    writer.sql(move.format(0.5))
    assert await eye.changed() == set()
    writer.sql(move.format(2.0))
    assert await eye.changed() == set(DAYS)


async def test_a_checkpoint_changes_nothing(eye: Eye, writer: Writer) -> None:
    writer.run("2024-04-01 09:00:00")
    await eye.changed()
    writer.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    writer.sql("PRAGMA wal_checkpoint(PASSIVE)")
    assert await eye.changed() == set()


async def test_what_is_rolled_back_does_not_move_the_counter(eye: Eye, writer: Writer) -> None:
    counter = eye.looks.counter()
    writer.sql("BEGIN")
    writer.sql(f"DELETE FROM {DAILY}")
    writer.sql("ROLLBACK")
    assert eye.looks.counter() == counter
    writer.sql(f"DELETE FROM {DAILY} WHERE 0")
    writer.sql(f"UPDATE {DAILY} SET meta_spend = 0 WHERE date = '{LAST}'")
    assert eye.looks.counter() != counter


@pytest.mark.parametrize("table", [DAILY, "id_name_mapping"])
async def test_a_required_table_that_is_gone_is_an_error_until_it_is_back(
    eye: Eye, writer: Writer, table: str
) -> None:
    writer.sql(f"ALTER TABLE {table} RENAME TO hidden")
    with pytest.raises(BackendError, match=f"lacks the required table {table}") as caught:
        await eye.looks.changes(None)
    assert caught.value.reason == "schema"
    assert await eye.watermarks.current(question(LAST)) is None
    writer.sql(f"ALTER TABLE hidden RENAME TO {table}")
    assert await eye.watermarks.current(question(LAST)) is not None


async def test_the_meta_database_counts_where_numbers_come_from_it(tmp_path: Path) -> None:
    path, meta = tmp_path / "daily.db", tmp_path / "meta.db"
    make_demo(path, meta, size=TINY, end=END, form="narrow")
    async with eye_on(path, meta) as eye:
        with Writer(meta) as writer:
            counter = eye.looks.counter()
            writer.sql(f"UPDATE ad_performance_daily SET spend = spend + 1 WHERE date = '{LAST}'")
            assert eye.looks.counter() != counter
            assert await eye.changed() != set()


async def test_the_tables_keep_their_log_when_the_meta_database_is_replaced(
    tmp_path: Path,
) -> None:
    path, meta = tmp_path / "daily.db", tmp_path / "meta.db"
    make_demo(path, meta, size=TINY, end=END, form="narrow")
    async with eye_on(path, meta) as eye:
        with Writer(path) as writer:
            writer.sql(f"UPDATE {DAILY} SET computed_at = '2024-04-01 09:00:00'")
            assert await eye.changed() == set(DAYS)
            shutil.copyfile(meta, meta.with_name("new.db")).replace(meta)
            await eye.changed()
            newest = await eye.watermarks.current(question(LAST))
            assert newest is not None
            assert newest.watermark.computed_at == "2024-04-01 09:00:00"
            writer.sql(f"UPDATE {DAILY} SET computed_at = '2024-04-01 10:00:00'")
            assert await eye.changed() == set(DAYS)


async def test_the_meta_database_does_not_count_where_the_tables_have_all(tmp_path: Path) -> None:
    path, meta = tmp_path / "daily.db", tmp_path / "meta.db"
    make_demo(path, meta, size=TINY, end=END)
    async with eye_on(path, meta) as eye:
        with Writer(meta) as writer:
            writer.sql("UPDATE ad_performance_daily SET spend = spend + 1")
        assert await eye.changed() == set()


async def test_a_meta_database_that_comes_late_is_followed(tmp_path: Path) -> None:
    path, meta, away = (tmp_path / name for name in ("daily.db", "meta.db", "away.db"))
    make_demo(path, away, size=TINY, end=END, form="narrow")
    async with eye_on(path, meta) as eye:
        away.rename(meta)
        assert await eye.changed() == set(DAYS)


async def test_a_writer_that_holds_the_whole_file_makes_it_locked(
    database: Path, writer: Writer
) -> None:
    writer.sql("PRAGMA journal_mode=DELETE")
    async with eye_on(database) as eye:
        writer.sql("BEGIN EXCLUSIVE")
        with pytest.raises(BackendUnavailable) as by_counter:
            eye.looks.counter()
        with pytest.raises(BackendUnavailable) as by_look:
            await eye.looks.changes(None)
        assert (by_counter.value.reason, by_look.value.reason) == ("locked", "locked")
        known = eye.watermarks.believed(question(LAST))
        reading = await eye.watermarks.current(question(LAST))
        assert reading is not None
        assert reading.watermark == known
        writer.sql(f"UPDATE {DAILY} SET trial_users_count = 77 WHERE date = '{LAST}'")
        writer.sql("COMMIT")
        assert await eye.changed() == {LAST}


def another(path: Path) -> Path:
    """A database of the same form with other numbers under the same stamps and row ids."""
    other = path.with_name("other.db")
    make_demo(other, None, size=TINY, end=END, seed=2)
    return other


async def test_another_file_of_the_name_is_read_from_its_first_look(
    eye: Eye, database: Path
) -> None:
    another(database).replace(database)
    assert await eye.changed() == set(DAYS)


async def test_an_older_file_put_back_is_seen(eye: Eye, database: Path, writer: Writer) -> None:
    kept = database.with_name("kept.db")
    writer.sql(f"VACUUM INTO '{kept}'")
    before = await eye.tokens(*map(question, DAYS))
    writer.run("2024-04-01 09:00:00")
    assert await eye.changed() == set(DAYS[-3:])
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    kept.replace(database)
    assert await eye.tokens(*map(question, DAYS)) == before


@pytest.mark.parametrize("is_killed", [True, False])
async def test_a_log_left_beside_a_replaced_file_is_not_taken_for_its_own(
    database: Path, is_killed: bool
) -> None:
    other = another(database)
    async with eye_on(other) as eye:
        wanted = await eye.tokens(*map(question, DAYS))
    for suffix in ("-wal", "-shm"):
        other.with_name(other.name + suffix).unlink(missing_ok=True)
    async with eye_on(database) as eye:
        with Writer(database) as writer:
            writer.sql(f"UPDATE {DAILY} SET trial_users_count = trial_users_count + 1000")
            await eye.changed()
            if is_killed:
                writer.kill()
            assert database.with_name(f"{database.name}-wal").stat().st_size > 0
            other.replace(database)
            assert await eye.tokens(*map(question, DAYS)) == wanted


async def test_a_log_left_behind_by_a_removed_file_is_not_taken_for_the_next_ones(
    database: Path,
) -> None:
    other = another(database)
    async with eye_on(other) as eye:
        wanted = await eye.tokens(*map(question, DAYS))
    remove_log(other)
    async with eye_on(database) as eye:
        with Writer(database) as writer:
            writer.sql(f"UPDATE {DAILY} SET trial_users_count = trial_users_count + 1000")
            await eye.changed()
            writer.kill()
            assert database.with_name(f"{database.name}-wal").stat().st_size > 0
            os.unlink(database)
            with pytest.raises(BackendError):
                eye.looks.counter()
            other.replace(database)
            assert await eye.tokens(*map(question, DAYS)) == wanted


async def test_a_file_that_was_away_keeps_its_own_log(database: Path) -> None:
    async with eye_on(database) as eye:
        with Writer(database) as writer:
            writer.sql(f"UPDATE {DAILY} SET trial_users_count = trial_users_count + 1000")
            await eye.changed()
            written = await eye.tokens(*map(question, DAYS))
            writer.kill()
            away = database.with_name("away.db")
            os.rename(database, away)
            with pytest.raises(BackendError):
                eye.looks.counter()
            os.rename(away, database)
            assert await eye.tokens(*map(question, DAYS)) == written


async def test_a_log_of_its_own_that_comes_after_a_left_over_one_is_read(database: Path) -> None:
    other = another(database)
    async with eye_on(database) as eye:
        with Writer(database) as writer:
            writer.sql(f"UPDATE {DAILY} SET trial_users_count = trial_users_count + 1000")
            await eye.changed()
            writer.kill()
            other.replace(database)
            await eye.changed()
        remove_log(database)
        with Writer(database) as writer:
            writer.sql(f"UPDATE {DAILY} SET computed_at = '2024-04-02 09:00:00'")
            assert await eye.changed() == set(DAYS)


def remove_log(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def overwrite(path: Path, other: Path) -> None:
    """As `cp` does it, in a process of its own: a close here would drop the readers' locks."""
    before = path.stat()
    subprocess.run(["cp", other, path], check=True)
    # Within one tick of the file system's clock even the times would be the same.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))


async def test_a_file_overwritten_in_place_is_seen(database: Path) -> None:
    other = another(database)
    for path in (database, other):
        with Writer(path) as writer:
            writer.sql("PRAGMA journal_mode=DELETE")
    async with eye_on(database) as eye:
        overwrite(database, other)
        assert await eye.changed() == set(DAYS)


async def test_a_file_overwritten_beside_its_open_log_is_an_error_and_then_seen(
    database: Path,
) -> None:
    other = another(database)
    async with eye_on(database) as eye:
        with Writer(database) as writer:
            writer.sql(f"UPDATE {DAILY} SET trial_users_count = 5 WHERE date = '{OLD}'")
            writer.sql("PRAGMA wal_checkpoint(TRUNCATE)")
            await eye.changed()
        overwrite(database, other)
        with pytest.raises(BackendError):
            eye.looks.counter()
        # The readers let go of what SQLite had noted of the file, each in its own thread.
        await until(lambda: is_readable(eye.looks))
        assert await eye.changed() == set(DAYS)


def is_readable(looks: SqliteLooks) -> bool:
    try:
        looks.counter()
    except BackendError:
        return False
    return True


async def test_a_file_that_is_taken_away_and_brought_back_is_followed_again(
    eye: Eye, database: Path
) -> None:
    away = database.with_name("away.db")
    os.rename(database, away)
    with pytest.raises(BackendUnavailable) as caught:
        eye.looks.counter()
    assert caught.value.reason == "no_database"
    assert await eye.watermarks.current(question(LAST)) is None
    os.rename(away, database)
    assert await eye.changed() == set()


async def test_a_file_that_is_no_database_is_an_error_until_one_is_there(
    eye: Eye, database: Path
) -> None:
    good = database.with_name("good.db")
    shutil.copyfile(database, good)
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    garbage = database.with_name("garbage.db")
    garbage.write_bytes(b"garbage" * 1000)
    garbage.replace(database)
    with pytest.raises(BackendError):
        eye.looks.counter()
    assert await eye.watermarks.current(question(LAST)) is None
    good.replace(database)
    assert await eye.changed() == set()
