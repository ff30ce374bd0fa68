"""Each button of the console asks once, does what it says and tells what came of it."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.browser.conftest import Open
from tests.browser.looking import Looking
from tests.browser.staging import Stage, staged, stamp
from tests.writer import Writer

CAUSE = {"author": "ann", "reason": "a test"}
REFUSED = "status of 409"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("actions")) as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="session")
async def looking(stage: Stage, open_page: Open) -> Looking:
    """On a split that nobody has rolled back, with the plan at rest and something held."""
    if (await stage.admin("GET", "/split"))["rolled_back"]:
        await stage.admin("DELETE", "/rollback")
    if (await stage.admin("GET", "/rollout"))["state"] != "idle":
        await stage.admin("POST", "/rollout", action="abort")
    if not (await stage.admin("GET", "/cache"))["entries"]:
        await stage.admin("POST", "/warm", queries="usual")
        await stage.until_warm()
    return await open_page(stage.proxy.admin_url, complaints=(REFUSED,))


async def said(looking: Looking, text: str) -> None:
    await expect(looking.at("#said-text")).to_contain_text(text)


async def noted(stage: Stage, action: str) -> None:
    [newest] = (await stage.admin("GET", "/audit?limit=1"))["entries"]
    assert newest["action"] == action
    assert {"author": newest["author"], "reason": newest["reason"]} == CAUSE


async def test_cancel_and_escape_do_nothing_and_give_the_focus_back(
    looking: Looking, stage: Stage
) -> None:
    before = await stage.admin("GET", "/audit")
    await looking.at("#purge-start").fill(str(stage.end))
    await looking.at("#purge-end").fill(str(stage.end))
    one = (await stage.admin("GET", "/cache?limit=1"))["entries"][0]["key"]
    for key in ("set-percent", "set-shadow", "rollback", "rollout-start", "warm", "purge-range",
                "purge-all", f"purge {one}"):  # fmt: skip
        for leave in ("Escape", "Cancel"):
            await looking.key(key).click()
            dialog = looking.at("dialog")
            await expect(dialog).to_have_count(1)
            assert await dialog.locator("[name=reason]").count() == 1
            assert await dialog.locator("[name=author]").count() == 1
            if leave == "Escape":
                await looking.page.keyboard.press("Escape")
            else:
                await dialog.get_by_role("button", name="Cancel").click()
            await expect(dialog).to_have_count(0)
            assert await looking.focused() == key
    assert await stage.admin("GET", "/audit") == before
    assert await looking.text("#said-text") == ""


async def test_the_percent_is_set(looking: Looking, stage: Stage) -> None:
    await looking.agree("set-percent", percent="12.5", **CAUSE)
    await said(looking, "The split is now at 12.5 %.")
    assert (await stage.admin("GET", "/split"))["percent"] == 12.5
    await noted(stage, "split")
    await expect(looking.at("[data-value=percent]")).to_have_text("12.5 %")
    assert await looking.focused() == "set-percent"


async def test_a_percent_that_is_none_is_not_sent(looking: Looking, stage: Stage) -> None:
    before = await stage.admin("GET", "/split")
    await looking.key("set-percent").click()
    await looking.fill_in(percent="101")
    await looking.at("dialog button[type=submit]").click()
    assert await looking.at("dialog [name=percent]:invalid").count() == 1
    assert await stage.admin("GET", "/split") == before


async def test_the_shadow_rate_is_set(looking: Looking, stage: Stage) -> None:
    await looking.agree("set-shadow", rate="0.25", **CAUSE)
    await said(looking, "The shadow rate is now 25 %.")
    assert (await stage.admin("GET", "/shadow"))["rate"] == 0.25
    await noted(stage, "shadow")
    await expect(looking.at("#split-facts")).to_contain_text("25 %")


async def test_a_rollback_is_made_and_lifted(looking: Looking, stage: Stage) -> None:
    await stage.admin("POST", "/split", percent=30)
    await looking.agree("rollback", **CAUSE)
    await said(looking, "Rolled back: 0 %")
    assert (await stage.admin("GET", "/split"))["rolled_back"]
    await noted(stage, "rollback")
    await expect(looking.at("#split-banner")).to_contain_text("By ann")
    await expect(looking.at("#attention-list li").first).to_contain_text("Rolled back by ann")
    # What is not possible says why in place of asking.
    await looking.press("set-percent")
    await said(looking, "Lift the rollback first")
    await expect(looking.at("dialog")).to_have_count(0)

    await looking.agree("lift", **CAUSE)
    await said(looking, "The rollback is lifted. 0 %")
    told = await stage.admin("GET", "/split")
    assert (told["rolled_back"], told["percent"]) == (False, 0)
    await noted(stage, "lift")
    await expect(looking.at("#split-banner")).to_be_empty()


async def test_the_rollout_is_steered(looking: Looking, stage: Stage) -> None:
    for action, state, percent in (
        ("start", "running", 1),
        ("pause", "paused", 1),
        ("resume", "running", 1),
        ("promote", "running", 5),
        ("abort", "idle", 0),
    ):
        await looking.agree(f"rollout-{action}", **CAUSE)
        await said(looking, f"The rollout is {state}, at {percent} %.")
        told = await stage.admin("GET", "/rollout")
        assert (told["state"], told["percent"]) == (state, percent)
        await noted(stage, f"rollout {action}")
        await expect(looking.at("#rollout")).to_contain_text(state)
    await looking.press("rollout-promote")
    await said(looking, "Not possible: the rollout is idle.")


async def test_what_the_api_refuses_is_told_and_what_was_typed_stays(
    looking: Looking, stage: Stage
) -> None:
    await looking.key("set-percent").click()
    await looking.fill_in(percent="50", **CAUSE)
    await stage.admin("POST", "/rollback", reason="another operator was faster")
    await looking.at("dialog button[type=submit]").click()
    error = looking.at("dialog .error")
    await expect(error).to_contain_text("Not possible now, and nothing was changed")
    assert await looking.at("dialog [name=reason]").input_value() == "a test"
    assert (await stage.admin("GET", "/split"))["percent"] == 0
    await looking.page.keyboard.press("Escape")
    await expect(looking.at("dialog")).to_have_count(0)
    assert await looking.focused() == "set-percent"


async def test_a_warm_up_is_started_and_comes_to_its_end(looking: Looking, stage: Stage) -> None:
    await looking.agree("warm", queries="usual", **CAUSE)
    await said(looking, "The warm-up is queued as warm-")
    job = (await looking.text("#said-text")).split()[-1].rstrip(".")
    assert (await stage.admin("GET", f"/jobs/{job}"))["about"] == "usual"
    await noted(stage, "warm")
    row = looking.at(f"#jobs-list tr:has([data-job='{job}'])")
    await expect(row).to_contain_text("done")


async def test_one_question_is_purged(looking: Looking, stage: Stage) -> None:
    before = (await stage.admin("GET", "/cache?limit=200"))["entries"]
    await looking.agree(f"purge {before[0]['key']}", **CAUSE)
    await said(looking, "1 entry is purged.")
    after = (await stage.admin("GET", "/cache?limit=200"))["entries"]
    assert [one["key"] for one in after] == [one["key"] for one in before[1:]]
    await noted(stage, "purge")
    await expect(looking.key(f"purge {before[0]['key']}")).to_have_count(0)


async def test_a_range_of_dates_is_purged(looking: Looking, stage: Stage) -> None:
    await looking.key("purge-range").click()
    await said(looking, "Give both dates first.")
    day = str(stage.end - timedelta(days=9))
    await looking.at("#purge-start").fill(day)
    await looking.at("#purge-end").fill(day)
    before = (await stage.admin("GET", "/cache?limit=200"))["entries"]
    gone = [one for one in before if one["query"]["start_date"] <= day]
    assert 0 < len(gone) < len(before)
    await looking.agree("purge-range", **CAUSE)
    await said(looking, f"{len(gone)} entries are purged.")
    after = (await stage.admin("GET", "/cache?limit=200"))["entries"]
    assert all(one["query"]["start_date"] > day for one in after)
    await noted(stage, "purge")


async def test_all_is_purged(looking: Looking, stage: Stage) -> None:
    held = len((await stage.admin("GET", "/cache?limit=200"))["entries"])
    await looking.agree("purge-all", **CAUSE)
    await said(looking, f"{held} entries are purged.")
    assert (await stage.admin("GET", "/cache"))["entries"] == []
    await noted(stage, "purge")
    await expect(looking.at("#cache-list")).to_contain_text("Nothing is held")


async def test_a_hold_is_ended(looking: Looking, stage: Stage) -> None:
    with Writer(stage.database) as writer:
        writer.empty()
        await expect(looking.at("#hold")).to_contain_text("a rebuild is held")
        await expect(looking.at("#attention-list")).to_contain_text(
            "A rebuild is held for 10 dates"
        )
        assert await looking.at("#calendar [data-state=rebuilding]").count() == 10
        await looking.key("end-hold").click()
        await looking.page.keyboard.press("Escape")
        assert (await stage.admin("GET", "/status"))["freshness"]["state"] == "rebuilding"
        await looking.agree("end-hold", **CAUSE)
        await said(looking, "The hold is ended. The data are settled.")
        await noted(stage, "rebuild end")
        assert (await stage.admin("GET", "/status"))["freshness"]["state"] == "settled"
        await expect(looking.at("#hold")).to_contain_text("no rebuild is held")
        writer.refill(stamp())
        await expect(looking.at("#calendar [data-state=settled]")).to_have_count(10)
