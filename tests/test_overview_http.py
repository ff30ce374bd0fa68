"""What the overview of a whole proxy counts, by requests that really came."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.app import Running
from tests.event_stream import watching
from tests.public_port import END, ask, echo_legacy, get, make_database, post, serving
from tests.redis_server import RedisServer
from tests.waiting import until

QUESTION = post(
    "/api/dashboard/data",
    f'{{"start_date": "{END}", "end_date": "{END}", "hierarchy": "campaign"}}'.encode(),
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "daily.db")


async def overview(running: Running) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(running.admin_url / "admin/overview") as answer,
    ):
        body: dict[str, Any] = await answer.json()
        return body


def by_place(told: dict[str, Any]) -> dict[str, int]:
    return {place: latency["count"] for place, latency in told["places"].items()}


async def test_nothing_asked_is_nothing_counted(database: Path) -> None:
    async with serving(database) as running:
        told = await overview(running)
    assert told["requests"] == {
        "total": 0,
        "hits": 0,
        "misses": 0,
        "by_source": {},
        "by_result": {},
    }
    assert (told["latency"], told["places"], told["step_s"]) == ({}, {}, 5)


async def test_a_miss_is_the_databases_and_hits_are_memorys(database: Path) -> None:
    async with serving(database) as running:
        for _ in range(4):
            assert (await ask(running.url, QUESTION)).status == 200
        told = await overview(running)
    assert (told["requests"]["hits"], told["requests"]["misses"]) == (3, 1)
    assert told["requests"]["by_source"] == {"optimized": 4}
    assert by_place(told) == {"memory": 3, "database": 1}
    assert told["latency"]["optimized"]["count"] == 4
    assert told["places"]["database"]["p50_ms"] > told["places"]["memory"]["p50_ms"]


async def test_what_redis_had_is_redis(database: Path) -> None:
    async with RedisServer() as redis:
        async with serving(database, redis_url=redis.url) as running:
            await ask(running.url, QUESTION)
            await running.background.drained()
        async with serving(database, redis_url=redis.url) as running:
            # Past the warm-up, which brings what Redis has into memory for good.
            await until(lambda: running.watermarks.computed_at is not None)
            await ask(running.url, QUESTION)
            await ask(running.url, QUESTION)
            assert by_place(await overview(running)) == {"memory": 1, "redis": 1}


async def test_what_is_not_ours_does_not_spoil_the_hit_ratio(database: Path) -> None:
    async with (
        echo_legacy() as legacy,
        serving(database, legacy_url=str(legacy.url), split_percent=0) as running,
    ):
        await ask(running.url, QUESTION)
        await ask(running.url, get("/static/logo.png"))
        await ask(running.url, get("/api/running"))
        await ask(running.url, post("/api/dashboard/analytics/data", b'{"start_date": "x"}'))
        await ask(running.url, post("/api/dashboard/data", b'{"start_date": "x"}'))
        requests = (await overview(running))["requests"]
    assert (requests["hits"], requests["misses"], requests["total"]) == (0, 1, 5)
    assert requests["by_source"] == {"optimized": 1, "legacy": 1, "passthrough": 2, "none": 1}
    assert requests["by_result"] == {"bypass": 1, "error": 1, "miss": 1, "passthrough": 2}


async def test_the_history_counts_what_came_in_a_step(database: Path) -> None:
    async with serving(database) as running:
        await ask(running.url, QUESTION)
        async with watching(running.admin_url / "admin/events") as stream:
            point = None
            while point is None:
                history = (await stream.next_of("overview"))["history"]
                point = next((one for one in history if one["requests"]), None)
    assert point["at"] % 5 == 0
    assert (point["requests"], point["misses"], point["by_source"]) == (1, 1, {"optimized": 1})
