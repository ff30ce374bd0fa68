"""Each panel of the console shows what the admin API says."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.browser.looking import Looking
from tests.browser.looking import looking as looking_at
from tests.browser.staging import OPTIMIZED, Stage, staged


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Callers have asked, the legacy gets its spend wrong, the rollout is on. Now all is quiet."""
    async with staged(tmp_path_factory.mktemp("panels")) as stage:
        await stage.misbehave(field="spend", factor=1.05)
        await stage.admin("POST", "/rollout", action="start", author="ann", reason="evidence is in")
        for user in range(6):
            await stage.ask(user=str(user), level="campaign" if user % 2 else "ad")
            await stage.ask(days=3, path=OPTIMIZED)
        await stage.until_compared(6)
        yield stage


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def looking(stage: Stage, browser: Browser) -> AsyncIterator[Looking]:
    """One page for all: nothing here changes anything."""
    async with looking_at(browser, stage.proxy.admin_url) as found:
        yield found


async def test_figures_are_those_of_the_overview(looking: Looking, stage: Stage) -> None:
    told = await stage.admin("GET", "/overview")
    hits, misses = told["requests"]["hits"], told["requests"]["misses"]
    assert hits
    assert misses
    figures = looking.at("#figures")
    await expect(figures).to_contain_text(f"{share(hits / (hits + misses))}")
    await expect(figures).to_contain_text(f"{hits} hits, {misses} misses since the start")
    await expect(figures).to_contain_text(f"{told['cache']['entries']} entries")
    await expect(looking.at("#version")).to_contain_text(f"version {told['version']}")


async def test_latency_of_each_source_stands_against_the_50_ms_line(
    looking: Looking, stage: Stage
) -> None:
    told = await stage.admin("GET", "/overview")
    assert {"optimized", "legacy"} <= told["latency"].keys()
    for source, latency in told["latency"].items():
        row = looking.at(f"#latency-table tr:has([data-source={source}])")
        cells = await row.locator("td").all_inner_texts()
        assert cells[0] == str(told["requests"]["by_source"][source])
        for cell, name in zip(cells[1:4], ("p50_ms", "p95_ms", "p99_ms"), strict=True):
            assert in_ms(cell) == pytest.approx(latency[name], rel=0.006), (source, name)
        assert await row.locator("svg .limit").count() == 1
    # The first step of the history takes five seconds.
    await expect(looking.at("#latency-chart canvas")).to_have_count(1)
    assert "50 ms line" in (await looking.at("#latency-chart").get_attribute("aria-label") or "")


async def test_requests_by_source_are_drawn_over_time(looking: Looking, stage: Stage) -> None:
    legend = looking.at("#requests-chart .legend")
    for source in (await stage.admin("GET", "/overview"))["requests"]["by_source"]:
        await expect(legend).to_contain_text(source)
    assert await looking.at("#requests-chart canvas").count() == 1


async def test_health_names_redis_database_and_legacy(looking: Looking, stage: Stage) -> None:
    sources = (await stage.admin("GET", "/status"))["sources"]
    assert sources == {"database": "up", "redis": "off", "legacy": "up"}
    for name, state in sources.items():
        await expect(looking.at(f"#health-cards [data-source={name}]")).to_contain_text(state)


async def test_calendar_has_each_date_with_its_age_and_rows(looking: Looking, stage: Stage) -> None:
    told = await stage.admin("GET", "/pipeline")
    assert len(told["dates"]) == 10
    shown = looking.at("#calendar [data-date]")
    assert await shown.count() == 10
    for day in told["dates"]:
        cell = looking.at(f"#calendar [data-date='{day['date']}']")
        label = await cell.get_attribute("aria-label") or ""
        assert f"{day['rows']} rows" in label
        assert day["computed_at"] in label
        assert await cell.get_attribute("title") == label
    await expect(looking.at("#hold")).to_contain_text("no rebuild is held")


async def test_split_and_rollout_are_those_in_force(looking: Looking, stage: Stage) -> None:
    split, rollout = await stage.admin("GET", "/split"), await stage.admin("GET", "/rollout")
    await expect(looking.at("[data-value=percent]")).to_have_text(f"{split['percent']:g} %")
    await expect(looking.at("#split-history")).to_contain_text("evidence is in")
    await expect(looking.at("#split-facts")).to_contain_text("100 %")
    steps = looking.at("#rollout .steps li")
    assert await steps.count() == len(rollout["steps"])
    await expect(looking.at("#rollout [aria-current=step]")).to_contain_text("1 %")
    await expect(looking.at("[data-value=reason]")).to_have_text(rollout["reason"])
    for threshold in rollout["thresholds"]:
        await expect(looking.at("#rollout")).to_contain_text(threshold["text"])
    await expect(looking.at("#rollout")).to_contain_text("ann")


async def test_differences_are_listed_by_field(looking: Looking, stage: Stage) -> None:
    told = await stage.admin("GET", "/diffs")
    for name in ("compared", "matched", "ignored", "mismatched", "discarded", "dropped", "errors"):
        await expect(looking.at(f"[data-total={name}]")).to_have_text(str(told["totals"][name]))
    rows = looking.at("#diff-fields tbody tr")
    assert await rows.count() == len(told["fields"]) > 0
    for row, line in zip(await rows.all(), told["fields"], strict=True):
        assert line["field"] in await row.locator("th").inner_text()
        cells = await row.locator("td").all_inner_texts()
        assert cells[:3] == [line["level"], line["kind"], str(line["count"])]
        assert cells[4:6] == [share(line["rate"]), share(line["noise_rate"])]
        assert cells[7] == share(line["max_relative_error"])
        assert await row.locator(".sparkbar").count() == 2


