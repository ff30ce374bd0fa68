"""The migration as operators meet it: real processes, a legacy that can be told to misbehave."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
from rich.console import Console

from proxy.background import Background
from proxy.clock import SystemClock
from proxy.commands.demo_migration import show_migration
from proxy.demo.children import Children, free_ports, until_listening
from proxy.demo.data import make_demo
from proxy.demo.migration import Programme
from proxy.demo.show import Data
from tests.proxies import ProxyProcess
from tests.public_port import END, SMALL, make_database

PATH = "/api/dashboard/analytics/data"
SAMPLES = 30
CONFIG = """
[split]
identity = "header:X-User-Id"
[shadow]
rate = 1.0
queue = 2
noise_every = 2
[compare]
fields.spend.relative = 0.001
[rollout]
steps = [50]
interval_s = 600
min_samples = 30
p95_ms = 5000
"""


class Stage:
    """A proxy, a demo legacy and callers who ask all the time."""

    def __init__(self, proxy: ProxyProcess, legacy: str, session: aiohttp.ClientSession) -> None:
        self.proxy = proxy
        self.legacy = legacy
        self.session = session
        self.statuses: set[int] = set()
        self._random = Random(3)

    async def ask(self) -> str:
        """One question of some user; which side answered."""
        days = self._random.choice((1, 2, 5, 9))
        question = {
            "start_date": str(END - timedelta(days=days)),
            "end_date": str(END),
            "group_by": self._random.choice(("campaign", "adset", "ad")),
        }
        headers = {"X-User-Id": str(self._random.randrange(10_000))}
        url = f"{str(self.proxy.url).rstrip('/')}{PATH}"
        async with self.session.post(url, json=question, headers=headers) as response:
            await response.read()
            self.statuses.add(response.status)
            return response.headers["X-Dashboard-Variant"]

    async def ask_on(self) -> None:
        while True:
            await self.ask()

    async def admin(self, method: str, path: str, **body: object) -> Mapping[str, Any]:
        url = f"{str(self.proxy.admin_url).rstrip('/')}/admin{path}"
        async with self.session.request(method, url, json=body or None) as response:
            told: Mapping[str, Any] = await response.json()
            assert response.status == 200, told
            return told

    async def misbehave(self, **how: object) -> None:
        async with self.session.post(f"{self.legacy}/__demo/misbehave", json=how) as response:
            assert response.status == 200

    async def compared(self) -> int:
        totals = (await self.admin("GET", "/diffs?limit=1"))["totals"]
        return int(totals["compared"] + totals["errors"])

    async def until_state(self, wanted: str) -> None:
        """pytest's timeout ends a wait in vain."""
        found = ""
        while found != wanted:
            found = await self.state()

    async def state(self) -> str:
        return str((await self.admin("GET", "/rollout"))["state"])


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    database = make_database(folder / "data.db", SMALL)
    config = folder / "proxy.toml"
    await asyncio.to_thread(config.write_text, CONFIG)
    [port] = free_ports(0)
    async with Children(folder, {"PYTHONPATH": ":".join(sys.path)}) as children:
        legacy = await children.start(
            "legacy", "proxy.demo.legacy", "--database", str(database), "--port", str(port)
        )
        await until_listening(legacy, port)
        url = f"http://127.0.0.1:{port}"
        async with (
            ProxyProcess(database, legacy_url=url, split_percent=0, config=config) as proxy,
            aiohttp.ClientSession() as session,
            Background(drain_s=0) as background,
        ):
            stage = Stage(proxy, url, session)
            for number in range(3):
                background.spawn(stage.ask_on(), name=f"caller {number}", endless=True)
            yield stage


@pytest.mark.parametrize(
    "how",
    [
        {"field": "spend", "factor": 1.01},
        {"field": "spend", "factor": 1.05},
        {"missing": "profit"},
    ],
    ids=str,
)
async def test_trouble_is_rolled_back_by_itself(tmp_path: Path, how: dict[str, object]) -> None:
    async with staged(tmp_path) as stage:
        await stage.misbehave(**how)
        await stage.admin("POST", "/rollout", action="start")
        before = await stage.compared()
        await stage.until_state("rolled_back")
        assert await stage.compared() - before <= 10 * SAMPLES
        assert await stage.ask() == "legacy"
        told = await stage.admin("GET", "/split")
        assert (told["percent"], told["rolled_back"], told["author"]) == (0, True, "guard")
        assert stage.statuses == {200}


@pytest.mark.parametrize("how", [{}, {"noise": 0.2}, {"slow_s": 0.2}, {"error_rate": 0.3}], ids=str)
async def test_what_is_no_trouble_of_ours_rolls_nothing_back(
    tmp_path: Path, how: dict[str, object]
) -> None:
    async with staged(tmp_path) as stage:
        await stage.misbehave(**how)
        await stage.admin("POST", "/rollout", action="start")
        while await stage.compared() < 2 * SAMPLES:
            assert await stage.state() == "running"
            await asyncio.sleep(0)
        assert await stage.state() == "running"


async def test_a_rollback_outlives_the_process(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.admin("POST", "/split", percent=100)
        assert await stage.ask() == "optimized"
        await stage.admin("POST", "/rollback", reason="a test")
        assert await stage.ask() == "legacy"
        stage.proxy.kill()
        await stage.proxy.start()
        assert (await stage.admin("GET", "/split"))["rolled_back"]
        assert await stage.ask() == "legacy"
        await stage.admin("DELETE", "/rollback", reason="over")
        assert (await stage.admin("GET", "/split"))["percent"] == 0


async def test_the_play_comes_to_its_end(tmp_path: Path) -> None:
    data = Data(tmp_path / "data.db", tmp_path / "meta.db", END)
    await asyncio.to_thread(make_demo, data.database, data.meta_database, size=SMALL, end=END)
    programme = Programme(
        steps=(50, 100), interval_s=0.5, min_samples=15, noise_every=2, watched=15, act_s=60
    )
    with Path(tmp_path / "said").open("w") as file:  # noqa: ASYNC230
        console = Console(file=file, width=200)
        environ = {"PYTHONPATH": ":".join(sys.path)}
        await show_migration(console, data, tmp_path, environ, SystemClock(), programme)
    said = (tmp_path / "said").read_text()
    assert "rolled back by itself" in said
    assert "100 %" in said.splitlines()[-1]
