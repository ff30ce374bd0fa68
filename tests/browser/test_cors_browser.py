"""Pages of another origin and our answers, as a real browser has it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page

from proxy.handlers.cors import Cors
from tests.browser.staging import OPTIMIZED, Stage, staged

FETCH = """async ([url, options]) => {
    try {
        const response = await fetch(url, options);
        const headers = Object.fromEntries(response.headers);
        return {status: response.status, headers, body: await response.text()};
    } catch (error) {
        return {error: String(error)};
    }
}"""


@dataclass
class Site:
    """Some site's pages, and a legacy that lets only `https://elsewhere.example` read."""

    url: str = ""
    asked: list[web.BaseRequest] = field(default_factory=list)

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        self.asked.append(request)
        if request.path == "/":
            return web.Response(text="<!doctype html><title>a page</title>",
                                content_type="text/html")  # fmt: skip
        allowed = "https://elsewhere.example"
        if request.path.startswith("/api/open"):
            allowed = request.headers.get("Origin", "")
        headers = {
            "Access-Control-Allow-Origin": allowed,
            "Access-Control-Allow-Credentials": "true",
        }
        return web.json_response({"from": "legacy"}, headers=headers)


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    made = Site()
    runner = web.ServerRunner(web.Server(made, access_log=None), shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield made
    finally:
        await runner.cleanup()


@dataclass
class World:
    """The proxy, the site whose pages may read, one whose pages may not, and the legacy."""

    stage: Stage
    named: Site
    stranger: Site
    legacy: Site

    def fetch_options(self, **more: Any) -> dict[str, Any]:
        end = str(self.stage.end)
        return {
            "method": "POST",
            "credentials": "include",
            "headers": {"Content-Type": "application/json"},
            "body": f'{{"start_date": "{end}", "end_date": "{end}", "group_by": "campaign"}}',
        } | more

    def url(self, path: str) -> str:
        return str(self.stage.proxy.url).rstrip("/") + path


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("cors")
    async with (
        site() as named,
        site() as stranger,
        site() as legacy,
        staged(
            folder,
            has_legacy=False,
            config=None,
            legacy_url=legacy.url,
            cors_origins=named.url,
        ) as stage,
    ):
        yield World(stage, named, stranger, legacy)


@asynccontextmanager
async def page_of(browser: Browser, site: Site) -> AsyncIterator[tuple[Page, list[str]]]:
    """A page of that site, with a cookie, and what the browser complains of."""
    context = await browser.new_context()
    await context.add_cookies([{"name": "session", "value": "s1", "url": site.url}])
    page = await context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    await page.goto(f"{site.url}/")
    yield page, said
    await context.close()


async def test_a_page_of_a_named_origin_reads_the_answer_and_its_headers(
    browser: Browser, world: World
) -> None:
    async with page_of(browser, world.named) as (page, said):
        told = await page.evaluate(FETCH, [world.url(OPTIMIZED), world.fetch_options()])
        assert told["status"] == 200, told
        assert '"success":true' in told["body"].replace(" ", "")
        exposed = Cors(frozenset({world.named.url})).answer_headers(world.named.url)
        readable = exposed["Access-Control-Expose-Headers"].lower().split(", ")
        assert {"etag", "cache-status", "x-dashboard-source"} <= told["headers"].keys()
        assert {"etag", "cache-status", "x-dashboard-source"} <= set(readable)
        assert told["headers"]["x-dashboard-source"] == "optimized"
        assert said == []


async def test_a_preflight_is_answered_for_headers_that_need_one(
    browser: Browser, world: World
) -> None:
    async with page_of(browser, world.named) as (page, said):
        headers = {"Content-Type": "application/json", "X-Whatever": "1"}
        options = world.fetch_options(headers=headers)
        told = await page.evaluate(FETCH, [world.url(OPTIMIZED), options])
        assert told["status"] == 200, told
        assert said == []


async def test_a_page_of_another_origin_is_kept_from_reading(
    browser: Browser, world: World
) -> None:
    async with page_of(browser, world.stranger) as (page, said):
        told = await page.evaluate(FETCH, [world.url(OPTIMIZED), world.fetch_options()])
        assert "error" in told
        assert any("CORS policy" in text for text in said)
        # Without a preflight as well: it is answered, and not readable.
        plain = world.fetch_options(headers={"Content-Type": "text/plain"})
        assert "error" in await page.evaluate(FETCH, [world.url(OPTIMIZED), plain])


@pytest.mark.parametrize("who", ["named", "stranger"])
async def test_what_is_passed_through_keeps_the_legacy_s_own_rules(
    browser: Browser, world: World, who: str
) -> None:
    async with page_of(browser, getattr(world, who)) as (page, said):
        plain = {"credentials": "include"}
        told = await page.evaluate(FETCH, [world.url("/api/open/x"), plain])
        assert told["body"] == '{"from": "legacy"}', told
        assert world.legacy.asked[-1].headers["Cookie"] == "session=s1"
        assert said == []
        assert "error" in await page.evaluate(FETCH, [world.url("/api/closed/x"), plain])
        assert any("CORS policy" in text for text in said)


async def test_the_admin_port_lets_no_other_origin_read(browser: Browser, world: World) -> None:
    admin = str(world.stage.proxy.admin_url).rstrip("/")
    async with page_of(browser, world.named) as (page, _):
        for path in ("/admin/status", "/admin/events", "/console"):
            assert "error" in await page.evaluate(FETCH, [admin + path, {}])
        body = {"method": "POST", "body": "{}"}
        await page.evaluate(FETCH, [f"{admin}/admin/rollback", body])
        assert not (await world.stage.admin("GET", "/split"))["rolled_back"]
