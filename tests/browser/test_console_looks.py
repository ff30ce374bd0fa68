"""The console by keyboard, at phone width, in dark and light, and for those who cannot see it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.browser.conftest import Open
from tests.browser.looking import GONE, Looking
from tests.browser.staging import OPTIMIZED, Stage, staged, stamp
from tests.writer import Writer

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
Scheme = Literal["dark", "light"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """With something in every panel, a rebuild held and a rollback made."""
    async with staged(tmp_path_factory.mktemp("looks")) as stage:
        await stage.misbehave(field="spend", factor=1.05)
        await stage.admin("POST", "/rollout", action="start", author="ann", reason="go")
        await stage.ask()
        await stage.ask(path=OPTIMIZED)
        await stage.until_compared(1)
        with Writer(stage.database) as writer:
            writer.run(stamp(), days=2)
            await stage.until_warm()
            writer.sql("DELETE FROM daily_mixpanel_metrics WHERE date = (SELECT min(date)"
                       " FROM daily_mixpanel_metrics)")  # fmt: skip
        yield stage


async def tab_to(looking: Looking, key: str, *, most: int = 80) -> None:
    for _ in range(most):
        await looking.page.keyboard.press("Tab")
        if await looking.focused() == key:
            return
    raise AssertionError(f"{key} is not reached by the keyboard")


async def test_a_rollback_is_made_with_the_keyboard_alone(stage: Stage, open_page: Open) -> None:
    looking = await open_page(stage.proxy.admin_url)
    press, write = looking.page.keyboard.press, looking.page.keyboard.type
    await tab_to(looking, "rollback")
    await press("Enter")
    assert await looking.focused() == "reason"
    await write("by keyboard")
    await press("Tab")
    await write("ann")
    await press("Tab")
    await press("Tab")
    assert await looking.focused() == "BUTTON"
    await press("Enter")
    await expect(looking.at("#said-text")).to_contain_text("Rolled back")
    told = await stage.admin("GET", "/split")
    assert (told["rolled_back"], told["author"], told["reason"]) == (True, "ann", "by keyboard")
    # The focus goes back when the dialog has gone, which is after that was said.
    await expect(looking.at("dialog")).to_have_count(0)
    assert await looking.focused() == "rollback"

    await expect(looking.key("lift")).to_be_visible()
    await press("Shift+Tab")
    await tab_to(looking, "lift", most=200)
    await press("Enter")
    await press("Enter")
    await expect(looking.at("#split-banner")).to_be_empty()
    assert not (await stage.admin("GET", "/split"))["rolled_back"]


async def test_tab_goes_once_around_the_page_and_the_focus_is_always_seen(
    stage: Stage, open_page: Open
) -> None:
    looking = await open_page(stage.proxy.admin_url)
    await expect(looking.at("[data-key=cache-more]")).to_be_visible()
    page, met = looking.page, list[str]()
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"
    while (await looking.focused()) != "BODY":
        met.append(await looking.focused())
        outline = await page.evaluate(
            "() => { const style = getComputedStyle(document.activeElement);"
            " return [style.outlineStyle, parseFloat(style.outlineWidth)]; }"
        )
        assert outline[0] != "none", met[-1]
        assert outline[1] >= 1, met[-1]
        assert len(met) < 150, met
        await page.keyboard.press("Tab")
    for key in ("set-percent", "rollout-start", "end-hold", "warm", "purge-start", "purge-all"):
        assert key in met
    # Of all the dates Tab reaches one.
    assert sum(key.startswith("day ") for key in met) == 1


async def test_the_skip_link_leads_to_the_panels(stage: Stage, open_page: Open) -> None:
    looking = await open_page(stage.proxy.admin_url)
    await looking.page.keyboard.press("Tab")
    await looking.page.keyboard.press("Enter")
    assert await looking.focused() == "main"


async def test_dates_are_walked_by_arrow_keys(stage: Stage, open_page: Open) -> None:
    looking = await open_page(stage.proxy.admin_url)
    dates = [day["date"] for day in (await stage.admin("GET", "/pipeline"))["dates"]]
    await looking.key(f"day {dates[-1]}").focus()
    for key, date in (("ArrowLeft", -2), ("ArrowUp", -9), ("End", -1), ("Home", 0), ("ArrowUp", 0)):
        await looking.page.keyboard.press(key)
        assert await looking.focused() == f"day {dates[date]}"
    label = await looking.key(f"day {dates[0]}").get_attribute("aria-label") or ""
    assert "rebuilding" in label
    await expect(looking.at("#day-told")).to_have_text(label)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
async def test_nothing_is_wider_than_the_window_and_axe_finds_nothing(
    stage: Stage, open_page: Open, size: Any, scheme: Scheme
) -> None:
    looking = await open_page(stage.proxy.admin_url, viewport=size, color_scheme=scheme)
    await expect(looking.at("#diff-fields tbody tr").first).to_be_visible()
    ground = await looking.at("body").evaluate("it => getComputedStyle(it).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 300) == (scheme == "dark")
    await fits(looking, size["width"])
    await is_accessible(looking)
    await looking.at("[data-sample]").first.click()
    await expect(looking.at("dialog .sides")).to_be_visible()
    await fits(looking, size["width"])
    await is_accessible(looking, "dialog")
    await looking.page.keyboard.press("Escape")
    await looking.key("rollback").click()
    await fits(looking, size["width"])
    await is_accessible(looking, "dialog")


async def test_who_wants_no_motion_gets_none(stage: Stage, open_page: Open) -> None:
    moves = "it => getComputedStyle(it).transitionDuration"
    looking = await open_page(stage.proxy.admin_url, reduced_motion="reduce")
    assert await looking.at(".meter .filled").evaluate(moves) == "0s"


async def test_an_empty_proxy_says_what_its_emptiness_means(
    tmp_path: Path, open_page: Open
) -> None:
    async with staged(tmp_path, has_legacy=False, config=None) as stage:
        with Writer(stage.database) as writer:
            writer.empty()
            await stage.admin("POST", "/rebuild", action="end")
            await stage.admin("POST", "/purge", all=True)
            looking = await open_page(stage.proxy.admin_url, complaints=GONE)
            for panel, text in (
                ("#rollout", "No rollout is configured: add a [rollout] table"),
                ("#split-history", "Nobody has changed the split yet"),
                ("#diff-fields", "Nothing was compared yet: set a shadow rate above 0"),
                ("#calendar", "No date is known"),
                ("#cache-list", "Nothing is held"),
                ("#latency-table", "No request was answered yet"),
                ("#health-cards [data-source=legacy]", "nothing is passed through"),
                ("#health-cards [data-source=redis]", "memory only"),
            ):
                await expect(looking.at(panel)).to_contain_text(text)
            await is_accessible(looking)


async def fits(looking: Looking, width: int) -> None:
    wide = await looking.page.evaluate(
        "() => [document.documentElement.scrollWidth,"
        " ...[...document.querySelectorAll('dialog')].map(it => it.getBoundingClientRect().right)]"
    )
    assert max(wide) <= width, wide


async def is_accessible(looking: Looking, within: str = "body") -> None:
    """No serious or critical violation, colour contrast included."""
    # Evaluated, not injected: the page's own policy lets no other script in.
    await looking.page.evaluate(f"window.axe === undefined && (() => {{ {AXE} }})()")
    found = await looking.page.evaluate("within => axe.run(within)", within)
    serious = [
        (one["id"], one["help"], [node["html"][:200] for node in one["nodes"]][:5])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == [], serious
