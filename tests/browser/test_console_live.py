"""The console follows what happens, without being loaded anew."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.browser.conftest import Open
from tests.browser.looking import GONE, Looking
from tests.browser.looking import looking as looking_at
from tests.browser.staging import OPTIMIZED, Stage, staged, stamp
from tests.event_stream import watching
from tests.proxies import ProxyProcess
from tests.writer import Writer

LOSE_ONE = """path => {
    const ask = window.fetch;
    window.fetch = (url, options) => url.startsWith(path) ? new Promise((_, reject) => {
        window.fetch = ask;
        window.isLost = true;
        options.signal?.addEventListener('abort', () => reject(options.signal.reason));
    }) : ask(url, options);
}"""
"""The next request below that path never reaches anybody."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Nothing listens where its legacy should be."""
    folder = tmp_path_factory.mktemp("live")
    async with staged(folder, has_legacy=False, legacy_url="http://127.0.0.1:9") as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="session")
async def looking(stage: Stage, open_page: Open) -> AsyncIterator[Looking]:
    """It must be the same page afterwards."""
    looking = await open_page(stage.proxy.admin_url, complaints=GONE)
    await looking.page.evaluate("window.isTheSame = true")
    yield looking
    assert await looking.page.evaluate("window.isTheSame")


@contextmanager
def hanging(proxy: ProxyProcess) -> Iterator[None]:
    proxy.stop()
    try:
        yield
    finally:
        proxy.cont()


async def test_what_a_run_of_the_pipeline_changed_is_marked(looking: Looking, stage: Stage) -> None:
    await expect(looking.at("#calendar .changed")).to_have_count(0)
    now = stamp()
    with Writer(stage.database) as writer:
        writer.run(now, days=3)
    await expect(looking.at("#calendar .changed")).to_have_count(3)
    told = await stage.admin("GET", "/pipeline")
    newest = [str(stage.end - timedelta(days=days)) for days in (2, 1, 0)]
    assert told["last_run"]["changed"] == newest
    for day in newest:
        cell = looking.at(f"#calendar [data-date='{day}']")
        label = await cell.get_attribute("aria-label") or ""
        assert "changed by the last run" in label
        assert now in label
        assert "age-1" in (await cell.get_attribute("class") or "")
    await expect(looking.at("#pipeline-facts")).to_contain_text("3 dates changed")
    await expect(looking.at("#jobs-list")).to_contain_text("after a run of the pipeline")


async def test_what_another_operator_does_is_seen(looking: Looking, stage: Stage) -> None:
    await stage.admin("POST", "/split", percent=77, author="bob", reason="from the command line")
    await expect(looking.at("[data-value=percent]")).to_have_text("77 %")
    await expect(looking.at("#split-history")).to_contain_text("from the command line")
    await expect(looking.at("#audit-list")).to_contain_text("bob")


async def test_answers_are_counted_as_they_go_out(looking: Looking, stage: Stage) -> None:
    before = (await stage.admin("GET", "/overview"))["requests"]["total"]
    for _ in range(3):
        await stage.ask(path=OPTIMIZED)
    await expect(looking.at("#figures")).to_contain_text(f"requests{before + 3}")


async def test_the_worst_stands_first(looking: Looking, stage: Stage) -> None:
    await expect(looking.at("#attention-list li.bad")).to_contain_text(
        "The legacy cannot be reached"
    )
    await expect(looking.at("#health-cards [data-source=legacy]")).to_contain_text("down")
    with Writer(stage.database) as writer:
        writer.empty()
        await expect(looking.at("#attention-list li.warn")).to_contain_text("A rebuild is held")
        kinds = await looking.at("#attention-list li").evaluate_all(
            "items => items.map(item => item.className)"
        )
        assert kinds == sorted(kinds)
        writer.refill(stamp())
    await expect(looking.at("#attention-list li.warn")).to_have_count(0)
    await expect(looking.at("#hold")).to_contain_text("no rebuild is held")


