"""Finding the dates that rows were written to: all of them, with whatever indexes there are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.backends.database import Database
from proxy.backends.schema import Table, read_schema
from proxy.backends.written import written_dates
from tests.traced_database import TracedDatabase

DAILY = "daily_mixpanel_metrics"
OLD, NEWEST, NEWER = "2023-01-01 03:00:00", "2024-01-01 03:00:00", "2024-01-01 09:00:00"
AN_HOUR_BACK = "2024-01-01 02:00:00"
COLUMNS = (
    "metric_id INTEGER PRIMARY KEY, date TEXT NOT NULL, entity_type TEXT, entity_id TEXT,"
    " trial_users_count INT, purchase_users_count INT, estimated_revenue_usd REAL, computed_at TEXT"
)
KEY = f"CREATE UNIQUE INDEX entity ON {DAILY} (date, entity_type, entity_id)"
BY_DATE = f"CREATE INDEX by_date ON {DAILY} (date)"
BY_STAMP = f"CREATE INDEX by_stamp ON {DAILY} (computed_at)"
INDEXES = {
    "the deployments' own": (KEY, BY_DATE, BY_STAMP),
    "none on date alone": (KEY, BY_STAMP),
    "none on computed_at": (KEY, BY_DATE),
    "date downwards": (KEY, f"CREATE INDEX by_date ON {DAILY} (date DESC)", BY_STAMP),
    "date for some rows only": (KEY, f"{BY_DATE} WHERE entity_type = 'ad'", BY_STAMP),
    "the key alone": (KEY,),
}


def day(number: int) -> str:
    return f"{2000 + number // 28}-01-{number % 28 + 1:02}"


@dataclass
class Rows:
    """A table of `entities` rows for each of `days`, and where a look at it left off."""

    path: Path
    days: int
    entities: int
    indexes: Sequence[str]
    stamp: str = OLD

    def __post_init__(self) -> None:
        db = self.open()
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"CREATE TABLE {DAILY} ({COLUMNS})")
        db.execute("CREATE TABLE id_name_mapping (entity_type, entity_id, canonical_name)")
        rows = [
            (day(d), str(e), self.stamp) for d in range(self.days) for e in range(self.entities)
        ]
        with db:
            db.executemany(
                f"INSERT INTO {DAILY} (date, entity_type, entity_id, computed_at)"
                " VALUES (?, 'ad', ?, ?)",
                rows,
            )
        for index in self.indexes:
            db.execute(index)
        self.newest, self.last_row = self.now(db)
        db.close()

    def open(self) -> apsw.Connection:
        return apsw.Connection(str(self.path))

    def now(self, db: apsw.Connection) -> tuple[str, int]:
        [(newest, last_row)] = db.execute(
            f"SELECT (SELECT MAX(computed_at) FROM {DAILY}), (SELECT MAX(rowid) FROM {DAILY})"
        )
        return newest, last_row

    def write(self, *statements: str) -> None:
        db = self.open()
        with db:
            for statement in statements:
                db.execute(statement)
        db.close()

    def looked(self) -> None:
        """The next search is for what comes after this."""
        db = self.open()
        self.newest, self.last_row = self.now(db)
        db.close()

    def written(self, database: Database | None = None) -> frozenset[str] | None:
        db = (database or Database(self.path)).open()
        try:
            table, now = read_schema(db).daily, self.now(db)
            if isinstance(database, TracedDatabase):
                database.forget()
            return written_dates(db, table, self.newest, self.last_row, now[1])
        finally:
            db.close()


def replaced(stamp: str, *days: str) -> str:
    """New ids for all rows of `days`, as INSERT OR REPLACE gives them."""
    return (
        f"INSERT OR REPLACE INTO {DAILY} (date, entity_type, entity_id, computed_at)"
        f" SELECT date, entity_type, entity_id, '{stamp}' FROM {DAILY}"
        f" WHERE date IN ({', '.join(map(repr, days))}) ORDER BY entity_id, date"
    )


def updated(stamp: str, *days: str) -> str:
    return (
        f"UPDATE {DAILY} SET computed_at = '{stamp}', trial_users_count = 5"
        f" WHERE date IN ({', '.join(map(repr, days))})"
    )


@pytest.mark.parametrize("indexes", INDEXES.values(), ids=INDEXES)
@pytest.mark.parametrize("stamp", [NEWER, OLD])
def test_the_dates_of_new_ids_are_found_with_any_indexes(
    tmp_path: Path, indexes: Sequence[str], stamp: str
) -> None:
    rows = Rows(tmp_path / "daily.db", 30, 4, indexes)
    rows.write(updated(NEWEST, day(0)))
    rows.looked()
    rows.write(replaced(stamp, day(7), day(29)))
    found = rows.written()
    assert found is not None
    # The first date holds the newest second: it may be named, or not.
    assert found - {day(0)} == {day(7), day(29)}


@pytest.mark.parametrize("name", [name for name, indexes in INDEXES.items() if BY_STAMP in indexes])
@pytest.mark.parametrize("stamp", [NEWER, NEWEST, AN_HOUR_BACK, "2024-01-01T02:00:00.5"])
def test_the_dates_of_rows_updated_in_place_are_found(
    tmp_path: Path, name: str, stamp: str
) -> None:
    rows = Rows(tmp_path / "daily.db", 30, 4, INDEXES[name])
    rows.write(updated(NEWEST, day(29)))
    rows.looked()
    rows.write(updated(stamp, day(7), day(8)))
    found = rows.written()
    assert found is not None
    assert found - {day(29)} == {day(7), day(8)}


def test_new_ids_and_rows_updated_in_place_are_found_in_one_look(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "daily.db", 30, 4, INDEXES["the deployments' own"])
    rows.write(replaced(NEWER, day(1)), updated(NEWER, day(2)), replaced(OLD, day(3)))
    rows.write(f"INSERT INTO {DAILY} (date, computed_at) VALUES ('1999-12-31', '{OLD}')")
    found = rows.written()
    assert found is not None
    assert found >= {day(1), day(2), day(3), "1999-12-31"}


@pytest.mark.parametrize("indexes", INDEXES.values(), ids=INDEXES)
def test_one_new_row_is_enough(tmp_path: Path, indexes: Sequence[str]) -> None:
    rows = Rows(tmp_path / "daily.db", 30, 4, indexes)
    rows.newest = NEWEST
    rows.write(f"INSERT INTO {DAILY} (date, computed_at) VALUES ('{day(7)}', '{OLD}')")
    assert rows.written() == frozenset({day(7)})


def test_ids_that_went_back_tell_that_nothing_is_known(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "daily.db", 3, 4, INDEXES["the deployments' own"])
    rows.write(f"DELETE FROM {DAILY} WHERE metric_id > 6")
    assert rows.written() is None


def test_a_table_without_row_ids_is_searched_by_its_stamps(tmp_path: Path) -> None:
    path = tmp_path / "daily.db"
    db = apsw.Connection(str(path))
    db.execute(
        f"CREATE TABLE {DAILY} (date, entity_id, computed_at, PRIMARY KEY (date, entity_id))"
        " WITHOUT ROWID"
    )
    db.execute(BY_STAMP)
    rows = [("2024-01-01", 1, OLD), ("2024-01-02", 1, NEWER)]
    db.executemany(f"INSERT INTO {DAILY} VALUES (?, ?, ?)", rows)
    table = Table(DAILY, frozenset(), (("computed_at",),), has_rowid=False)
    assert written_dates(db, table, NEWEST, 0, 0) == frozenset({"2024-01-02"})
    assert written_dates(db, Table(DAILY, frozenset(), (), has_rowid=False), OLD, 0, 0) is None
    db.close()


@pytest.mark.parametrize("write", [replaced, updated])
@pytest.mark.parametrize("name", ["the deployments' own", "none on date alone"])
@pytest.mark.parametrize("has_statistics", [False, True])
def test_finding_three_dates_does_not_read_the_history(
    tmp_path: Path, write: Callable[..., str], name: str, has_statistics: bool
) -> None:
    rows = Rows(tmp_path / "daily.db", 100, 300, INDEXES[name])
    if has_statistics:
        rows.write("ANALYZE")
    # A day that holds the newest hours alone, as after any run.
    rows.write(updated(NEWEST, day(99)))
    rows.looked()
    rows.write(write(NEWER, day(97), day(98), day(99)))
    traced = TracedDatabase(rows.path)
    assert rows.written(traced) == frozenset({day(97), day(98), day(99)})
    assert sum(traced.steps) < 100 * 300 / 2, traced


def test_rows_found_by_their_ids_are_not_fetched(tmp_path: Path) -> None:
    few, many = (
        Rows(tmp_path / f"{n}.db", 5, n, INDEXES["the deployments' own"]) for n in (5, 500)
    )
    steps = []
    for rows in (few, many):
        rows.write(replaced(OLD, day(2)))
        rows.newest = "2024-01-01 00:00:00"
        traced = TracedDatabase(rows.path)
        assert rows.written(traced) == frozenset({day(2)})
        steps.append(sum(traced.steps))
    assert steps[0] == steps[1]


Step = tuple[str, str, int]


@settings(max_examples=60, deadline=None)
@given(
    indexes=st.sampled_from(list(INDEXES.values())[:2]),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["replaced", "updated"]),
            st.sampled_from(["03:00:00", "02:00:00", "04:00:00", "03:00:00.000001"]),
            st.integers(0, 9),
        ),
        min_size=1,
        max_size=6,
    ),
    looks=st.sets(st.integers(0, 5)),
)
def test_no_written_date_is_ever_missing(
    tmp_path_factory: pytest.TempPathFactory,
    indexes: Sequence[str],
    steps: list[Step],
    looks: set[int],
) -> None:
    rows = Rows(tmp_path_factory.mktemp("w") / "daily.db", 10, 3, indexes, stamp=NEWEST)
    pending: set[str] = set()
    for number, (how, stamp, which) in enumerate(steps):
        # Within the two hours that clocks may go back, in both spellings.
        write = {"replaced": replaced, "updated": updated}[how]
        rows.write(write(f"2024-01-01{' T'[which % 2]}{stamp}", day(which)))
        pending.add(day(which))
        if number in looks:
            found = rows.written()
            assert found is None or found >= pending
            rows.looked()
            pending.clear()
    found = rows.written()
    assert found is None or found >= pending
