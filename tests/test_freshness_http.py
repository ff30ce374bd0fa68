"""A whole proxy before a database that a real pipeline writes to: which answers stay, which go."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from proxy.demo.data import Size, make_demo
from tests.public_port import serving
from tests.waiting import until
from tests.writer import Writer

SMALL = Size(campaigns=2, adsets=2, ads=2, days=30)
END = date(2024, 3, 31)
OLD = END - timedelta(days=10)
DAILY = "daily_mixpanel_metrics"
COMMITS = 1_000
READERS = 4


@dataclass
class Caller:
    session: aiohttp.ClientSession
    url: URL

    async def ask(self, path: str = "/data", **asked: object) -> tuple[str, Any]:
        """`Cache-Status` without the proxy's name, and the answer."""
        async with self.session.post(self.url.with_path(path), json=asked) as response:
            assert response.status == 200
            status = response.headers["Cache-Status"]
            return status.removeprefix("dashboard-proxy; "), await response.json()

    async def status(self, **asked: object) -> str:
        status, _ = await self.ask(**asked)  # type: ignore[arg-type]
        return status


def span(start: date, end: date, **more: object) -> dict[str, object]:
    return {"start_date": str(start), "end_date": str(end), **more}


QUESTIONS = {
    "the written days": span(END - timedelta(days=2), END),
    "up to the first written day": span(OLD, END - timedelta(days=2)),
    "up to the day before": span(OLD, END - timedelta(days=3)),
    "long before": span(OLD - timedelta(days=9), OLD, hierarchy="ad"),
    "the breakdown of a written day": span(END, END, breakdown="country"),
    "the breakdown of the day before": span(
        END - timedelta(days=3), END - timedelta(days=3), breakdown="device"
    ),
    "after the last day": span(END + timedelta(days=1), END + timedelta(days=9)),
}
TOUCHED = {"the written days", "up to the first written day", "the breakdown of a written day"}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "daily.db"
    make_demo(path, None, size=SMALL, end=END)
    return path


@pytest.fixture
def writer(database: Path) -> Iterator[Writer]:
    with Writer(database) as writer:
        yield writer


@pytest.fixture
async def caller(database: Path) -> AsyncIterator[Caller]:
    async with serving(database) as running, aiohttp.ClientSession() as session:
        yield Caller(session, running.url)


async def statuses(caller: Caller) -> dict[str, str]:
    return {name: await caller.status(**asked) for name, asked in QUESTIONS.items()}


async def test_a_run_makes_stale_what_its_dates_touch_and_nothing_else(
    caller: Caller, writer: Writer
) -> None:
    assert set((await statuses(caller)).values()) == {"fwd=miss; stored"}
    assert set((await statuses(caller)).values()) == {"hit"}
    writer.run("2024-04-01 09:00:00")
    after = await statuses(caller)
    assert {name for name, status in after.items() if status == "fwd=stale; stored"} == TOUCHED
    assert {status for name, status in after.items() if name not in TOUCHED} == {"hit"}
    assert set((await statuses(caller)).values()) == {"hit"}


async def test_between_the_two_commits_only_answers_without_breakdown_are_final(
    caller: Caller, writer: Writer
) -> None:
    plain, split = span(END, END), span(END, END, breakdown="country")
    for asked in (plain, split):
        await caller.ask(**asked)  # type: ignore[arg-type]
    writer.run_daily("2024-04-01 09:00:00")
    assert [await caller.status(**asked) for asked in (plain, split)] == ["fwd=stale; stored"] * 2
    writer.finish()
    assert [await caller.status(**asked) for asked in (plain, split)] == [
        "hit",
        "fwd=stale; stored",
    ]


async def test_a_write_in_the_sparklines_window_makes_only_the_sparkline_stale(
    caller: Caller, writer: Writer
) -> None:
    plain, lined = span(END, END), span(END, END, include_sparkline=True)
    for asked in (plain, lined):
        await caller.ask(**asked)  # type: ignore[arg-type]
    bump = f"UPDATE {DAILY} SET meta_spend = meta_spend + 1 WHERE date = '{{}}'"
    writer.sql(bump.format(END - timedelta(days=14)))
    assert [await caller.status(**asked) for asked in (plain, lined)] == ["hit", "hit"]
    writer.sql(bump.format(END - timedelta(days=13)))
    assert [await caller.status(**asked) for asked in (plain, lined)] == [
        "hit",
        "fwd=stale; stored",
    ]


