"""The demo's two SQLite files: the tables in the form that is asked for, and writing into them."""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from proxy.demo.rows import MEASURES, Row

Form = Literal["wide", "narrow"]
Counts = Literal["mixpanel", "users"]

NARROW_MEASURES = ("trial_users_count", "purchase_users_count", "estimated_revenue_usd")
COUNT_NAMES = {
    "mixpanel_trial_count": "trial_users_count",
    "mixpanel_purchase_count": "purchase_users_count",
}


@dataclass(frozen=True, slots=True)
class Variant:
    """How a deployment's tables differ from schema.sql.

    `narrow` leaves out every Meta, rate, profit and ROAS column of both tables.
    `counts` says how the breakdown table spells its two counts.
    """

    form: Form = "wide"
    counts: Counts = "mixpanel"
    has_breakdown: bool = True
    has_hierarchy: bool = True
    has_updated_at: bool = True


def create_tables(db: sqlite3.Connection, variant: Variant) -> None:
    for statement in _statements("schema.sql"):
        if statement.startswith("CREATE TABLE"):
            db.execute(statement)
    if not variant.has_breakdown:
        db.execute("DROP TABLE daily_mixpanel_metrics_breakdown")
    if not variant.has_hierarchy:
        db.execute("DROP TABLE id_hierarchy_mapping")
    if not variant.has_updated_at:
        db.execute("ALTER TABLE id_name_mapping DROP COLUMN updated_at")
    for table in ("daily_mixpanel_metrics", "daily_mixpanel_metrics_breakdown"):
        present = columns_of(db, table)
        if variant.form == "narrow":
            for column in present:
                if column in MEASURES and column not in NARROW_MEASURES:
                    db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        if variant.counts == "users":
            for old, new in COUNT_NAMES.items():
                if old in present:
                    db.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")


def create_indexes(db: sqlite3.Connection) -> None:
    """Those of schema.sql whose table and columns are there."""
    for statement in _statements("schema.sql"):
        match = re.fullmatch(r"CREATE INDEX \w+\s+ON (\w+) \((.*)\)", statement)
        if match and {*match[2].split(", ")} <= {*columns_of(db, match[1])}:
            db.execute(statement)


def create_meta_tables(db: sqlite3.Connection) -> None:
    for statement in _statements("meta_schema.sql"):
        db.execute(statement)


def columns_of(db: sqlite3.Connection, table: str) -> list[str]:
    """Empty where there is no such table."""
    return [name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,))]


def write_rows(
    db: sqlite3.Connection, table: str, columns: Sequence[str], rows: Iterable[Row]
) -> None:
    """INSERT OR REPLACE. Columns that the table lacks are left out; either spelling of counts."""
    present = columns_of(db, table)
    names = [name if name in present else COUNT_NAMES.get(name, name) for name in columns]
    kept = [place for place, name in enumerate(names) if name in present]
    if len(kept) < len(names):
        rows = (tuple([row[place] for place in kept]) for row in rows)
    listed = ", ".join(names[place] for place in kept)
    marks = ", ".join("?" * len(kept))
    db.executemany(f"INSERT OR REPLACE INTO {table} ({listed}) VALUES ({marks})", rows)


@contextmanager
def building(path: Path, *, wal: bool) -> Iterator[sqlite3.Connection]:
    """A new file that takes the place of `path` when all went well, and leaves nothing if not."""
    draft = path.with_name(f"{path.name}.building")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft.unlink(missing_ok=True)
    db = sqlite3.connect(draft, isolation_level=None)
    try:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-300000"):
            db.execute(f"PRAGMA {pragma}").fetchall()
        db.execute("BEGIN")
        yield db
        db.execute("COMMIT")
        db.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}").fetchall()
        db.close()
        # A journal left by the file before would be taken for the new one's.
        for suffix in ("-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        draft.replace(path)
    finally:
        db.close()
        draft.unlink(missing_ok=True)


def _statements(name: str) -> list[str]:
    text = files("proxy.demo").joinpath(name).read_text(encoding="utf-8")
    bare = re.sub(r"--.*", "", text)
    return [statement.strip() for statement in bare.split(";") if statement.strip()]
