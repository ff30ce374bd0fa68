"""SqliteBackend: answers a question from the pre-computed tables with one statement."""

import asyncio
from collections.abc import Mapping
from datetime import date
from types import TracebackType
from typing import Self

import apsw

from proxy.backends.aggregates import RateMode
from proxy.backends.backend import Fetched
from proxy.backends.database import Database
from proxy.backends.reader import Reader
from proxy.backends.schema import Schema, Table, form_of
from proxy.backends.statement import Statement, compile_statement
from proxy.clock import Clock
from proxy.document import WARNINGS, render
from proxy.errors import BackendError, BackendTimeout
from proxy.keys import fingerprint_of
from proxy.payload import Payload
from proxy.query import BREAKDOWNS, LEVELS, Breakdown, Query, ShapeName
from proxy.section import Row
from proxy.shapes import Shape
from proxy.telemetry import Telemetry
from proxy.tree import Tree, build_tree

_ANY_DAY = date(2000, 1, 1)
_LOCK_PAUSE_S = 0.05


class SqliteBackend:
    """Runs one statement per question on a reader of its own, a few readers side by side.

    `fetch` raises BackendTimeout past the time limit, waiting for a reader
    included; BackendUnavailable while the file cannot be read, and when it is
    still locked after `lock_patience_s`; BackendError for everything else
    SQLite says.
    """

    def __init__(
        self,
        database: Database,
        shapes: Mapping[ShapeName, Shape],
        telemetry: Telemetry,
        clock: Clock,
        *,
        rate_mode: RateMode = "mean",
        timeout_s: float = 10.0,
        lock_patience_s: float = 0.0,
        readers: int = 2,
    ) -> None:
        self._database = database
        self._shapes = shapes
        self._telemetry = telemetry
        self._clock = clock
        self._rate_mode: RateMode = rate_mode
        self._timeout_s = timeout_s
        self._lock_patience_s = lock_patience_s
        self._readers = [Reader(database, clock, timeout_s=timeout_s) for _ in range(readers)]
        self._idle: asyncio.LifoQueue[Reader] = asyncio.LifoQueue()
        self._statements: dict[tuple[object, ...], Statement] = {}
        self._fingerprint: tuple[Schema, str] | None = None
        for reader in self._readers:
            self._idle.put_nowait(reader)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for reader in self._readers:
            await asyncio.to_thread(reader.close)

    async def fetch(self, query: Query) -> Fetched:
        try:
            # Waiting for a reader counts: else the last of many slow questions waits for them all.
            async with asyncio.timeout(self._timeout_s):
                return await self._fetch_unlocked(query)
        except TimeoutError as error:
            raise BackendTimeout(
                f"the database did not answer within {self._timeout_s:g} s", reason="sql_timeout"
            ) from error

    async def _fetch_unlocked(self, query: Query) -> Fetched:
        patient_until = self._clock.monotonic() + self._lock_patience_s
        while True:
            try:
                return await self._fetch_now(query)
            except BackendError as error:
                if error.reason != "locked" or self._clock.monotonic() >= patient_until:
                    raise
            await asyncio.sleep(_LOCK_PAUSE_S)

    async def _fetch_now(self, query: Query) -> Fetched:
        reader = await self._idle.get()
        try:
            return await reader.run(lambda connection: self._answer(connection, query))
        finally:
            # A cancelled caller gives the reader back while its thread may
            # still work: the next one queues behind that work, which ends at once.
            self._idle.put_nowait(reader)

    async def breakdowns(self) -> list[Breakdown]:
        """Those that the tables have rows for. Raises BackendError."""
        reader = await self._idle.get()
        try:
            return await reader.run(self._breakdowns)
        finally:
            self._idle.put_nowait(reader)

    def fingerprint(self) -> str:
        """Stands for the SQL, shapes and rate mode behind every answer of this schema."""
        schema = self._database.schema
        if schema is None:
            # Being opened anew: the entries from before must still be found.
            return self._fingerprint[1] if self._fingerprint else fingerprint_of("no schema")
        if self._fingerprint is None or self._fingerprint[0] is not schema:
            self._fingerprint = (schema, self._fingerprint_of(schema))
        return self._fingerprint[1]

    def statement(self, query: Query, schema: Schema) -> Statement:
        """The statement for `query`: compiled once per form of question and schema."""
        form = (
            schema.version, id(schema), query.shape, query.level, query.depth,
            query.breakdown, query.include_sparkline,
        )  # fmt: skip
        found = self._statements.get(form)
        if found is None:
            if len(self._statements) > 512:
                self._statements.clear()
            found = compile_statement(query, self._shapes[query.shape], schema, self._rate_mode)
            self._statements[form] = found
        return found

    def _answer(self, connection: apsw.Connection, query: Query) -> Fetched:
        started = self._clock.monotonic()
        schema = self._database.schema
        if schema is None:
            raise BackendError("the schema is not known", reason="no_schema")
        statement = self.statement(query, schema)
        try:
            rows: list[Row] = connection.execute(
                statement.sql, statement.parameters(query)
            ).fetchall()
        finally:
            self._telemetry.sql_seconds.observe(self._clock.monotonic() - started)
        tree = build_tree(
            query,
            self._shapes[query.shape],
            rows,
            has_hierarchy=schema.hierarchy is not None,
        )
        warnings = warnings_of(query, schema, tree)
        body = render(
            query,
            tree.records,
            computed_at=tree.computed_at,
            warnings=list(warnings.values()),
        )
        shortfall = next((w for w in ("no_rows", "no_breakdown") if w in warnings), None)
        return Fetched(
            payload=Payload.of(body),
            cost_ms=(self._clock.monotonic() - started) * 1000,
            rows_read=tree.rows_read,
            computed_at=tree.computed_at,
            warnings=tuple(warnings),
            shortfall=shortfall,
        )

    def _breakdowns(self, connection: apsw.Connection) -> list[Breakdown]:
        table = None if self._database.schema is None else self._database.schema.breakdown
        if table is None:
            return ["all"]
        # Without the index, one that is not there would be looked for in every row.
        where = "breakdown_type = ?"
        if not table.has_index_on("breakdown_type"):
            where += f" AND date = (SELECT MAX(date) FROM {table.name})"
        sql = f"SELECT 1 FROM {table.name} WHERE {where} LIMIT 1"
        return [
            name
            for name in BREAKDOWNS
            if name == "all" or connection.execute(sql, (name,)).fetchone() is not None
        ]

    def _fingerprint_of(self, schema: Schema) -> str:
        parts: list[str] = [self._rate_mode]
        for shape in self._shapes.values():
            parts.append(shape.declaration)
            for level in LEVELS:
                for breakdown in BREAKDOWNS:
                    query = Query(
                        shape.name, _ANY_DAY, _ANY_DAY, level, breakdown, include_sparkline=True
                    )
                    parts.append(compile_statement(query, shape, schema, self._rate_mode).sql)
        return fingerprint_of(*parts)

    def __repr__(self) -> str:
        return f"<SqliteBackend {self._database.path.name} readers={len(self._readers)}>"