async def test_focus_and_open_dialog_stay_while_the_page_changes(
    looking: Looking, stage: Stage
) -> None:
    await looking.key("set-percent").focus()
    await stage.admin("POST", "/split", percent=41)
    await expect(looking.at("[data-value=percent]")).to_have_text("41 %")
    assert await looking.focused() == "set-percent"
    await looking.key("set-percent").click()
    await looking.fill_in(reason="half typed")
    await stage.admin("POST", "/split", percent=42)
    await expect(looking.at("[data-value=percent]")).to_have_text("42 %")
    assert await looking.at("dialog [name=reason]").input_value() == "half typed"
    await looking.page.keyboard.press("Escape")
    await expect(looking.at("dialog")).to_have_count(0)
    assert await looking.focused() == "set-percent"


async def test_a_page_that_is_gone_back_to_follows_again(
    stage: Stage, keeping_browser: Browser
) -> None:
    url = stage.proxy.admin_url
    async with looking_at(keeping_browser, url, complaints=("status of 404",)) as looking:
        page, percent = looking.page, looking.at("[data-value=percent]")
        await page.evaluate(
            "() => { window.isTheSame = true; addEventListener('pageshow', () => {"
            " window.saidFirst = document.querySelector('#live').textContent; }); }"
        )
        for number in (21, 23):
            await page.goto(str(url / "health/live"))
            reason = f"while nobody looked, {number}"
            async with watching(url / "admin" / "events") as stream:
                await stream.next_of("pipeline")
                await stage.admin("POST", "/split", percent=number, reason=reason)
                # From here on it is no news any more to whoever comes.
                await stream.next_of("audit")
            await page.go_back(wait_until="commit")
            assert await page.evaluate("window.isTheSame")
            assert "reconnecting, stale since" in await page.evaluate("window.saidFirst")
            await looking.until_live()
            await expect(percent).to_have_text(f"{number} %")
            await expect(looking.at("#audit-list")).to_contain_text(reason)
            await stage.admin("POST", "/split", percent=number + 1)
            await expect(percent).to_have_text(f"{number + 1} %")


async def test_a_machine_that_slept_finds_its_stream_dead(stage: Stage, open_page: Open) -> None:
    looking = await open_page(stage.proxy.admin_url, has_clock=True, complaints=GONE)
    with hanging(stage.proxy):
        # What a sleep does: the date goes on, the timers stand still.
        await looking.page.clock.set_system_time(datetime.now(UTC) + timedelta(hours=1))
        await expect(looking.at("#live")).to_contain_text("reconnecting, stale since")
    await looking.until_live()
    await stage.admin("POST", "/split", percent=31)
    await expect(looking.at("[data-value=percent]")).to_have_text("31 %")


async def test_silence_is_noticed_though_the_clock_was_set_back(
    stage: Stage, open_page: Open
) -> None:
    looking = await open_page(stage.proxy.admin_url, has_clock=True, complaints=GONE)
    with hanging(stage.proxy):
        await looking.page.clock.set_system_time(datetime.now(UTC) - timedelta(hours=1))
        await looking.page.clock.fast_forward(60_000)
        await expect(looking.at("#live")).to_contain_text("reconnecting, stale since")
    await looking.until_live()


async def test_what_is_never_answered_is_asked_for_again(stage: Stage, open_page: Open) -> None:
    looking = await open_page(stage.proxy.admin_url, has_clock=True, complaints=GONE)
    await looking.page.evaluate(LOSE_ONE, "/admin/audit")
    await stage.admin("POST", "/split", percent=32, reason="lost on the way")
    await looking.page.wait_for_function("() => window.isLost")
    await looking.page.clock.fast_forward(61_000)
    await expect(looking.at("#audit-list")).to_contain_text("lost on the way")


async def test_it_comes_back_by_itself_after_the_proxy_was_gone(
    looking: Looking, stage: Stage
) -> None:
    stage.proxy.kill()
    await expect(looking.at("#live")).to_contain_text("reconnecting, stale since")
    # Nothing is lost from sight, and a button says what is the matter.
    await expect(looking.at("#calendar [data-date]")).to_have_count(10)
    await looking.key("rollback").click()
    await looking.at("dialog button[type=submit]").click()
    await expect(looking.at("dialog .error")).to_contain_text("The proxy cannot be reached")
    await looking.page.keyboard.press("Escape")
    await stage.proxy.start()
    await looking.until_live()
    await stage.admin("POST", "/split", percent=8, reason="after the restart")
    await expect(looking.at("[data-value=percent]")).to_have_text("8 %")
    assert not (await stage.admin("GET", "/split"))["rolled_back"]
