"""The admin port of a whole proxy on demo data, asked as an operator asks it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from proxy.app import Running
from proxy.query import Query
from tests.clocks import HandClock
from tests.public_port import END, serving
from tests.waiting import until

NOON = datetime(END.year, END.month, END.day, 12, tzinfo=UTC) + timedelta(days=1)
"""The day after the newest day of the data."""


@dataclass(frozen=True, slots=True)
class Told:
    status: int
    body: Any
    headers: Mapping[str, str]


class Operator:
    def __init__(self, session: aiohttp.ClientSession, running: Running, clock: HandClock) -> None:
        self.session = session
        self.running = running
        self.clock = clock

    async def get(self, path: str, **headers: str) -> Told:
        return await self.ask("GET", path, **headers)

    async def post(self, path: str, body: object = None, **headers: str) -> Told:
        return await self.ask("POST", path, body, **headers)

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> Told:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        url = self.running.admin_url / "admin" if path.startswith("/") else URL()
        async with self.session.request(
            method, URL(f"{url}{path}"), json=body, headers=named
        ) as response:
            return Told(response.status, await response.json(), dict(response.headers))

    async def question(self, query: Query) -> Told:
        """Asked on the public port."""
        path = "data" if query.shape == "dashboard" else "analytics/data/optimized"
        async with self.session.post(
            self.running.url / "api/dashboard" / path, json=query.as_parameters()
        ) as response:
            return Told(response.status, await response.json(), dict(response.headers))

    async def is_hit(self, query: Query) -> bool:
        return "; hit" in (await self.question(query)).headers["Cache-Status"]

    async def warmed(self, queries: object = "all") -> dict[str, Any]:
        """The job for `queries`, once it is over."""
        told = await self.post("/warm", {"queries": queries})
        assert told.status == 202, told
        job = self.running.jobs.get(told.body["job_id"])
        assert job is not None
        await until(lambda: job.is_over)
        found: dict[str, Any] = (await self.get(f"/jobs/{job.id}")).body
        return found

    def statements(self) -> float:
        """Question statements that SQLite has run."""
        registry = self.running.telemetry.registry
        return registry.get_sample_value("proxy_sql_seconds_count") or 0.0


@asynccontextmanager
async def operating(database: Path, **settings: Any) -> AsyncIterator[Operator]:
    """An operator beside a proxy that has settled and is warm from its start."""
    clock = HandClock(NOON.timestamp())
    async with (
        serving(database, clock, poll_ms=1, **settings) as running,
        aiohttp.ClientSession() as session,
    ):
        await until(lambda: any(job.is_over for job in running.jobs.latest()))
        yield Operator(session, running, clock)
