"""A reader's thread: what ends its work early, and that nobody waits behind work that is over."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import apsw
import pytest

from proxy.backends.database import Database
from proxy.backends.reader import Reader
from proxy.backends.sqlite import SqliteBackend
from proxy.clock import SystemClock
from proxy.demo.data import Size, make_demo
from proxy.errors import BackendError, BackendTimeout, BackendUnavailable
from proxy.query import Query
from proxy.shapes import make_shapes
from proxy.telemetry import Telemetry
from tests.clocks import HandClock

TINY = Size(campaigns=2, adsets=2, ads=2, days=3)
END = date(2024, 3, 31)
ENDLESS = "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
QUERY = Query("analytics", END, END, "campaign")


class Endless:
    """Work that only an interrupt ends; `begun` is set once its thread is in it."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def __call__(self, connection: apsw.Connection) -> object:
        self.begun.set()
        return connection.execute(ENDLESS).fetchall()


@pytest.fixture
def database(tmp_path: Path) -> Database:
    path = tmp_path / "daily.db"
    make_demo(path, None, size=TINY, end=END)
    return Database(path)


@pytest.fixture
def make_reader(database: Database) -> Iterator[Callable[..., Reader]]:
    made: list[Reader] = []

    def make(clock: HandClock | None = None) -> Reader:
        reader = Reader(database, clock or SystemClock(), timeout_s=60)
        made.append(reader)
        return reader

    yield make
    for reader in made:
        reader.close()


def one(connection: apsw.Connection) -> object:
    return connection.execute("SELECT 1").get


async def test_work_whose_caller_was_cancelled_is_interrupted(
    make_reader: Callable[..., Reader],
) -> None:
    reader, endless = make_reader(), Endless()
    caller = asyncio.create_task(reader.run(endless))
    await asyncio.to_thread(endless.begun.wait)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await reader.run(one) == 1


async def test_work_that_was_cancelled_in_the_queue_does_not_end_what_runs(
    make_reader: Callable[..., Reader],
) -> None:
    reader = make_reader()
    begun, may_end = threading.Event(), threading.Event()

    def held(connection: apsw.Connection) -> object:
        begun.set()
        may_end.wait()
        return one(connection)

    first = asyncio.create_task(reader.run(held))
    await asyncio.to_thread(begun.wait)
    queued = asyncio.create_task(reader.run(one))
    await asyncio.sleep(0)
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    may_end.set()
    assert await first == 1


async def test_work_past_its_limit_is_interrupted(make_reader: Callable[..., Reader]) -> None:
    clock = HandClock()
    reader, endless = make_reader(clock), Endless()
    caller = asyncio.create_task(reader.run(endless))
    await asyncio.to_thread(endless.begun.wait)
    clock.pass_s(61)
    with pytest.raises(BackendTimeout) as caught:
        await caller
    assert caught.value.reason == "sql_timeout"
    assert await reader.run(one) == 1


async def test_closing_interrupts_what_runs(make_reader: Callable[..., Reader]) -> None:
    reader, endless = make_reader(), Endless()
    caller = asyncio.create_task(reader.run(endless))
    await asyncio.to_thread(endless.begun.wait)
    await asyncio.to_thread(reader.close)
    with pytest.raises(BackendTimeout):
        await caller


async def test_a_file_that_is_not_there_is_opened_once_it_is(
    database: Database, make_reader: Callable[..., Reader]
) -> None:
    path, reader = database.path, make_reader()
    database.path = path.with_name("later.db")
    with pytest.raises(BackendUnavailable) as caught:
        await reader.run(one)
    assert caught.value.reason == "no_database"
    database.path = path
    assert await reader.run(one) == 1


async def test_a_database_without_the_tables_is_an_error_of_the_backend(
    database: Database, make_reader: Callable[..., Reader]
) -> None:
    database.path = database.path.with_name("other.db")
    apsw.Connection(str(database.path)).execute("CREATE TABLE t (a)")
    with pytest.raises(BackendError, match="lacks the required table") as caught:
        await make_reader().run(one)
    assert caught.value.reason == "schema"


async def test_a_cancelled_question_gives_its_reader_back(database: Database) -> None:
    clock = SystemClock()
    backend = SqliteBackend(database, make_shapes({}), Telemetry(), clock, readers=1)
    async with backend:
        callers = [asyncio.create_task(backend.fetch(QUERY)) for _ in range(3)]
        await asyncio.sleep(0)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        fetched = await backend.fetch(QUERY)
    assert fetched.rows_read["daily", "campaign"] == TINY.campaigns
