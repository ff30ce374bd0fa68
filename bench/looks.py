"""Looks at size l after runs over three days: finding the dates, and all that a caller awaits."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

import apsw

from bench.hits import END
from proxy.backends.database import Database
from proxy.backends.looks import SqliteLooks
from proxy.backends.schema import Table
from proxy.backends.written import written_dates
from proxy.clock import SystemClock
from proxy.demo.data import SIZES, make_demo
from proxy.looks import Changes, Snapshot, TableWord
from proxy.telemetry import Telemetry

SIZE = replace(SIZES["l"], breakdown_days=7)
"""Three days of breakdown rows are rewritten: more weeks of them would only be looked past."""
_DAYS = tuple(str(END - timedelta(days=back)) for back in range(3))
_NOON = datetime(END.year, END.month, END.day, 12) + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class LookRow:
    """Milliseconds. `finding_ms` is that part of `look_ms` in which the dates are found."""

    name: str
    rows: int
    finding_ms: tuple[float, ...]
    look_ms: tuple[float, ...]

    def told(self) -> str:
        return (
            f"{self.name}, {self.rows:,} rows: finding the dates"
            f" {median(self.finding_ms):.1f} ms (median; worst {max(self.finding_ms):.1f}),"
            f" the whole look {median(self.look_ms):.1f} ms (worst {max(self.look_ms):.1f})"
        )


def measure_looks(
    folder: Path, rounds: int, progress: Callable[[float], None] | None = None
) -> list[LookRow]:
    path = folder / "l.db"
    make_demo(path, None, size=SIZE, end=END, progress=progress)
    return asyncio.run(_measure(path, rounds))


async def _measure(path: Path, rounds: int) -> list[LookRow]:
    database, clock = Database(path), SystemClock()
    writes = {"Three days replaced": _replace, "Three days updated in place": _update}
    rows = []
    number = 0
    async with SqliteLooks(database, Telemetry(), clock) as looks:
        with closing(apsw.Connection(str(path))) as writer, closing(database.open()) as reader:
            since = (await looks.changes(None)).snapshot
            for name, write in writes.items():
                written, finding, whole = 0, [], []
                for _ in range(rounds):
                    number += 1
                    with writer:
                        written = write(writer, str(_NOON + timedelta(hours=number)))
                    # Each on a connection of its own: what it had cached is gone with the commit.
                    finding.append(_finding_ms(reader, database, since))
                    started = time.perf_counter()
                    changes = await looks.changes(since)
                    whole.append((time.perf_counter() - started) * 1000)
                    _require_three(changes)
                    since = changes.snapshot
                rows.append(LookRow(name, written, tuple(finding), tuple(whole)))
    return rows


def _finding_ms(db: apsw.Connection, database: Database, since: Snapshot) -> float:
    with _reading(db):
        started = time.perf_counter()
        for word, table in _tables(database).items():
            [(last_row,)] = db.execute(f"SELECT MAX(rowid) FROM {table.name}")
            written_dates(db, table, since.newest[word], since.last_row[word], last_row)
        return (time.perf_counter() - started) * 1000


def _require_three(changes: Changes) -> None:
    for word, days in changes.dates.items():
        if days is None or not days.issuperset(_DAYS):
            raise RuntimeError(f"the look missed dates of {word}: {days}")


@contextmanager
def _reading(db: apsw.Connection) -> Iterator[None]:
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")


def _tables(database: Database) -> dict[TableWord, Table]:
    schema = database.schema
    assert schema is not None
    assert schema.breakdown is not None
    return {"daily": schema.daily, "breakdown": schema.breakdown}


def _replace(db: apsw.Connection, stamp: str) -> int:
    """New rows with new ids, as INSERT OR REPLACE makes them."""
    before = db.total_changes()
    for table in ("daily_mixpanel_metrics", "daily_mixpanel_metrics_breakdown"):
        columns = [
            name
            for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,))
            if name != "metric_id"
        ]
        picked = ["?1" if name == "computed_at" else name for name in columns]
        db.execute(
            f"INSERT OR REPLACE INTO {table} ({', '.join(columns)})"
            f" SELECT {', '.join(picked)} FROM {table} WHERE date IN (?2, ?3, ?4) ORDER BY date",
            (stamp, *_DAYS),
        )
    return db.total_changes() - before


def _update(db: apsw.Connection, stamp: str) -> int:
    """The same ids with new numbers and a newer `computed_at`."""
    before = db.total_changes()
    for table in ("daily_mixpanel_metrics", "daily_mixpanel_metrics_breakdown"):
        db.execute(
            f"UPDATE {table} SET meta_spend = meta_spend + 1, computed_at = ?"
            " WHERE date IN (?, ?, ?)",
            (stamp, *_DAYS),
        )
    return db.total_changes() - before