def warnings_of(query: Query, schema: Schema, tree: Tree) -> dict[str, str]:
    """Word -> sentence for everything this answer lacks."""
    words: list[str] = []
    if not tree.records:
        words.append("no_rows")
    if query.breakdown != "all" and schema.breakdown is None:
        words.append("no_breakdown")
    if schema.hierarchy is None:
        words.append("no_hierarchy")
    elif tree.orphans:
        words.append("orphans")
    if query.breakdown != "all" and schema.breakdown is not None:
        words.extend(_lacking_breakdown(query, schema, schema.breakdown))
    if schema.form == "narrow":
        words.append("narrow")
        if schema.meta_table_for(schema.daily, "all") is None:
            words.append("no_meta")
    elif missing := schema.missing(schema.daily):
        return _sentences(words, tree) | {
            "zero_measures": WARNINGS["zero_measures"].format(names=", ".join(missing))
        }
    return _sentences(words, tree)


def _lacking_breakdown(query: Query, schema: Schema, table: Table) -> list[str]:
    if form_of(table) == "wide":
        return []
    has_meta = schema.meta_table_for(table, query.breakdown) is not None
    return ["narrow_breakdown"] if has_meta else ["narrow_breakdown", "no_meta_breakdown"]


def _sentences(words: list[str], tree: Tree) -> dict[str, str]:
    return {word: WARNINGS[word].format(count=tree.orphans) for word in words}
