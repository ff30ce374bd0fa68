"""SqliteLooks: what following the pipeline reads from its database."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import apsw
import orjson

from proxy.backends.commits import Commits
from proxy.backends.database import Database
from proxy.backends.reader import Reader
from proxy.backends.schema import BREAKDOWN, DAILY, HIERARCHY, NAMES, Schema, Table
from proxy.backends.written import written_dates
from proxy.clock import Clock
from proxy.keys import fingerprint_of
from proxy.looks import Changes, Counter, DayState, GroupState, Snapshot, TableWord
from proxy.measures import MEASURES
from proxy.telemetry import Telemetry

T = TypeVar("T")

_TABLES: Mapping[TableWord, str] = {"daily": DAILY, "breakdown": BREAKDOWN}
_DIGESTED: Mapping[TableWord, Sequence[str]] = {
    "daily": tuple(MEASURES),
    "breakdown": ("trials", "purchases", "spend", "adjusted_revenue"),
}
"""Measures whose numbers tell that a row was rewritten under the same id and `computed_at`.

Each costs its part of a microsecond per row, and breakdown rows are many.
"""


class SqliteLooks:
    """Holds one connection on the event loop for the commit counter, and a reader for the rest."""

    def __init__(
        self, database: Database, telemetry: Telemetry, clock: Clock, *, timeout_s: float = 10.0
    ) -> None:
        self._database = database
        self._telemetry = telemetry
        self._clock = clock
        self._reader = Reader(database, clock, timeout_s=timeout_s)
        self._commits = Commits(database)
        self._looked_at = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._commits.close()
        self._reader.close()

    def counter(self) -> Counter:
        return self._commits.counter()

    async def changes(self, since: Snapshot | None) -> Changes:
        return await self._timed("changes", lambda db: self._changes(db, since))

    async def states(self, table: TableWord, dates: Sequence[str]) -> Mapping[str, DayState]:
        return await self._timed("states", lambda db: self._states(db, table, dates))

    async def counts(self, table: TableWord) -> Mapping[str, int]:
        return await self._timed("counts", lambda db: self._counts(db, table))

    async def _timed(self, kind: str, work: Callable[[apsw.Connection], T]) -> T:
        started = self._clock.monotonic()
        try:
            return await self._reader.run(work)
        finally:
            seconds = self._clock.monotonic() - started
            self._telemetry.look_seconds.labels(kind).observe(seconds)

    def _schema(self, db: apsw.Connection) -> Schema:
        schema = self._database.schema
        if schema is None or db.pragma("schema_version") != schema.version:
            schema = self._database.read_schema(db)
        return schema

    def _changes(self, db: apsw.Connection, since: Snapshot | None) -> Changes:
        if self._looked_at < self._database.replaced_at:
            # That was another file: nothing in this one is as it was there.
            since = None
        with _one_state(db):
            schema = self._schema(db)
            newest: dict[TableWord, str | None] = {"daily": None, "breakdown": None}
            last_row: dict[TableWord, int] = {"daily": 0, "breakdown": 0}
            dates: dict[TableWord, frozenset[str] | None] = {}
            for word, table in _tables(schema).items():
                newest[word] = _value(db, f"SELECT MAX(computed_at) FROM {table.name}")
                if table.has_rowid:
                    last_row[word] = _value(db, f"SELECT MAX(rowid) FROM {table.name}") or 0
                dates[word] = (
                    None
                    if since is None
                    else written_dates(
                        db, table, since.newest[word], since.last_row[word], last_row[word]
                    )
                )
            snapshot = Snapshot(
                schema=fingerprint_of(_described(schema)),
                names=_names(db),
                hierarchy=_hierarchy(db, schema),
                meta=_meta(db, schema),
                newest=newest,
                last_row=last_row,
            )
        for word in _TABLES:
            dates.setdefault(word, frozenset() if since else None)
        # Of the connection that was read: the file may have been replaced meanwhile.
        self._looked_at = self._reader.opening
        return Changes(snapshot, dates)

    def _states(
        self, db: apsw.Connection, word: TableWord, dates: Sequence[str]
    ) -> Mapping[str, DayState]:
        schema = self._schema(db)
        table = _tables(schema).get(word)
        if table is None:
            return {}
        group = "d.entity_type"
        if word == "breakdown":
            group = "d.entity_type || '/' || d.breakdown_type"
        last_row = ["MAX(d.rowid)"] if table.has_rowid else []
        numbers = _numbers(schema, table, _DIGESTED[word])
        listed = ", ".join(["COUNT(*)", "MAX(d.computed_at)", *last_row, numbers])
        rows = db.execute(
            f"SELECT d.date, {group}, {listed} FROM json_each(?) AS j"
            f" CROSS JOIN {table.name} AS d ON d.date = j.value GROUP BY 1, 2",
            (orjson.dumps(list(dates)).decode(),),
        )
        found: dict[str, dict[str, GroupState]] = {}
        for day, name, count, computed_at, *rest in rows:
            digest = fingerprint_of(repr((count, computed_at, *rest)))
            found.setdefault(str(day), {})[str(name)] = GroupState(count, computed_at, digest)
        return found

    def _counts(self, db: apsw.Connection, word: TableWord) -> Mapping[str, int]:
        table = _tables(self._schema(db)).get(word)
        if table is None:
            return {}
        return dict(db.execute(f"SELECT date, COUNT(*) FROM {table.name} GROUP BY date"))

    def __repr__(self) -> str:
        return f"<SqliteLooks {self._database.path.name} {self._commits!r}>"


def _numbers(schema: Schema, table: Table, measures: Sequence[str]) -> str:
    """A sum over the rows of `d` that changes with any number, also when two rows swap theirs."""
    columns = [schema.column(table, MEASURES[name]) for name in measures]
    weighed = " + ".join(
        f"IFNULL(d.{column}, 0) * {2 * index + 3}"
        for index, column in enumerate(columns)
        if column is not None
    )
    place = "(d.rowid % 1021 + 1)" if table.has_rowid else "1"
    # Bounded per row: the sum stays within SQLite's integers, where order does not matter.
    return f"SUM(CAST(({weighed or 0}) * 10000 AS INTEGER) % 1000000007 * {place})"


def _tables(schema: Schema) -> Mapping[TableWord, Table]:
    tables: dict[TableWord, Table] = {"daily": schema.daily}
    if schema.breakdown is not None:
        tables["breakdown"] = schema.breakdown
    return tables


def _names(db: apsw.Connection) -> Mapping[str, str]:
    rows = db.execute(
        "SELECT entity_type, group_concat(entity_id || char(31) || COALESCE(canonical_name, ''),"
        f" char(30)) FROM (SELECT * FROM {NAMES} ORDER BY entity_type, entity_id) GROUP BY 1"
    )
    return {str(level): fingerprint_of(str(text)) for level, text in rows}


def _hierarchy(db: apsw.Connection, schema: Schema) -> str:
    """A token of who belongs to whom, as answers have it; seen dates and counts do not matter."""
    if schema.hierarchy is None:
        return ""
    order = [
        f"{name} DESC"
        for name in ("relationship_confidence", "last_seen_date")
        if name in schema.hierarchy.columns
    ]
    ranked = ", ".join([*order, "campaign_id"])
    ads = _value(
        db,
        "SELECT group_concat(ad_id || char(31) || COALESCE(adset_id, ''), char(30))"
        f" FROM (SELECT ad_id, adset_id FROM {HIERARCHY} ORDER BY ad_id, {ranked}, adset_id)",
    )
    return fingerprint_of(str(ads), str(_campaigns_of_adsets(db, ranked)))


def _campaigns_of_adsets(db: apsw.Connection, ranked: str) -> Any:
    """Each adset with its campaign; one under several with the first as `ranked`."""
    owned = f"FROM {HIERARCHY} WHERE adset_id IS NOT NULL AND campaign_id IS NOT NULL"
    joined = "group_concat(adset_id || char(31) || campaign_id, char(30))"
    # Ranking costs five times what this does, and is only needed where there is a dispute.
    disputed, adsets = db.execute(
        f"SELECT TOTAL(is_disputed), {joined} FROM (SELECT adset_id, MIN(campaign_id) AS"
        f" campaign_id, MIN(campaign_id) <> MAX(campaign_id) AS is_disputed {owned}"
        " GROUP BY adset_id ORDER BY adset_id)"
    ).fetchall()[0]
    if not disputed:
        return adsets
    return _value(
        db,
        f"SELECT {joined} FROM (SELECT adset_id, campaign_id, ROW_NUMBER() OVER"
        f" (PARTITION BY adset_id ORDER BY {ranked}) AS place {owned} ORDER BY adset_id)"
        " WHERE place = 1",
    )


def _meta(db: apsw.Connection, schema: Schema) -> str:
    """A token of the Meta database's numbers, where answers take them from there."""
    if schema.form == "wide" or not schema.meta:
        return ""
    parts: list[str] = []
    for name, table in sorted(schema.meta.items()):
        known = [
            measure.meta_column
            for measure in MEASURES.values()
            if measure.meta_column in table.columns
        ]
        sums = "".join(f", SUM(CAST(ROUND({column} * 100) AS INTEGER))" for column in known)
        rows = db.execute(f"SELECT date, COUNT(*){sums} FROM meta.{name} GROUP BY 1 ORDER BY 1")
        parts.extend([name, *map(repr, rows)])
    return fingerprint_of(*parts)


def _described(schema: Schema) -> str:
    tables = (schema.daily, schema.names, schema.breakdown, schema.hierarchy)
    found = [table for table in (*tables, *schema.meta.values()) if table is not None]
    return repr(sorted((table.name, sorted(table.columns)) for table in found))


def _value(db: apsw.Connection, sql: str) -> Any:
    row = db.execute(sql).fetchone()
    return row[0] if row else None


@contextmanager
def _one_state(db: apsw.Connection) -> Iterator[None]:
    """All reads inside see the database at one commit."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
