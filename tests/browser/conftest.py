"""One Chromium for all browser tests, and a page of its own for each."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from tests.browser.looking import WAIT_MS, Looking, looking

_ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

Open = Callable[..., Awaitable[Looking]]


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("google-chrome")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--screenshots", action="store_true", help="renew the pictures in docs/console"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The browser's connection belongs to one event loop: all tests share it.
    for item in items:
        if isinstance(item, pytest.Function):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def pictures(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go: nowhere that lasts, unless `--screenshots` is given."""
    if pytestconfig.getoption("--screenshots"):
        folder = Path(__file__).parents[2] / "docs" / "console"
        folder.mkdir(exist_ok=True)
        return folder
    return tmp_path_factory.mktemp("pictures")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    path = _chromium()
    if path is None:
        pytest.exit("no Chromium on PATH: apt-get install --no-install-recommends chromium", 1)
    expect.set_options(timeout=WAIT_MS)
    async with async_playwright() as playwright:
        # Each launch makes a profile of its own and removes it.
        browser = await playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def keeping_browser(browser: Browser) -> AsyncIterator[Browser]:
    """One that keeps pages which are left, for whoever goes back to them. Playwright's does not."""
    keeping = await browser.browser_type.launch(
        executable_path=_chromium(),
        args=_ARGUMENTS,
        ignore_default_args=["--disable-back-forward-cache"],
    )
    yield keeping
    await keeping.close()


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Browser) -> AsyncIterator[Open]:
    """`await open_page(stage)`: its console, live. What the browser complains of fails the test."""
    async with AsyncExitStack() as stack:

        async def open_it(*given: Any, **options: Any) -> Looking:
            return await stack.enter_async_context(looking(browser, *given, **options))

        yield open_it
