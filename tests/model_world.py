"""The model test's small world: real tables, tiers and watermarks; Redis, legacy, time by hand."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AsyncExitStack, closing
from datetime import date, timedelta
from pathlib import Path

import apsw

from proxy.answer import Answer
from proxy.backends.database import Database
from proxy.backends.looks import SqliteLooks
from proxy.backends.sqlite import SqliteBackend
from proxy.background import Background
from proxy.cache.codec import Head
from proxy.cache.entry import Entry
from proxy.cache.memory import MemoryStore
from proxy.cache.store import Found
from proxy.cache.tiered import TieredStore
from proxy.demo.data import Size, make_demo
from proxy.document import render
from proxy.errors import BackendUnavailable, StoreError
from proxy.payload import Payload
from proxy.query import Key, Query
from proxy.read_through import ReadThrough
from proxy.shapes import make_shapes
from proxy.single_flight import SingleFlight
from proxy.telemetry import Telemetry
from proxy.watermarks import Watermarks
from tests.clocks import HandClock

DAILY = "daily_mixpanel_metrics"
FIRST = date(2024, 6, 1)
DAYS = 6
SIZE = Size(campaigns=4, adsets=2, ads=2, days=DAYS)
HOLD_S = 900.0


def question(first: int, last: int) -> Query:
    """The trials of each ad over the days from `first` to `last`, counted from FIRST."""
    start, end = (FIRST + timedelta(days=ahead) for ahead in (first, last))
    return Query("dashboard", start, end, "ad", depth=1)


class HandRedis:
    """The shared tier as a dict. It outlives the proxy, and fails while `is_down`."""

    def __init__(self) -> None:
        self.entries: dict[Key, Entry] = {}
        self.is_down = False

    async def get(self, key: Key) -> Found | None:
        self._reach()
        entry = self.entries.get(key)
        return None if entry is None else Found(entry, "redis")

    async def put(self, key: Key, entry: Entry) -> None:
        self._reach()
        self.entries[key] = entry

    async def delete(self, keys: Iterable[Key]) -> int:
        self._reach()
        return len([key for key in keys if self.entries.pop(key, None)])

    async def refuse_fills(self) -> None:
        self._reach()

    async def heads(self) -> AsyncGenerator[Mapping[Key, Head | None], None]:
        self._reach()
        yield {}

    def _reach(self) -> None:
        if self.is_down:
            raise StoreError("down")


class HandLegacy:
    """Knows what the tables hold, whatever happened to the proxy's view of them."""

    def __init__(self, tables: "Tables") -> None:
        self._tables = tables
        self.is_down = False

    async def answer(self, query: Query) -> Answer:
        if self.is_down:
            raise BackendUnavailable("down", reason="unreachable")
        total = self._tables.trials(query)
        rows = [] if total is None else [{"trials": total}]
        body = render(query, rows, computed_at=None, warnings=[], data_source="legacy")
        return Answer(Payload.of(body), "legacy", "miss", warnings=() if rows else ("no_rows",))


class Tables:
    """The pipeline's side of the database, and what there is to know about its file."""

    def __init__(self, template: Path, folder: Path) -> None:
        self.path = folder / "daily.db"
        self._aside = folder / "aside.db"
        shutil.copy(template, self.path)
        self._db = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        self.has_locks = self._db.pragma("journal_mode") == "delete"
        self.is_away = False
        self.is_locked = False

    @property
    def is_readable(self) -> bool:
        return not (self.is_away or self.is_locked)

    def commit(self, *statements: str) -> None:
        self._db.execute("; ".join(["BEGIN IMMEDIATE", *statements, "COMMIT"]))

    def trials(self, query: Query) -> int | None:
        """The sum over all ads; None where there is no row."""
        [(total, rows)] = self._db.execute(
            f"SELECT SUM(trial_users_count), COUNT(*) FROM {DAILY}"
            " WHERE entity_type = 'ad' AND date BETWEEN ? AND ?",
            (query.start.isoformat(), query.end.isoformat()),
        ).fetchall()
        return int(str(total)) if rows else None

    def state(self, query: Query) -> tuple[object, ...]:
        """All that an answer to `query` is made of."""
        rows = self._db.execute(
            f"SELECT date, entity_id, trial_users_count, computed_at FROM {DAILY}"
            " WHERE entity_type = 'ad' AND date BETWEEN ? AND ? ORDER BY 1, 2",
            (query.start.isoformat(), query.end.isoformat()),
        )
        return tuple(rows)

    def lock(self) -> None:
        self._db.execute("BEGIN EXCLUSIVE")
        self.is_locked = True

    def unlock(self) -> None:
        self._db.execute("ROLLBACK")
        self.is_locked = False

    def move(self, *, away: bool) -> None:
        os.rename(*((self.path, self._aside) if away else (self._aside, self.path)))
        self.is_away = away

    def close(self) -> None:
        self._db.close()


def make_template(path: Path, journal: str) -> None:
    """With the journal `delete` a writer can keep readers out, with `wal` it cannot."""
    make_demo(path, None, size=SIZE, end=FIRST + timedelta(days=DAYS - 1), has_breakdown=False)
    with closing(apsw.Connection(str(path))) as db:
        db.pragma("journal_mode", journal)


class Proxy:
    """One life of the proxy. `ask` is what a caller does."""

    def __init__(self, tables: Tables, redis: HandRedis, legacy: HandLegacy) -> None:
        self._tables = tables
        self._redis = redis
        self._legacy = legacy
        self._stack = AsyncExitStack()

    async def start(self, clock: HandClock) -> None:
        database, telemetry = Database(self._tables.path), Telemetry()
        enter = self._stack.enter_async_context
        looks = await enter(SqliteLooks(database, telemetry, clock))
        backend = await enter(SqliteBackend(database, make_shapes(), telemetry, clock, readers=1))
        self._background = await enter(Background())
        store = TieredStore(MemoryStore(2**20, telemetry), self._redis, telemetry, self._background)
        self.watermarks = Watermarks(
            looks, self._background, telemetry, clock, recount_s=0, rebuild_hold_s=HOLD_S
        )
        self._read_through = ReadThrough(
            self.watermarks,
            store,
            SingleFlight(self._background),
            backend,
            self._legacy,
            telemetry,
            clock,
        )

    async def ask(self, query: Query) -> Answer:
        held = self._read_through.held_now(query)
        answer = held if held is not None else await self._read_through.answer(query)
        await self._idle()
        return answer

    async def poll(self) -> None:
        await self.watermarks.poll()
        await self._idle()

    async def _idle(self) -> None:
        """What runs behind callers' backs has run; a recount of tables nobody can read goes on."""
        ours = {asyncio.current_task()}
        while behind := {
            task
            for task in asyncio.all_tasks() - ours
            if self._tables.is_readable or task.get_name() != "recount"
        }:
            await asyncio.wait(behind)

    async def end(self) -> None:
        await self._stack.aclose()
