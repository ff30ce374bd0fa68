"""A database that fails in every way, under steady load, before two proxies.

Both are processes of their own on the same file; one has a legacy behind it
whose database is another file, the other has nothing else.
"""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest
from aiohttp.test_utils import TestServer

from proxy.demo.data import make_demo
from proxy.demo.legacy import make_legacy
from tests.proxies import ProxyProcess
from tests.public_port import END, SMALL, make_database
from tests.steady import Known, Seen, Steady, known, tally
from tests.writer import Writer

RANGE = {"start_date": "2024-06-21", "end_date": "2024-06-30"}
OTHER_RANGE = {"start_date": "2024-06-22", "end_date": "2024-06-30"}
ANALYTICS = "/api/dashboard/analytics/data"
DAILY = "daily_mixpanel_metrics"
QUERY_TIMEOUT_S = 3.0
PATIENCE_S = 1.5


def warm_questions(database: Path) -> list[Known]:
    return [
        known("/data", database, **RANGE),
        known("/data", database, **RANGE, hierarchy="ad", breakdown="country"),
        known(ANALYTICS, database, **RANGE, group_by="campaign"),
    ]


def cold_questions(database: Path) -> list[Known]:
    return [
        known("/data", database, **OTHER_RANGE),
        known(f"{ANALYTICS}/optimized", database, **OTHER_RANGE, group_by="campaign"),
    ]


@dataclass
class Scene:
    """`backed` has a legacy, `alone` has none; each has its load of questions asked before."""

    path: Path
    backed: ProxyProcess
    alone: ProxyProcess
    loads: list[Steady]
    cold: list[Known]

    async def rounds(self) -> list[Seen]:
        return [seen for load in self.loads for seen in await load.round()]

    async def ask_cold(self, proxy: ProxyProcess, most: int = 2) -> list[Seen]:
        """Each cold question once, or `most` of them."""
        async with Steady(proxy.url, self.cold[:most], callers=1, pause_s=0) as load:
            return (await load.round())[:most]

    def assert_all_were_answered(self) -> None:
        for load in self.loads:
            assert load.problems() == []
            assert load.slowest_s < PATIENCE_S


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "daily.db")


@pytest.fixture
def writer(database: Path) -> Iterator[Writer]:
    with Writer(database) as writer:
        yield writer


@pytest.fixture
async def two_proxies(
    database: Path, tmp_path: Path
) -> AsyncIterator[tuple[ProxyProcess, ProxyProcess]]:
    shutil.copy(database, tmp_path / "legacy.db")
    async with TestServer(make_legacy(tmp_path / "legacy.db", None)) as server:
        url = server.make_url("/").origin()
        backed = ProxyProcess(database, legacy_url=url, query_timeout_s=QUERY_TIMEOUT_S)
        alone = ProxyProcess(database, query_timeout_s=QUERY_TIMEOUT_S)
        async with AsyncExitStack() as stack:
            await asyncio.gather(*map(stack.enter_async_context, (backed, alone)))
            yield backed, alone


@pytest.fixture
async def scene(
    database: Path, two_proxies: tuple[ProxyProcess, ProxyProcess]
) -> AsyncIterator[Scene]:
    questions, cold = warm_questions(database), cold_questions(database)
    async with AsyncExitStack() as stack:
        loads = [Steady(proxy.url, questions) for proxy in two_proxies]
        for load in loads:
            await stack.enter_async_context(load)
        scene = Scene(database, *two_proxies, loads, cold)
        assert set(tally(await scene.rounds())) == {"optimized"}
        yield scene


@dataclass(frozen=True, slots=True)
class Fault:
    """How the file is broken and mended again. Both are told its bytes from before."""

    strike: Callable[[Path, bytes], object]
    mend: Callable[[Path, bytes], object]


def aside(path: Path) -> Path:
    return path.with_name("aside.db")


