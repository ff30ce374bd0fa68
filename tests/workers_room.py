"""A supervisor with workers that do what the test says."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import aiohttp

from proxy.background import Background
from proxy.clock import Clock, SystemClock
from proxy.settings import Settings
from proxy.workers.backoff import Backoff
from proxy.workers.link import LinkError
from proxy.workers.orders import Report
from proxy.workers.post import Plan, Times
from proxy.workers.supervisor import Supervisor, Why
from proxy.workers.totals import Totals
from tests.waiting import until

LONG_S = 100.0
PATIENT = Times(LONG_S, LONG_S, LONG_S, LONG_S, LONG_S, LONG_S)


class FakeLink:
    """Answers at once, unless `gate` is closed."""

    def __init__(self) -> None:
        self.requests = 0
        self.is_well = True
        self.is_silent = False
        self.ready = True
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[str] = []
        self.json: dict[str, Any] | None = None

    async def is_live(self, timeout_s: float) -> bool:
        return self.is_well

    async def is_ready(self) -> bool:
        return self.ready

    async def probe(self, path: str, *, timeout_s: float = 5) -> tuple[int, bytes]:
        return 200, await self.read(path)

    async def read(self, path: str, *, timeout_s: float = 5) -> bytes:
        text = told(self.requests)
        self.asked.append(path)
        await self.gate.wait()
        return text.encode()

    async def read_json(self, path: str) -> dict[str, Any]:
        if self.json is None:
            raise LinkError(path)
        await self.gate.wait()
        return self.json

    async def open(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> aiohttp.ClientResponse:
        raise LinkError(path)


class FakeWorker:
    """Says and does nothing by itself. `orders` are what it was told, in order."""

    pids = count(100)

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.link = FakeLink()
        self.pid = next(self.pids)
        self.orders: list[str] = []
        self.is_stubborn = False
        self.is_closed = False
        self.drained: Callable[[], None] = lambda: None
        self._said: asyncio.Queue[Report | None] = asyncio.Queue()
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def say(self, report: Report) -> None:
        self._said.put_nowait(report)

    def listen(self) -> None:
        self.say(Report("listening"))

    def end(self, code: int = 0) -> None:
        """As a process ends: nothing more is said."""
        if not self._code.done():
            self._said.put_nowait(None)
            self._code.set_result(code)

    def leave(self) -> None:
        """In order, with a last word."""
        self.say(Report("left", told(self.link.requests)))
        self.end()

    async def reports(self) -> AsyncIterator[Report]:
        while (report := await self._said.get()) is not None:
            yield report

    async def ended(self) -> int:
        return await self._code

    def drain(self) -> None:
        self.orders.append("drain")
        self.drained()

    def terminate(self) -> None:
        self.orders.append("terminate")
        if not self.is_stubborn:
            self.leave()

    def kill(self) -> None:
        self.orders.append("kill")
        self.end(-9)

    async def close(self) -> None:
        self.is_closed = True


def told(requests: int) -> str:
    """What /metrics says after so many."""
    return (
        "# TYPE proxy_requests_total counter\n"
        'proxy_requests_total{route="data",source="optimized",result="hit"} '
        f"{requests}\n"
    )


def plan(workers: int = 2, **settings: Any) -> Plan:
    return Plan(Settings(workers=workers, **settings), None, None)


class Room:
    """A supervisor and the workers that it has started so far."""

    def __init__(
        self, background: Background, times: Times, workers: int, clock: Clock | None = None
    ) -> None:
        self.started: list[FakeWorker] = []
        self.refusals: list[OSError] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.whys: list[Why] = []
        self.at_drains: list[list[tuple[int, str]]] = []
        """The stages at the moment at which one was told to leave."""
        self.background = background
        self.supervisor = Supervisor(
            plan(workers),
            self._launch,
            Totals({}),
            background,
            clock or SystemClock(),
            times=times,
            backoff=Backoff(first_s=0.001, most_s=0.001),
            restarted=self.whys.append,
        )

    async def _launch(self, plan: Plan, number: int) -> FakeWorker:
        if self.refusals:
            raise self.refusals.pop()
        worker = FakeWorker(plan)
        worker.drained = lambda: self.at_drains.append(self.stages)
        self.started.append(worker)
        await self.gate.wait()
        return worker

    async def is_there(self, number: int) -> FakeWorker:
        """The worker of that number, once it has been started."""
        await until(lambda: len(self.started) >= number)
        return self.started[number - 1]

    async def serves(self, number: int) -> FakeWorker:
        """The worker of that number, which is now let to serve."""
        worker = await self.is_there(number)
        worker.listen()
        await until(lambda: (number, "serving") in self.stages)
        return worker

    @property
    def stages(self) -> list[tuple[int, str]]:
        return [(one.number, one.stage) for one in self.supervisor.roster]

    def counted(self) -> float:
        return self.supervisor.totals.sum("proxy_requests_total")


@asynccontextmanager
async def room(
    times: Times = PATIENT, workers: int = 2, clock: Clock | None = None
) -> AsyncIterator[Room]:
    async with Background() as background:
        made = Room(background, times, workers, clock)
        starting = background.spawn(made.supervisor.start(), name="start", endless=True)
        for number in range(workers):
            await made.serves(number + 1)
        assert await starting
        yield made
        made.gate.set()
        await made.supervisor.stop()
        assert len(made.supervisor.roster) == 0
        assert all(worker.is_closed for worker in made.started)
