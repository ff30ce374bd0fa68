"""Warm-up in whole processes on one Redis: one computes, the others find it there."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from yarl import URL

from proxy.demo.data import make_demo
from tests.proxies import ProxyProcess
from tests.public_port import SMALL
from tests.redis_server import RedisServer

PROCESSES = 2


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Its newest day is yesterday, for the processes' clock is the real one."""
    path = tmp_path / "daily.db"
    make_demo(path, None, size=SMALL, end=date.today() - timedelta(days=1))
    return path


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


async def asked(url: URL, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()

    def ask() -> Any:
        with urlopen(Request(str(url), data=data), timeout=30) as response:
            return json.loads(response.read())

    return await asyncio.to_thread(ask)


async def over(proxy: ProxyProcess, job_id: str | None = None) -> dict[str, Any]:
    """The job, or the first one of the process, once it has ended."""
    async with asyncio.timeout(60):
        while True:
            jobs = (await asked(proxy.admin_url / "admin/jobs"))["jobs"]
            for job in reversed(jobs):
                if job["finished_at"] and job["id"] in (job_id or job["id"]):
                    return dict(job)
            # Another process: there is no event to wait for.
            await asyncio.sleep(0.02)


async def test_of_many_processes_only_one_computes_each_question(
    database: Path, redis: RedisServer
) -> None:
    async with AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(
                ProxyProcess(
                    database, redis_url=redis.url, poll_ms=20, state=database.with_name(f"{n}.db")
                )
            )
            for n in range(PROCESSES)
        ]
        jobs = [await over(proxy) for proxy in proxies]
        assert [(job["about"], job["state"], job["errors"]) for job in jobs] == [
            ("start", "done", 0)
        ] * PROCESSES
        ran = [await proxy.metric("proxy_sql_seconds_count") for proxy in proxies]
        held = [
            (await asked(proxy.admin_url / "admin/status"))["cache"]["entries"] for proxy in proxies
        ]
        assert held == [sum(ran)] * PROCESSES
        assert sum(ran) > 100


async def test_what_one_process_has_warmed_the_next_one_finds_in_redis(
    database: Path, redis: RedisServer
) -> None:
    async with ProxyProcess(database, redis_url=redis.url, poll_ms=20) as proxy:
        await over(proxy)
        await proxy.end()
    async with ProxyProcess(database, redis_url=redis.url, poll_ms=20) as proxy:
        job = await over(proxy)
        assert job["state"] == "done"
        assert await proxy.metric("proxy_sql_seconds_count") == 0


async def test_told_to_stop_in_the_middle_of_a_warm_up_it_leaves_at_once(
    tmp_path: Path, redis: RedisServer
) -> None:
    database = tmp_path / "s.db"
    make_demo(database, None, size="s", end=date.today() - timedelta(days=1))
    async with ProxyProcess(database, redis_url=redis.url, poll_ms=20) as proxy:
        await asked(proxy.admin_url / "admin/purge", {"all": True})
        told = await asked(proxy.admin_url / "admin/warm", {"queries": "usual"})
        assert told["job_id"]
        assert await proxy.end() == 0
    async with ProxyProcess(database, redis_url=redis.url, poll_ms=20) as proxy:
        assert (await over(proxy))["state"] == "done"
