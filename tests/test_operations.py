"""What operators see: health, metrics and the log, of a whole proxy that answers questions."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs
from yarl import URL

from proxy.app import Running
from tests.clocks import HandClock
from tests.public_port import echo_legacy, make_database, serving
from tests.redis_server import RedisServer
from tests.writer import Writer

ASKED = {"start_date": "2024-06-21", "end_date": "2024-06-30"}
OTHER = {"start_date": "2024-06-22", "end_date": "2024-06-30"}
NO_ROWS = {"start_date": "2031-01-01", "end_date": "2031-01-02"}
OPTIMIZED = "/api/dashboard/analytics/data/optimized"
DAILY = "daily_mixpanel_metrics"


@dataclass
class Operator:
    """Asks questions on the public port and looks on at the admin port."""

    running: Running
    session: aiohttp.ClientSession

    async def ask(self, path: str = "/data", **asked: object) -> int:
        url = self.running.url.with_path(path)
        async with self.session.post(url, json=asked or ASKED) as response:
            await response.read()
            return response.status

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.session.get(self.running.admin_url.with_path(path)) as response:
            return response.status, await response.json()

    async def ready(self) -> tuple[int, Any]:
        """The answer once the first look has been taken."""
        while self.running.watermarks.computed_at is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await self.running.watermarks.poll()
        return await self.get("/health/ready")

    async def metrics(self) -> "Metrics":
        async with self.session.get(self.running.admin_url.with_path("/metrics")) as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/plain; version=")
            return Metrics(await response.text())


class Metrics:
    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}

    def value(self, name: str, **labels: str) -> float | None:
        for family in self.families.values():
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None

    def edges(self, name: str) -> set[str]:
        return {
            sample.labels["le"]
            for sample in self.families[name].samples
            if sample.name == f"{name}_bucket"
        }


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "daily.db")


@pytest.fixture
async def operator(database: Path) -> AsyncIterator[Operator]:
    async with serving(database) as running, aiohttp.ClientSession() as session:
        yield Operator(running, session)


async def test_it_lives_whatever_it_lacks(operator: Operator, database: Path) -> None:
    assert await operator.get("/health/live") == (200, {"status": "live"})
    take_away(database)
    assert await operator.get("/health/live") == (200, {"status": "live"})


def take_away(database: Path) -> Path:
    return database.rename(database.with_name("away.db"))


async def test_it_is_ready_when_the_tables_can_be_asked(operator: Operator) -> None:
    assert await operator.ready() == (
        200,
        {
            "status": "ready",
            "not_ready": [],
            "parts": {"database": "up", "redis": "off", "legacy": "off"},
        },
    )


async def test_without_its_database_it_is_not_ready_and_says_so(
    operator: Operator, database: Path
) -> None:
    take_away(database)
    status, told = await operator.get("/health/ready")
    assert (status, told["status"], told["not_ready"]) == (503, "not ready", ["database"])
    assert told["parts"]["database"] == "down"


async def test_a_database_without_its_table_is_not_ready(
    operator: Operator, database: Path
) -> None:
    with Writer(database) as writer:
        writer.sql(f"DROP TABLE {DAILY}")
    status, told = await operator.ready()
    assert (status, told["not_ready"]) == (503, ["database"])


async def test_redis_and_the_legacy_are_told_but_do_not_decide(database: Path) -> None:
    async with RedisServer() as redis, echo_legacy() as legacy, aiohttp.ClientSession() as session:
        behind: dict[str, Any] = {"redis_url": redis.url, "legacy_url": str(legacy.url)}
        async with serving(database, **behind) as running:
            operator = Operator(running, session)
            _, both = await operator.ready()
            redis.kill()
            status, without = await operator.ready()
    assert both["parts"] == {"database": "up", "redis": "up", "legacy": "up"}
    assert without["parts"] == {"database": "up", "redis": "down", "legacy": "up"}
    assert status == 200


async def test_a_legacy_that_is_gone_is_told(database: Path) -> None:
    async with echo_legacy() as legacy:
        url = legacy.url
    async with (
        serving(database, legacy_url=str(url)) as running,
        aiohttp.ClientSession() as session,
    ):
        status, told = await Operator(running, session).ready()
    assert (status, told["parts"]["legacy"]) == (200, "down")


async def test_health_and_metrics_on_the_public_port_are_the_legacys(database: Path) -> None:
    async with (
        echo_legacy() as legacy,
        serving(database, legacy_url=str(legacy.url)) as running,
        aiohttp.ClientSession() as session,
    ):
        for path in ("/health/live", "/health/ready", "/metrics", "/admin/status"):
            async with session.get(running.url.with_path(path)) as response:
                assert response.content_type == "application/x-echo"


async def test_every_metric_is_there_under_its_name(operator: Operator) -> None:
    metrics = await operator.metrics()
    assert {name for name in metrics.families if name.startswith("proxy_")} >= {
        "proxy_requests",
        "proxy_request_seconds",
        "proxy_sql_seconds",
        "proxy_look_seconds",
        "proxy_store_errors",
        "proxy_store_rubbish",
        "proxy_store_evictions",
        "proxy_entries",
        "proxy_entry_bytes",
        "proxy_watermark_age_seconds",
        "proxy_fallbacks",
        "proxy_upstream_errors",
    }


async def test_requests_are_counted_by_route_source_and_result(operator: Operator) -> None:
    for _ in range(3):
        await operator.ask()
    await operator.ask(OPTIMIZED)
    await operator.ask(start_date="never")
    metrics = await operator.metrics()

    def counted(route: str, source: str, result: str) -> float | None:
        labels = {"route": route, "source": source, "result": result}
        return metrics.value("proxy_requests_total", **labels)

    assert counted("data", "optimized", "miss") == 1
    assert counted("data", "optimized", "hit") == 2
    assert counted("optimized", "optimized", "miss") == 1
    assert counted("data", "none", "error") == 1
    times = metrics.value("proxy_request_seconds_count", route="data", source="optimized")
    assert times == 3


@pytest.mark.parametrize("name", ["proxy_request_seconds", "proxy_sql_seconds"])
async def test_one_bucket_ends_at_what_a_miss_may_take(operator: Operator, name: str) -> None:
    await operator.ask()
    assert "0.05" in (await operator.metrics()).edges(name)


async def test_sql_is_observed_once_per_question_statement_and_looks_apart(
    operator: Operator,
) -> None:
    for asked in (ASKED, ASKED, OTHER):
        await operator.ask(**asked)
    metrics = await operator.metrics()
    assert metrics.value("proxy_sql_seconds_count") == 2
    for kind in ("changes", "states"):
        assert metrics.value("proxy_look_seconds_count", kind=kind)


async def test_what_memory_holds_is_told(operator: Operator) -> None:
    for asked in (ASKED, OTHER):
        await operator.ask(**asked)
    metrics = await operator.metrics()
    assert metrics.value("proxy_entries") == 2
    assert (metrics.value("proxy_entry_bytes") or 0) > 1000


async def test_the_age_of_the_watermark_is_told(database: Path) -> None:
    clock = HandClock()
    async with serving(database, clock) as running, aiohttp.ClientSession() as session:
        operator = Operator(running, session)
        await operator.ready()
        clock.pass_s(90)
        await running.watermarks.poll()
        assert (await operator.metrics()).value("proxy_watermark_age_seconds") == 90
        with Writer(database) as writer:
            writer.run("2024-07-01 09:00:00")
        await running.watermarks.poll()
        assert (await operator.metrics()).value("proxy_watermark_age_seconds") == 0


def lines(logs: list[Any], *without: str) -> list[Mapping[str, Any]]:
    """What was logged because of requests."""
    aside = {"pipeline_wrote", "rows_deleted", *without}
    return [line for line in logs if line["event"] not in aside]


async def test_a_miss_and_a_stale_answer_have_one_line_each_and_hits_have_none(
    operator: Operator, database: Path
) -> None:
    with Writer(database) as writer, capture_logs() as logs:
        for _ in range(3):
            await operator.ask()
        writer.run("2024-07-01 09:00:00")
        for _ in range(3):
            await operator.ask()
    told = lines(logs)
    assert [(line["event"], line["cache"]) for line in told] == [
        ("answered", "miss"),
        ("answered", "stale"),
    ]
    assert (
        told[0].items()
        >= {
            "log_level": "info",
            "route": "data",
            "source": "optimized",
            "status": 200,
            "detail": "",
            "start_date": "2024-06-21",
            "end_date": "2024-06-30",
            "hierarchy": "campaign",
            "breakdown": "all",
        }.items()
    )
    assert told[0]["bytes"] > 100
    assert told[0]["request_id"]


async def test_a_refused_and_an_unanswered_question_have_one_line_each(
    operator: Operator, database: Path
) -> None:
    with capture_logs() as logs:
        assert await operator.ask(start_date="never", end_date="2024-06-30") == 400
        take_away(database)
        assert await operator.ask() == 503
    # A poll may have come between: that the file is gone is then told by it as well.
    told = [line for line in lines(logs) if line["event"] != "look_failed"]
    assert [(line["event"], line["log_level"]) for line in told] == [
        ("refused", "info"),
        ("no_answer", "warning"),
    ]


async def test_a_question_that_goes_by_has_one_line(database: Path) -> None:
    async with (
        echo_legacy() as legacy,
        serving(database, legacy_url=str(legacy.url)) as running,
        aiohttp.ClientSession() as session,
    ):
        with capture_logs() as logs:
            await Operator(running, session).ask(**ASKED, unknown=1)
    [line] = lines(logs)
    assert (line["event"], line["route"], line["detail"]) == ("bypassed", "data", "not-understood")


async def test_no_metric_is_labelled_with_what_a_caller_sent(operator: Operator) -> None:
    await operator.ask("/analytics/data", **NO_ROWS)
    url = URL("http://127.0.0.1").with_port(operator.running.url.port or 0) / "secret-path"
    async with operator.session.get(url) as response:
        await response.read()
    metrics = await operator.metrics()
    routes = {
        sample.labels["route"]
        for sample in metrics.families["proxy_requests"].samples
        if "route" in sample.labels
    }
    assert routes <= {"data", "optimized", "analytics", "passthrough"}