def page_of(path: Path, table: str) -> tuple[int, int]:
    """Where a page in the middle of the table's rows begins, and how long it is."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        pages = db.execute(
            "SELECT pageno, pgsize FROM dbstat WHERE name = ? AND pagetype = 'leaf'", (table,)
        ).fetchall()
    number, size = (int(str(value)) for value in pages[len(pages) // 2])
    return (number - 1) * size, size


def spoil_a_page(path: Path, _: bytes) -> None:
    at, size = page_of(path, DAILY)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * size)


def drop_the_table(path: Path, _: bytes) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"ALTER TABLE {DAILY} RENAME TO gone")


def bring_the_table_back(path: Path, _: bytes) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"ALTER TABLE gone RENAME TO {DAILY}")


def overwrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


FAULTS = {
    "a table is missing": Fault(drop_the_table, bring_the_table_back),
    "the file is cut in half": Fault(lambda p, was: os.truncate(p, len(was) // 2), overwrite),
    "the file is empty": Fault(lambda p, _: os.truncate(p, 0), overwrite),
    "the file is garbage": Fault(lambda p, was: p.write_bytes(b"\xa5" * len(was)), overwrite),
    "one page cannot be read": Fault(spoil_a_page, overwrite),
    "the file is moved away": Fault(
        lambda p, _: p.rename(aside(p)), lambda p, _: aside(p).rename(p)
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_numbers_from_before_and_the_legacy_go_on_until_it_is_mended(
    scene: Scene, fault: Fault
) -> None:
    content = scene.path.read_bytes()
    fault.strike(scene.path, content)
    await scene.rounds()
    held_by_legacy = await scene.ask_cold(scene.backed)
    assert [seen.fault for seen in held_by_legacy] == ["", ""]
    assert tally(held_by_legacy) == {"legacy": 2}
    refused = await scene.ask_cold(scene.alone)
    assert {seen.status for seen in refused} == {503}
    assert all('"success":false' in seen.fault for seen in refused)

    fault.mend(scene.path, content)
    for load in scene.loads:
        await load.sees(lambda seen: (seen.source, seen.warning) == ("optimized", ""))
    assert set(tally(await scene.rounds())) == {"optimized"}
    for proxy in (scene.backed, scene.alone):
        after = await scene.ask_cold(proxy)
        assert tally(after) == {"optimized": 2}
        assert [seen.fault for seen in after] == ["", ""]
    scene.assert_all_were_answered()


@pytest.fixture
def rollback_database(database: Path) -> Path:
    """The same with a rollback journal: there a writer keeps readers out."""
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("PRAGMA journal_mode = DELETE").fetchall() == [("delete",)]
    return database


async def test_a_lock_is_no_news_to_what_is_held_and_a_wait_for_the_rest(
    rollback_database: Path, scene: Scene, writer: Writer
) -> None:
    writer.sql("BEGIN EXCLUSIVE")
    waiting = asyncio.create_task(scene.ask_cold(scene.alone))
    assert set(tally(await scene.rounds())) == {"optimized"}
    backed = await scene.ask_cold(scene.backed)
    assert set(tally(backed)) <= {"legacy", "optimized"}
    assert [seen.fault for seen in backed] == ["", ""]
    assert not waiting.done()
    writer.sql("ROLLBACK")
    assert [seen.fault for seen in await waiting] == ["", ""]
    assert set(tally(await scene.rounds())) == {"optimized"}
    scene.assert_all_were_answered()


async def test_a_lock_that_lasts_ends_a_wait_at_its_time_limit(
    rollback_database: Path, scene: Scene, writer: Writer
) -> None:
    writer.sql("BEGIN EXCLUSIVE")
    [first] = await scene.ask_cold(scene.alone, most=1)
    writer.sql("ROLLBACK")
    assert first.status in (503, 504)
    assert first.latency_s < QUERY_TIMEOUT_S + PATIENCE_S
    assert tally(await scene.ask_cold(scene.alone)) == {"optimized": 2}
    scene.assert_all_were_answered()


@pytest.mark.parametrize("has_log", [False, True], ids=["", "with the old one's log beside it"])
async def test_another_file_in_its_place_is_followed_at_once(
    scene: Scene, writer: Writer, tmp_path: Path, has_log: bool
) -> None:
    if has_log:
        writer.sql(f"UPDATE {DAILY} SET meta_spend = meta_spend + 1")
        writer.kill()
        assert scene.path.with_name("daily.db-wal").stat().st_size > 0
    new = tmp_path / "new.db"
    make_demo(new, None, size=SMALL, end=END, seed=2)
    questions = warm_questions(new)
    os.replace(new, scene.path)
    for proxy in (scene.backed, scene.alone):
        async with Steady(proxy.url, questions) as load:
            assert set(tally(await load.round(3))) == {"optimized"}
        assert load.problems() == []
