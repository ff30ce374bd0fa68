"""A console in a page of its own, and everything that the browser said and asked meanwhile."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Locator, Page, Request, expect
from yarl import URL

WAIT_MS = 15_000
GONE = ("net::ERR_",)
"""What the browser says of a proxy that went away while it looked."""


@dataclass
class Looking:
    """`asked` are the URLs of its requests, `said` what stands in the browser's console."""

    page: Page
    url: URL
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def at(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def key(self, key: str) -> Locator:
        """The button, link or box of that `data-key`."""
        return self.page.locator(f'[data-key="{key}"]')

    async def until_live(self) -> None:
        await expect(self.at("#live")).to_have_text("live")
        await expect(self.at("#attention-list")).not_to_contain_text("Reading")

    async def text(self, selector: str) -> str:
        return await self.at(selector).inner_text()

    async def agree(self, key: str, **given: str) -> None:
        """Press the button of that key, fill in what is given and agree."""
        await self.key(key).click()
        await self.fill_in(**given)
        await self.at("dialog button[type=submit]").click()
        await expect(self.at("dialog")).to_have_count(0)

    async def press(self, key: str) -> None:
        """With the keyboard: also what is marked as not possible, which a click would wait for."""
        await self.key(key).focus()
        await self.page.keyboard.press("Enter")

    async def fill_in(self, **given: str) -> None:
        for name, text in given.items():
            box = self.at(f"dialog [name={name}]")
            if await box.evaluate("box => box.tagName") == "SELECT":
                await box.select_option(text)
            else:
                await box.fill(text)

    async def focused(self) -> str:
        """The key, the id or the name of what has the focus."""
        found: str = await self.page.evaluate(
            "() => { const it = document.activeElement;"
            " return it.dataset.key || it.id || it.name || it.tagName; }"
        )
        return found


@asynccontextmanager
async def looking(
    browser: Browser,
    url: URL,
    *,
    is_live: bool = True,
    has_clock: bool = False,
    complaints: tuple[str, ...] = (),
    **options: Any,
) -> AsyncIterator[Looking]:
    """`complaints`: parts of what the browser may say without failing the test.

    `has_clock`: the test may move the page's clocks.
    """
    context = await browser.new_context(**options)
    context.set_default_timeout(WAIT_MS)
    page = await context.new_page()
    found = Looking(page, url)

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            found.said.append(message.text)

    def note_request(request: Request) -> None:
        found.asked.append(request.url)

    page.on("console", note)
    page.on("pageerror", lambda error: found.said.append(f"uncaught: {error}"))
    page.on("request", note_request)
    if has_clock:
        await page.clock.install()
    await page.goto(str(url / "console"))
    if is_live:
        await found.until_live()
    yield found
    await context.close()
    unexpected = [
        text for text in found.said if not any(expected in text for expected in complaints)
    ]
    assert unexpected == [], unexpected
    strangers = [
        asked for asked in found.asked if not asked.startswith((str(url.origin()), "data:"))
    ]
    assert strangers == [], strangers
