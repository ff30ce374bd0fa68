"""A proxy, the demo's legacy behind it and made-up data up to yesterday, for browsers."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from proxy.demo.children import Children, free_ports, until_listening
from proxy.demo.data import Size, make_demo
from tests.proxies import ProxyProcess
from tests.public_port import SMALL

PATH = "/api/dashboard/analytics/data"
OPTIMIZED = f"{PATH}/optimized"
CONFIG = """
[split]
identity = "header:X-User-Id"
[shadow]
rate = 1.0
queue = 50
noise_every = 2
[rollout]
steps = [1, 5, 25, 50, 100]
interval_s = 3600
min_samples = 100000
p95_ms = 60000
"""


@dataclass
class Stage:
    """What operators and callers do. `end` is the newest date of the data."""

    proxy: ProxyProcess
    session: aiohttp.ClientSession
    database: Path
    end: date
    legacy: str = ""
    token: str = ""

    async def admin(self, method: str, path: str, **body: object) -> Any:
        """The answer of the admin API, which must be one."""
        status, told = await self.tried(method, path, **body)
        assert status in (200, 202), told
        return told

    async def tried(self, method: str, path: str, **body: object) -> tuple[int, Any]:
        url = f"{str(self.proxy.admin_url).rstrip('/')}/admin{path}"
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with self.session.request(
            method, url, json=body or None, headers=headers
        ) as response:
            return response.status, await response.json()

    async def ask(
        self, *, days: int = 5, level: str = "campaign", path: str = PATH, user: str = "u1"
    ) -> Mapping[str, str]:
        """One question about the newest `days` days; the headers of its answer."""
        question = {
            "start_date": str(self.end - timedelta(days=days - 1)),
            "end_date": str(self.end),
            "group_by": level,
        }
        url = f"{str(self.proxy.url).rstrip('/')}{path}"
        async with self.session.post(url, json=question, headers={"X-User-Id": user}) as response:
            await response.read()
            assert response.status == 200
            return response.headers

    async def until_compared(self, number: int) -> None:
        """pytest's timeout ends a wait in vain."""
        compared = 0
        while compared < number:
            compared = (await self.admin("GET", "/diffs?limit=1"))["totals"]["compared"]

    async def until_warm(self) -> None:
        """Until no job is under way, and one has been."""
        jobs: list[Any] = []
        while not jobs or not all(job["finished_at"] for job in jobs):
            jobs = (await self.admin("GET", "/jobs"))["jobs"]

    async def misbehave(self, **how: object) -> None:
        async with self.session.post(f"{self.legacy}/__demo/misbehave", json=how) as response:
            assert response.status == 200


def yesterday() -> date:
    return datetime.now(UTC).date() - timedelta(days=1)


def stamp(ago: timedelta = timedelta()) -> str:
    """For runs of the pipeline: now, as the demo's data have it."""
    return (datetime.now(UTC) - ago).replace(tzinfo=None, microsecond=0).isoformat(sep=" ")


@asynccontextmanager
async def staged(
    folder: Path,
    *,
    size: Size = SMALL,
    has_legacy: bool = True,
    config: str | None = CONFIG,
    **settings: Any,
) -> AsyncIterator[Stage]:
    """With `has_legacy` nobody is on the optimized side yet."""
    end = yesterday()
    database = folder / "data.db"
    await asyncio.to_thread(make_demo, database, None, size=size, end=end)
    if config is not None:
        settings["config"] = folder / "proxy.toml"
        await asyncio.to_thread(settings["config"].write_text, config)
    async with AsyncExitStack() as stack:
        legacy = ""
        if has_legacy:
            legacy = await _legacy(stack, folder, database)
            settings = {"legacy_url": legacy, "split_percent": 0} | settings
        proxy = await stack.enter_async_context(ProxyProcess(database, **settings))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        token = str(settings.get("admin_token", ""))
        stage = Stage(proxy, session, database, end, legacy, token)
        await stage.until_warm()
        yield stage


async def _legacy(stack: AsyncExitStack, folder: Path, database: Path) -> str:
    [port] = free_ports(0)
    children = await stack.enter_async_context(Children(folder, {"PYTHONPATH": ":".join(sys.path)}))
    legacy = await children.start(
        "legacy", "proxy.demo.legacy", "--database", str(database), "--port", str(port)
    )
    await until_listening(legacy, port)
    return f"http://127.0.0.1:{port}"
