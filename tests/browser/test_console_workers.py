"""The console of a proxy with several workers and a Redis: it shows one proxy."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.browser.conftest import Open
from tests.browser.looking import Looking
from tests.browser.staging import OPTIMIZED, PATH, Stage, staged
from tests.redis_server import RedisServer
from tests.waiting import until


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def redis() -> AsyncIterator[RedisServer]:
    async with RedisServer() as redis:
        yield redis


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(
    tmp_path_factory: pytest.TempPathFactory, redis: RedisServer
) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("workers")
    async with staged(folder, workers=2, redis_url=redis.url, memory_mb=64) as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="session")
async def looking(stage: Stage, open_page: Open) -> AsyncIterator[Looking]:
    """One stream must last for the whole test."""
    looking = await open_page(stage.proxy.admin_url)
    yield looking
    assert len([url for url in looking.asked if url.endswith("/admin/events")]) == 1
    await expect(looking.at("#live")).to_have_text("live")


async def workers(stage: Stage) -> list[Any]:
    found: list[Any] = (await stage.admin("GET", "/status"))["workers"]
    return found


async def ask_each(stage: Stage, *, path: str = OPTIMIZED) -> list[str]:
    """Ask until each worker has answered; the sides that they took."""
    before = {one["pid"]: one["requests"] for one in await workers(stage)}
    variants: list[str] = []
    while any(one["requests"] == before[one["pid"]] for one in await workers(stage)):
        # Each on a connection of its own, for whichever worker takes it.
        async with aiohttp.ClientSession() as session:
            headers = await replace(stage, session=session).ask(path=path)
        variants.append(headers.get("X-Dashboard-Variant", ""))
    return variants


async def test_what_the_workers_count_adds_up(looking: Looking, stage: Stage) -> None:
    await ask_each(stage)
    total = sum(one["requests"] for one in await workers(stage))
    assert total >= 2
    await expect(looking.at("#figures")).to_contain_text(f"requests{total}")
    await expect(looking.at("#figures")).to_contain_text("of 67.1 MB")
    row = looking.at("#latency-table tr:has([data-source=optimized])")
    await expect(row.locator("td").first).to_have_text(str(total))


async def test_the_split_is_set_and_rolled_back_for_all(looking: Looking, stage: Stage) -> None:
    await looking.agree("set-percent", percent="100", author="ann", reason="to all")
    await expect(looking.at("[data-value=percent]")).to_have_text("100 %")
    assert set(await ask_each(stage, path=PATH)) == {"optimized"}
    await looking.agree("rollback", author="bob", reason="not for all yet")
    await expect(looking.at("#split-banner")).to_contain_text("By bob")
    assert set(await ask_each(stage, path=PATH)) == {"legacy"}
    await looking.agree("lift", author="ann", reason="found")
    await expect(looking.at("#split-banner")).to_be_empty()
    audit = looking.at("#audit-list tbody tr")
    for at, reason in enumerate(("found", "not for all yet", "to all")):
        await expect(audit.nth(at)).to_contain_text(reason)


async def test_all_is_purged_in_each_worker(looking: Looking, stage: Stage) -> None:
    await ask_each(stage)
    await expect(looking.at("#cache-list tbody tr").first).to_be_visible()
    await looking.agree("purge-all", author="ann", reason="in doubt")
    await expect(looking.at("#said-text")).to_contain_text("are purged.")
    await expect(looking.at("#cache-list")).to_contain_text("Nothing is held")
    assert (await stage.admin("GET", "/cache"))["entries"] == []


async def test_jobs_of_the_workers_are_shown(looking: Looking, stage: Stage) -> None:
    await looking.agree("warm", queries="usual", author="ann")
    await expect(looking.at("#said-text")).to_contain_text("queued as warm-")
    job = (await looking.text("#said-text")).split()[-1].rstrip(".")
    await expect(looking.at(f"#jobs-list tr:has([data-job='{job}'])")).to_contain_text("done")
    await stage.until_warm()
    for one in (await stage.admin("GET", "/jobs?limit=10"))["jobs"]:
        await expect(looking.at(f"#job-{one['id']}")).to_contain_text(f"worker {one['worker']}")
    await expect(looking.at("#attention-list")).not_to_contain_text("warm-up failed")


async def test_a_rolling_restart_is_seen_through(looking: Looking, stage: Stage) -> None:
    await ask_each(stage)
    before = await workers(stage)
    total = sum(one["requests"] for one in before)
    os.kill(stage.proxy.pid, signal.SIGHUP)
    await until(lambda: bool(stage.proxy.events("rolled")))
    assert not {one["pid"] for one in before} & {one["pid"] for one in await workers(stage)}
    asked = len(await ask_each(stage))
    await expect(looking.at("#figures")).to_contain_text(f"requests{total + asked}")
    await stage.admin("POST", "/split", percent=44, reason="by a new worker")
    await expect(looking.at("[data-value=percent]")).to_have_text("44 %")
    await expect(looking.at("#split-history")).to_contain_text("by a new worker")


async def test_a_redis_that_is_down_is_told_and_one_that_is_back_too(
    stage: Stage, redis: RedisServer, open_page: Open
) -> None:
    looking = await open_page(stage.proxy.admin_url, complaints=("status of 503",))
    card = looking.at("#health-cards [data-source=redis]")
    await expect(card).to_contain_text("up")
    async with AsyncExitStack() as stack:
        redis.stop()
        stack.callback(redis.cont)
        await expect(card).to_contain_text("down")
        await expect(looking.at("#attention-list li.warn")).to_contain_text(
            "Redis cannot be reached"
        )
        # What only Redis has is missed where it would stand.
        await expect(looking.at("#diffs > .unread")).to_contain_text("the ledger cannot be read")
    await expect(card).to_contain_text("up")
    await expect(looking.at("#attention-list li.warn")).to_have_count(0)
