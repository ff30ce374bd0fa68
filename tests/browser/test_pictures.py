"""Pictures of the console's states, for docs/console; each must have something to show."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import expect

from proxy.demo.data import Size
from tests.browser.conftest import Open
from tests.browser.looking import GONE, Looking
from tests.browser.staging import CONFIG, OPTIMIZED, Stage, staged, stamp
from tests.writer import Writer

LARGEST = 150_000
PLAN = CONFIG.replace("min_samples = 100000", "min_samples = 2000")
WIDE = {"width": 1060, "height": 860}
PHONE = {"width": 390, "height": 1100}
DATA = Size(campaigns=3, adsets=2, ads=2, days=100, breakdown_days=20)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> AsyncIterator[Stage]:
    """A rollout at 25 %, callers on both sides, a legacy that gets its spend wrong now and then."""
    # Pictures to be kept show a minute of traffic.
    asked = 240 if pytestconfig.getoption("--screenshots") else 24
    async with staged(tmp_path_factory.mktemp("pictures"), size=DATA, config=PLAN) as stage:
        await stage.admin("POST", "/rollout", action="start", author="ann", reason="evidence is in")
        await stage.admin("POST", "/rollout", action="promote", author="ann", reason="quiet night")
        await stage.admin("POST", "/rollout", action="promote", author="bob", reason="go on")
        with Writer(stage.database) as writer:
            for number, days in enumerate((60, 20, 3)):
                ago = timedelta(hours=(100, 9, 0)[number])
                writer.run(stamp(ago), days=days)
        await stage.until_warm()
        for number in range(asked):
            if number == asked * 3 // 4:
                await stage.until_compared(number)
                await stage.misbehave(field="spend", factor=1.05)
            level = ("campaign", "adset", "ad")[number % 3]
            await stage.ask(user=str(number), level=level, days=3 + number % 4)
            await stage.ask(path=OPTIMIZED, level=level, days=20 + number % 5)
            if asked > 24:
                await asyncio.sleep(0.25)
        await stage.until_compared(asked)
        yield stage


async def take(looking: Looking, folder: Path, name: str, selector: str = "") -> None:
    path = folder / f"{name}.png"
    options: dict[str, Any] = {"path": path, "animations": "disabled"}
    if selector:
        await looking.at(selector).screenshot(**options)
    else:
        await looking.page.screenshot(**options)
    assert 5_000 < path.stat().st_size < LARGEST


async def settled(looking: Looking) -> None:
    await expect(looking.at("#diff-fields tbody tr").first).to_be_visible()
    await expect(looking.at("[data-key=cache-more]")).to_be_visible()
    await expect(looking.at("#requests-chart .legend")).to_contain_text("optimized")


@pytest.mark.parametrize(
    ("name", "size", "scheme"),
    [
        ("overview-light", WIDE, "light"),
        ("overview-dark", WIDE, "dark"),
        ("overview-phone", PHONE, "light"),
    ],
)
async def test_the_overview(
    stage: Stage, open_page: Open, pictures: Path, name: str, size: Any, scheme: Any
) -> None:
    looking = await open_page(stage.proxy.admin_url, viewport=size, color_scheme=scheme)
    await settled(looking)
    await take(looking, pictures, name)


async def test_each_panel(stage: Stage, open_page: Open, pictures: Path) -> None:
    looking = await open_page(stage.proxy.admin_url, viewport=WIDE)
    await settled(looking)
    await expect(looking.at("#rollout [aria-current=step]")).to_contain_text("25 %")
    await take(looking, pictures, "split-running", "#split")
    await take(looking, pictures, "differences", "#diffs")
    await take(looking, pictures, "jobs", "#jobs")
    await looking.at("#cache-search").fill("by country, 1 to")
    await take(looking, pictures, "cache", "#cache")
    await looking.at("[data-sample]").first.click()
    await expect(looking.at("dialog .sides")).to_be_visible()
    await take(looking, pictures, "sample", "dialog")


async def test_a_rebuild_that_is_held(stage: Stage, open_page: Open, pictures: Path) -> None:
    looking = await open_page(stage.proxy.admin_url, viewport=WIDE)
    gone = stage.end - timedelta(days=12)
    with Writer(stage.database) as writer:
        writer.sql("CREATE TABLE aside AS SELECT * FROM daily_mixpanel_metrics"
                   f" WHERE date BETWEEN '{gone}' AND '{gone + timedelta(days=2)}'",
                   "DELETE FROM daily_mixpanel_metrics WHERE metric_id IN"
                   " (SELECT metric_id FROM aside)")  # fmt: skip
        await expect(looking.at("#calendar [data-state=rebuilding]")).to_have_count(3)
        await expect(looking.at("#attention-list")).to_contain_text("A rebuild is held")
        await take(looking, pictures, "pipeline-held", "#pipeline")
        writer.sql("INSERT INTO daily_mixpanel_metrics SELECT * FROM aside")
        await expect(looking.at("#hold")).to_contain_text("no rebuild is held")


async def test_a_rollback_asked_for_and_made(stage: Stage, open_page: Open, pictures: Path) -> None:
    looking = await open_page(stage.proxy.admin_url, viewport=WIDE)
    await settled(looking)
    await looking.key("rollback").click()
    await looking.fill_in(reason="spend looks wrong on the overview", author="ann")
    await take(looking, pictures, "dialog", "dialog")
    await looking.at("dialog button[type=submit]").click()
    await expect(looking.at("#split-banner")).to_contain_text("spend looks wrong")
    await expect(looking.at("#said-text")).to_contain_text("Rolled back")
    await looking.at("#said-close").click()
    await looking.page.evaluate("scrollTo(0, 0)")
    await take(looking, pictures, "rolled-back-first")
    await take(looking, pictures, "rolled-back", "#split")


async def test_the_token_form_and_a_proxy_without_legacy(
    tmp_path: Path, open_page: Open, pictures: Path
) -> None:
    token = "made up for this picture"
    async with staged(tmp_path, has_legacy=False, config=None, admin_token=token) as stage:
        looking = await open_page(
            stage.proxy.admin_url,
            is_live=False,
            complaints=("status of 401", *GONE),
            viewport=WIDE | {"height": 420},
        )
        await expect(looking.at("#token-form")).to_be_visible()
        await take(looking, pictures, "token")
        await looking.page.set_viewport_size({"width": 1060, "height": 1300})
        await looking.at("#token").fill(token)
        await looking.page.keyboard.press("Enter")
        await looking.until_live()
        await expect(looking.at("#rollout")).to_contain_text("No rollout is configured")
        await take(looking, pictures, "empty")