async def test_a_run_that_changes_nothing_an_answer_shows_leaves_it_a_hit(
    caller: Caller, writer: Writer
) -> None:
    await caller.ask(**span(END, END))  # type: ignore[arg-type]
    writer.sql("UPDATE id_name_mapping SET updated_at = '2024-04-01 09:00:00'")
    writer.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert await caller.status(**span(END, END)) == "hit"
    writer.sql("UPDATE id_name_mapping SET canonical_name = canonical_name || '!'")
    assert await caller.status(**span(END, END)) == "fwd=stale; stored"


async def test_a_day_whose_stamps_are_spelt_both_ways_is_kept_all_the_same(
    caller: Caller, writer: Writer
) -> None:
    await asyncio.to_thread(
        writer.sql,
        f"UPDATE {DAILY} SET computed_at = '{END} 09:00:00' WHERE date = '{END}'",
        f"UPDATE {DAILY} SET computed_at = '{END}T08:00:00' WHERE date = '{END}'"
        f" AND entity_id = (SELECT MAX(entity_id) FROM {DAILY} WHERE entity_type = 'ad')",
    )
    asked = span(END, END, hierarchy="ad")
    assert await caller.status(**asked) == "fwd=miss; stored"
    assert await caller.status(**asked) == "hit"


async def test_equal_data_give_equal_bytes_again(caller: Caller, writer: Writer) -> None:
    asked = span(OLD, END, hierarchy="campaign", breakdown="country")
    url = caller.url.with_path("/data")
    async with caller.session.post(url, json=asked) as response:
        first = (await response.read(), response.headers["ETag"])
    change = f"UPDATE {DAILY} SET trial_users_count = trial_users_count + {{}}"
    writer.sql(change.format("1"))
    assert await caller.status(**asked) == "fwd=stale; stored"
    writer.sql(change.format("-1"))
    async with caller.session.post(url, json=asked) as response:
        assert (await response.read(), response.headers["ETag"]) == first


async def test_when_polling_a_commit_is_followed_without_a_question(database: Path) -> None:
    with Writer(database) as writer:
        polling = serving(database, freshness="poll", poll_ms=1)
        async with polling as running, aiohttp.ClientSession() as session:
            caller = Caller(session, running.url)
            await caller.ask(**span(END, END))  # type: ignore[arg-type]
            generation = running.watermarks.generation
            writer.run("2024-04-01 09:00:00")
            await until(lambda: running.watermarks.generation > generation)
            assert await caller.status(**span(END, END)) == "fwd=stale; stored"


@dataclass
class Tally:
    """`committed` is what the last finished commit wrote; `is_over` once there are no more."""

    committed: int = 0
    is_over: bool = False
    asked: int = 0
    hits: int = 0

    def has_more_than(self, asked: int) -> bool:
        return self.asked > asked


async def keep_writing(writer: Writer, campaign: str, tally: Tally) -> None:
    for number in range(1, COMMITS + 1):
        # Every other one stays within the second of the one before.
        stamp = f"2024-04-01 09:{number // 2 // 60:02}:{number // 2 % 60:02}"
        await asyncio.to_thread(
            writer.sql,
            f"UPDATE {DAILY} SET trial_users_count = {number}, computed_at = '{stamp}'"
            f" WHERE date = '{END}' AND entity_type = 'campaign' AND entity_id = '{campaign}'",
        )
        tally.committed = number
        if number % 2:
            # Some commits come while all readers wait, some while answers go out.
            await until(partial(tally.has_more_than, tally.asked))
    tally.is_over = True


async def keep_asking(
    caller: Caller, campaign: str, tally: Tally, asked: dict[str, object]
) -> None:
    while not tally.is_over:
        committed = tally.committed
        status, answer = await caller.ask(**asked)  # type: ignore[arg-type]
        [row] = [row for row in answer["data"] if row["id"] == f"campaign_{campaign}"]
        assert committed <= row["trials"] <= tally.committed + 1
        tally.asked += 1
        tally.hits += status == "hit"


async def test_no_answer_is_older_than_the_run_committed_when_the_question_began(
    caller: Caller, writer: Writer
) -> None:
    [[campaign]] = writer.sql(f"SELECT MIN(entity_id) FROM {DAILY} WHERE entity_type = 'campaign'")
    writer.sql(
        f"UPDATE {DAILY} SET trial_users_count = 0"
        f" WHERE date = '{END}' AND entity_type = 'campaign' AND entity_id = '{campaign}'"
    )
    tally = Tally()
    questions = [span(END, END), span(END, END, depth=1), span(END, END, breakdown="country")]
    async with asyncio.TaskGroup() as group:
        group.create_task(keep_writing(writer, str(campaign), tally))
        for number in range(READERS):
            asked = questions[number % len(questions)]
            group.create_task(keep_asking(caller, str(campaign), tally, asked))
    assert tally.committed == COMMITS
    assert tally.asked >= COMMITS / 2
