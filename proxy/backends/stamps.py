"""SqliteStamps: how new the rows of dates are, read beside the callers and the looks."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import apsw
import orjson

from proxy.backends.database import Database
from proxy.backends.reader import Reader
from proxy.backends.schema import Table
from proxy.clock import Clock
from proxy.looks import TableWord
from proxy.telemetry import Telemetry

T = TypeVar("T")

_CACHE_KIB = 4096
"""Nothing is read twice."""


class SqliteStamps:
    """Has a connection and a thread of its own, opened when first asked."""

    def __init__(
        self, database: Database, telemetry: Telemetry, clock: Clock, *, timeout_s: float = 10.0
    ) -> None:
        self._database = database
        self._telemetry = telemetry
        self._clock = clock
        self._reader = Reader(database, clock, timeout_s=timeout_s)

    def close(self) -> None:
        self._reader.close()

    async def newest(self, table: TableWord, dates: Sequence[str]) -> Mapping[str, str | None]:
        """The newest `computed_at` of each of `dates`, None for one without rows.

        Of all dates at once where there is no index by date. Raises BackendError.
        """
        return await self._timed(lambda db: self._newest(db, table, dates))

    async def counts(self, table: TableWord) -> Mapping[str, int]:
        """Date -> rows. Raises BackendError."""
        return await self._timed(lambda db: self._counts(db, table))

    async def _timed(self, work: Callable[[apsw.Connection], T]) -> T:
        started = self._clock.monotonic()
        try:
            return await self._reader.run(work)
        finally:
            seconds = self._clock.monotonic() - started
            self._telemetry.look_seconds.labels("stamps").observe(seconds)

    def _counts(self, db: apsw.Connection, word: TableWord) -> Mapping[str, int]:
        table = self._table(db, word)
        if table is None:
            return {}
        return dict(db.execute(f"SELECT date, COUNT(*) FROM {table.name} GROUP BY date"))

    def _newest(
        self, db: apsw.Connection, word: TableWord, dates: Sequence[str]
    ) -> Mapping[str, str | None]:
        db.pragma("cache_size", -_CACHE_KIB)
        table = self._table(db, word)
        found: dict[str, str | None] = dict.fromkeys(dates)
        if table is None:
            return found
        if table.has_index_on("date"):
            # CROSS JOIN keeps the order: the planner would walk the index by `computed_at`.
            rows = db.execute(
                "SELECT d.date, MAX(d.computed_at) FROM json_each(?) AS j"
                f" CROSS JOIN {table.name} AS d ON d.date = j.value GROUP BY 1",
                (orjson.dumps(list(dates)).decode(),),
            )
        else:
            rows = db.execute(f"SELECT date, MAX(computed_at) FROM {table.name} GROUP BY date")
        found.update((str(day), None if stamp is None else str(stamp)) for day, stamp in rows)
        return found

    def _table(self, db: apsw.Connection, word: TableWord) -> Table | None:
        schema = self._database.schema
        if schema is None or db.pragma("schema_version") != schema.version:
            schema = self._database.read_schema(db)
        return schema.daily if word == "daily" else schema.breakdown

    def __repr__(self) -> str:
        return f"<SqliteStamps {self._reader!r}>"
