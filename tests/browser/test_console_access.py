"""Who may see the console, and what hostile data can do there: nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Route, expect

from tests.browser.conftest import Open
from tests.browser.looking import GONE
from tests.browser.staging import Stage, staged

TOKEN = "a token that nobody guesses"
DENIED = ("status of 401",)
BLOCKED = ("Content Security Policy", "status of 404")
HOSTILE = "<img src=x onerror=window.isHurt=true><script>window.isHurt=true</script>"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("access")
    async with staged(folder, has_legacy=False, config=None, admin_token=TOKEN) as stage:
        yield stage


async def test_the_token_is_asked_for_and_kept_in_the_tab_only(
    stage: Stage, open_page: Open
) -> None:
    looking = await open_page(stage.proxy.admin_url, is_live=False, complaints=DENIED)
    page = looking.page
    await expect(looking.at("#token-form")).to_be_visible()
    await expect(looking.at("#panels")).to_be_hidden()
    assert await looking.focused() == "token"

    await page.keyboard.type("a wrong one")
    await page.keyboard.press("Enter")
    await expect(looking.at("#token-error")).to_contain_text("not the right one")
    await expect(looking.at("#panels")).to_be_hidden()

    await looking.at("#token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await looking.until_live()
    await expect(looking.at("#calendar [data-date]")).to_have_count(10)
    await looking.agree("warm", author="ann")

    assert TOKEN in await page.evaluate("() => Object.values(sessionStorage)")
    kept = await page.evaluate(
        "() => [{...localStorage}, document.cookie, location.href, document.body.innerText]"
    )
    assert TOKEN not in str(kept)
    assert await page.context.cookies() == []
    assert not any(TOKEN.split()[0] + "%20" in url or TOKEN in url for url in looking.asked)

    await page.reload()
    await looking.until_live()
    # Another tab is another matter.
    other = await page.context.new_page()
    await other.goto(str(stage.proxy.admin_url / "console"))
    await expect(other.locator("#token-form")).to_be_visible()
    await other.close()

    await looking.at("#forget").click()
    await expect(looking.at("#token-form")).to_be_visible()
    assert TOKEN not in str(await page.evaluate("() => ({...sessionStorage})"))


async def test_a_withdrawn_token_is_asked_for_again_and_nothing_is_done(
    stage: Stage, open_page: Open
) -> None:
    looking = await open_page(stage.proxy.admin_url, is_live=False, complaints=DENIED)
    await looking.at("#token").fill(TOKEN)
    await looking.page.keyboard.press("Enter")
    await looking.until_live()
    before = await stage.admin("GET", "/audit")
    await looking.page.evaluate(
        "async () => (await import('/console/api.js')).keepToken('withdrawn')"
    )
    await looking.key("purge-all").click()
    await looking.at("dialog button[type=submit]").click()
    await expect(looking.at("#token-form")).to_be_visible()
    await expect(looking.at("dialog")).to_have_count(0)
    assert await stage.admin("GET", "/audit") == before


async def test_no_script_but_its_own_runs_in_the_page(stage: Stage, open_page: Open) -> None:
    looking = await open_page(
        stage.proxy.admin_url,
        is_live=False,
        complaints=DENIED + BLOCKED,
    )
    await expect(looking.at("#token-form")).to_be_visible()
    await looking.page.evaluate(
        """text => {
            const script = document.createElement('script');
            script.textContent = 'window.isHurt = true';
            const holder = document.createElement('div');
            holder.innerHTML = text + '<p id=styled style="position: fixed">x</p>';
            document.body.append(script, holder);
        }""",
        HOSTILE,
    )
    await looking.page.wait_for_function("() => document.querySelector('#styled')")
    assert not await looking.page.evaluate("window.isHurt")
    position = await looking.at("#styled").evaluate("it => getComputedStyle(it).position")
    assert position == "static"
    assert any("Content Security Policy" in text for text in looking.said)


async def test_hostile_names_are_shown_as_they_are(tmp_path: Path, open_page: Open) -> None:
    async with (
        hostile_legacy() as legacy,
        staged(tmp_path, has_legacy=False, legacy_url=legacy, split_percent=0) as stage,
    ):
        await stage.ask(days=3)
        await stage.until_compared(1)
        await stage.admin("POST", "/split", percent=5, author=HOSTILE, reason=HOSTILE)
        await stage.admin("POST", "/rollback", author=HOSTILE, reason=HOSTILE)
        looking = await open_page(stage.proxy.admin_url, complaints=GONE)
        for place in ("#attention-list", "#split-banner", "#split-history", "#audit-list"):
            await expect(looking.at(place)).to_contain_text(HOSTILE)
        await expect(looking.at("#diff-fields")).to_contain_text(HOSTILE)
        await looking.at("[data-sample]").first.click()
        await looking.at("dialog select").select_option("all")
        sides = looking.at("dialog .sides")
        await expect(sides.locator("tr.group", has_text=HOSTILE).first).to_be_visible()
        await expect(sides.locator("td", has_text=HOSTILE).first).to_be_visible()
        injected = "main img, main script, dialog img, dialog script"
        assert await looking.at(injected).count() == 0
        assert not await looking.page.evaluate("window.isHurt")


async def test_what_keeps_the_data_away_is_said(tmp_path: Path, open_page: Open) -> None:
    async with staged(tmp_path, has_legacy=False, config=None) as stage:
        looking = await open_page(stage.proxy.admin_url, complaints=("status of 403", *GONE))
        why = "without PROXY_ADMIN_TOKEN, /admin does not answer as dash.example"

        async def deny(route: Route) -> None:
            await route.fulfill(status=403, json={"success": False, "error": why})

        await looking.page.route("**/admin/**", deny)
        await looking.page.reload()
        await expect(looking.at("#attention-list li.bad")).to_contain_text(why)
        await expect(looking.at("#live")).to_have_text("no data")
        await looking.page.unroute("**/admin/**")
        await looking.until_live()
        await expect(looking.at("#attention-list")).to_contain_text("Nothing needs attention")


@asynccontextmanager
async def hostile_legacy() -> AsyncIterator[str]:
    """Its fields, names and values all are markup."""

    async def answer(request: web.BaseRequest) -> web.Response:
        row = {"id": "campaign_1", "name": HOSTILE, HOSTILE: HOSTILE, "spend": HOSTILE}
        below = {HOSTILE: {HOSTILE: HOSTILE}}
        body = {"success": True, "data": [row], "metadata": below, HOSTILE: HOSTILE}
        return web.json_response(body)

    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
