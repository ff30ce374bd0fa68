"""A pipeline that empties its tables and refills them, as callers see it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from proxy.app import Running
from proxy.demo.data import Size, make_demo
from tests.public_port import echo_legacy, serving
from tests.waiting import until
from tests.writer import Writer

NOW = "2024-07-01T09:00:00"
WEEK = {"start_date": "2024-06-24", "end_date": "2024-06-30", "depth": 1}
EARLY = {"start_date": "2024-06-10", "end_date": "2024-06-12", "depth": 1}


class Deployment:
    """A proxy that polls often, and the pipeline beside it in a process of its own."""

    def __init__(self, running: Running, writer: Writer, session: aiohttp.ClientSession) -> None:
        self.running = running
        self.writer = writer
        self.session = session

    async def ask(self, question: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        async with self.session.post(self.running.url / "data", json=question) as response:
            body = await response.read()
            assert response.status == 200, body
            names = ("Cache-Status", "X-Dashboard-Source", "X-Dashboard-Warning")
            return orjson.loads(body), {name: response.headers.get(name, "") for name in names}

    async def write(self, step: Any, *arguments: Any) -> None:
        await asyncio.to_thread(step, *arguments)

    async def is_in(self, state: str) -> None:
        await until(lambda: self.running.watermarks.state == state)

    async def has_counted(self) -> None:
        """The rows of all dates are known, so that their loss would be noticed."""
        holds = self.running.watermarks._days.holds
        await until(lambda: "2024-06-10" in holds.believed_dates("daily"))


@asynccontextmanager
async def deployed(database: Path, **settings: Any) -> AsyncIterator[Deployment]:
    async with (
        serving(database, poll_ms=20, **settings) as running,
        aiohttp.ClientSession() as session,
    ):
        with Writer(database) as writer:
            yield Deployment(running, writer, session)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "tables.db"
    make_demo(path, None, size=Size(3, 2, 2, 30), end=date(2024, 6, 30))
    return path


async def test_old_answers_go_on_with_a_warning_until_the_refill_has_settled(
    database: Path,
) -> None:
    async with deployed(database) as at:
        before, _ = await at.ask(WEEK)
        await at.has_counted()
        await at.write(at.writer.empty)
        held, headers = await at.ask(WEEK)
        assert headers["X-Dashboard-Warning"] == "rebuilding"
        assert headers["X-Dashboard-Source"] == "optimized"
        assert headers["Cache-Status"] == "dashboard-proxy; hit; detail=rebuilding"
        assert held["data"] == before["data"]
        assert len(held["metadata"]["warnings"]) == 1
        await at.write(at.writer.refill, NOW)
        await at.is_in("settled")
        after, headers = await at.ask(WEEK)
        assert headers["X-Dashboard-Warning"] == ""
        assert after["metadata"]["computed_at"] == "2024-07-01 09:00:00.000000"
        assert after["metadata"]["total_records"] == before["metadata"]["total_records"]


async def test_an_uncached_question_goes_to_the_legacy_and_is_not_kept(database: Path) -> None:
    async with echo_legacy() as legacy, deployed(database, legacy_url=str(legacy.url)) as at:
        await at.ask(WEEK)
        await at.has_counted()
        await at.write(at.writer.empty)
        # This legacy answers no JSON, so what the caller gets is what the tables have left.
        for asked in (1, 2):
            answer, headers = await at.ask(EARLY)
            assert answer["data"] == []
            assert "rebuilding" in headers["X-Dashboard-Warning"]
            assert "stored" not in headers["Cache-Status"]
            assert len(legacy.asked) == asked


async def test_half_a_refill_is_not_believed(database: Path) -> None:
    async with deployed(database) as at:
        before, _ = await at.ask(WEEK)
        await at.has_counted()
        kept = "CREATE TABLE kept AS SELECT * FROM daily_mixpanel_metrics"
        await at.write(at.writer.sql, kept, "DELETE FROM daily_mixpanel_metrics")
        await at.is_in("rebuilding")
        half = (
            "INSERT INTO daily_mixpanel_metrics SELECT * FROM kept"
            " WHERE CAST(substr(entity_id, -1) AS INTEGER) % 2 = 0"
        )
        await at.write(at.writer.sql, half)
        looked = at.running.watermarks.generation
        held, headers = await at.ask(WEEK)
        assert at.running.watermarks.generation >= looked
        assert headers["X-Dashboard-Warning"] == "rebuilding"
        assert held["data"] == before["data"]
        await at.write(
            at.writer.sql,
            "DELETE FROM daily_mixpanel_metrics",
            "INSERT INTO daily_mixpanel_metrics SELECT * FROM kept",
        )
        await at.is_in("settled")
        after, headers = await at.ask(WEEK)
        assert headers["X-Dashboard-Warning"] == ""
        assert after["data"] == before["data"]


async def test_days_deleted_on_purpose_do_not_hold_up_newer_days(database: Path) -> None:
    async with deployed(database) as at:
        await at.ask(WEEK)
        await at.ask(EARLY)
        await at.has_counted()
        purge = "DELETE FROM daily_mixpanel_metrics WHERE date < '2024-06-15'"
        await at.write(at.writer.sql, purge)
        await at.is_in("rebuilding")
        _, headers = await at.ask(EARLY)
        assert headers["X-Dashboard-Warning"] == "rebuilding"
        await at.write(
            at.writer.sql,
            "UPDATE daily_mixpanel_metrics SET profit_usd = 12345.67,"
            " computed_at = '2024-07-01 10:00:00'"
            " WHERE entity_type = 'campaign' AND date = '2024-06-30'",
        )
        after, headers = await at.ask(WEEK)
        assert headers["X-Dashboard-Warning"] == ""
        assert after["metadata"]["computed_at"] == "2024-07-01 10:00:00"
        assert after["data"][0]["profit"] > 12345


async def test_the_hold_runs_out(database: Path) -> None:
    async with deployed(database, rebuild_hold_s=0.3) as at:
        await at.ask(WEEK)
        await at.has_counted()
        await at.write(at.writer.sql, "DELETE FROM daily_mixpanel_metrics")
        generation = at.running.watermarks.generation
        await until(lambda: at.running.watermarks.generation > generation)
        await at.is_in("settled")
        answer, headers = await at.ask(WEEK)
        assert answer["data"] == []
        assert headers["X-Dashboard-Warning"] == "no_rows"


async def test_the_operator_ends_the_hold(database: Path) -> None:
    async with deployed(database) as at:
        await at.ask(WEEK)
        await at.has_counted()
        await at.write(at.writer.sql, "DELETE FROM daily_mixpanel_metrics")
        await at.is_in("rebuilding")
        url = at.running.admin_url / "admin/rebuild"
        async with at.session.post(url, json={"action": "end"}) as response:
            assert response.status == 200
        answer, headers = await at.ask(WEEK)
        assert answer["data"] == []
        assert headers["X-Dashboard-Warning"] == "no_rows"