async def test_a_sample_is_opened_side_by_side_with_what_differs_marked(
    looking: Looking, stage: Stage
) -> None:
    told = await stage.admin("GET", "/diffs")
    head = next(one for one in told["samples"] if one["query"]["group_by"] == "campaign")
    sample = await stage.admin("GET", f"/diffs/{head['id']}")
    await looking.at(f"[data-sample='{head['id']}']").click()
    dialog = looking.at("dialog")
    for difference in sample["differences"]:
        await expect(dialog).to_contain_text(difference["path"])
    heads = await dialog.locator("thead th").all_inner_texts()
    assert heads == ["field", "control (legacy)", "candidate (optimized)", "apart"]
    marked = dialog.locator("tr[data-differs]")
    assert await marked.count() == sum(one["count"] for one in sample["differences"])
    first = marked.first
    assert await first.get_attribute("data-differs") == "spend"
    cells = await first.locator("td.told").all_inner_texts()
    spends = [sample[side]["data"][0]["spend"] for side in ("control", "candidate")]
    assert [number(cell) for cell in cells] == spends
    await dialog.locator("select").select_option("all")
    await expect(dialog).to_contain_text("campaign_name")
    await looking.page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    assert await looking.focused() == f"sample {head['id']}"


async def test_jobs_have_their_progress(looking: Looking, stage: Stage) -> None:
    [job] = (await stage.admin("GET", "/jobs"))["jobs"]
    shown = looking.at(f"[data-job={job['id']}]")
    await expect(shown).to_contain_text(f"{job['done']} of {job['total']}")
    bar = shown.locator("progress")
    assert float(await bar.get_attribute("max") or 0) == job["total"]
    assert await bar.evaluate("bar => bar.value") == job["done"]
    await expect(looking.at("#jobs-list")).to_contain_text("on start")


async def test_a_warm_up_that_failed_is_told_of_with_a_link_to_it(
    looking: Looking, stage: Stage
) -> None:
    [job] = (await stage.admin("GET", "/jobs"))["jobs"]
    failed = {**job, "state": "failed", "note": "three errors in a row"}
    overview = {**await stage.admin("GET", "/overview"), "jobs": [failed]}
    ask = "async given => (await import('/console/attention.js')).problems(given)"
    # A job that only the overview has cannot be shown.
    unknown = await looking.page.evaluate(ask, {"overview": overview, "jobs": []})
    assert "three errors" not in str(unknown)
    known = await looking.page.evaluate(ask, {"overview": overview, "jobs": [failed]})
    [told] = [one for one in known if "three errors in a row" in one["text"]]
    await expect(looking.at(f"#jobs-list tbody tr #{told['where']}")).to_have_text("on start")


async def test_cache_is_listed_by_question_in_plain_words(looking: Looking, stage: Stage) -> None:
    entries = (await stage.admin("GET", "/cache?limit=200"))["entries"]
    await expect(looking.at("#cache-count")).to_contain_text(f"of the {len(entries)}")
    rows = looking.at("#cache-list tbody tr")
    assert await rows.count() == 15
    for row, entry in list(zip(await rows.all(), entries, strict=False))[:3]:
        words = await row.locator("th").inner_text()
        assert words.startswith(f"{entry['query']['group_by']}s")
        assert str(int(entry["query"]["end_date"][8:])) in words
        cells = await row.locator("td").all_inner_texts()
        assert "fresh" in cells[0]
        assert cells[3:5] == [str(entry["hits"]), entry["tier"]]
    by_country = [one for one in entries if one["query"]["breakdown"] == "country"]
    assert by_country
    await looking.at("#cache-search").fill("by country")
    await expect(looking.at("#cache-count")).to_contain_text(f"{len(by_country)} of the")
    await looking.at("#cache-search").fill("")


async def test_audit_has_who_changed_what(looking: Looking, stage: Stage) -> None:
    for entry in (await stage.admin("GET", "/audit"))["entries"]:
        row = looking.at("#audit-list tr").filter(has_text=entry["reason"])
        await expect(row.first).to_contain_text(entry["action"])
        await expect(row.first).to_contain_text(entry["author"])


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (
            {"start_date": "2024-01-01", "end_date": "2024-01-31", "group_by": "campaign",
             "breakdown": "country", "depth": 1},
            "campaigns by country, 1 to 31 Jan 2024",
        ),
        (
            {"start_date": "2023-12-30", "end_date": "2024-01-02", "hierarchy": "campaign",
             "breakdown": "all", "depth": 3},
            "campaigns with adsets and ads, 30 Dec 2023 to 2 Jan 2024",
        ),
        (
            {"start_date": "2024-01-28", "end_date": "2024-02-02", "group_by": "adset",
             "breakdown": "device", "depth": 2, "include_sparkline": True},
            "adsets with ads by device, 28 Jan to 2 Feb 2024, with sparklines",
        ),
        (
            {"start_date": "2024-02-29", "end_date": "2024-02-29", "group_by": "ad", "depth": 1},
            "ads, 29 Feb 2024",
        ),
        ("GET /api/chart?x=1", "GET /api/chart?x=1"),
    ],
)  # fmt: skip
async def test_a_question_is_told_as_one_says_it(looking: Looking, query: Any, words: str) -> None:
    said = await looking.page.evaluate(
        "async query => (await import('/console/format.js')).question(query)", query
    )
    assert said == words


def share(value: float) -> str:
    percent = value * 100
    text = f"{percent:.2f}" if percent < 1 else f"{percent:.1f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def number(text: str) -> float:
    return float(text.replace(",", ""))


def in_ms(cell: str) -> float:
    value, unit = cell.replace("!", "").split()[-2:]
    return number(value) * (1000 if unit == "s" else 1)
