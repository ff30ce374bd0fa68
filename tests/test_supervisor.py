"""The supervisor with workers that do what the test says: whom it starts, tells and ends."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import aiohttp
import pytest

from proxy.background import Background
from proxy.clock import SystemClock
from proxy.errors import ProxyError, SettingsError
from proxy.settings import Settings
from proxy.workers.backoff import Backoff
from proxy.workers.link import LinkError
from proxy.workers.orders import Report
from proxy.workers.post import Plan, Post, Times
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
        self.ready = True
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[str] = []

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
        raise LinkError(path)

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
    return f"# TYPE proxy_requests_total counter\nproxy_requests_total {requests}\n"


def plan(workers: int = 2, **settings: Any) -> Plan:
    return Plan(Settings(workers=workers, **settings), None, None)


class Room:
    """A supervisor and the workers that it has started so far."""

    def __init__(self, background: Background, times: Times, workers: int) -> None:
        self.started: list[FakeWorker] = []
        self.refusals: list[OSError] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.whys: list[Why] = []
        self.background = background
        self.supervisor = Supervisor(
            plan(workers),
            self._launch,
            Totals({}),
            background,
            SystemClock(),
            times=times,
            backoff=Backoff(first_s=0.001, most_s=0.001),
            restarted=self.whys.append,
        )

    async def _launch(self, plan: Plan, number: int) -> FakeWorker:
        if self.refusals:
            raise self.refusals.pop()
        worker = FakeWorker(plan)
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
    times: Times = PATIENT, workers: int = 2, *, has_begun: bool = True
) -> AsyncIterator[Room]:
    async with Background() as background:
        made = Room(background, times, workers)
        starting = background.spawn(made.supervisor.start(), name="start", endless=True)
        if has_begun:
            for number in range(workers):
                await made.serves(number + 1)
            assert await starting
        yield made
        made.gate.set()
        await made.supervisor.stop()
        assert len(made.supervisor.roster) == 0
        assert all(worker.is_closed for worker in made.started)


async def test_one_that_ends_by_itself_is_replaced() -> None:
    async with room() as made:
        made.started[0].end(-11)
        await made.serves(3)
        assert made.stages == [(2, "serving"), (3, "serving")]
        assert made.whys == ["crash"]
        assert made.supervisor.lead is not None
        assert made.supervisor.lead.worker is made.started[1]


async def test_a_roll_goes_one_by_one_and_tells_each_only_when_another_serves() -> None:
    async with room() as made:
        changed = plan()
        made.supervisor.turn_to(changed)
        third = await made.is_there(3)
        assert [worker.orders for worker in made.started] == [[], [], []]
        assert third.plan is changed
        assert made.supervisor.plan is not changed
        third.listen()
        await until(lambda: made.started[1].orders == ["drain"])
        # In force is what serves.
        assert made.supervisor.plan is changed
        assert len(made.started) == 3
        made.started[1].leave()
        await made.serves(4)
        await until(lambda: made.started[0].orders == ["drain"])
        made.started[0].leave()
        await until(lambda: made.stages == [(3, "serving"), (4, "serving")])
        assert made.whys == ["rolling", "rolling"]


async def test_one_that_listens_but_is_not_ready_replaces_nobody_who_is() -> None:
    async with room() as made:
        made.supervisor.turn_to(plan())
        third = await made.is_there(3)
        third.link.ready = False
        third.listen()
        await until(lambda: made.supervisor.answering()[-1].worker is third)
        assert (3, "starting") in made.stages
        third.link.ready = True
        await until(lambda: (3, "serving") in made.stages)


async def test_where_nobody_is_ready_a_new_one_need_not_be_so_either() -> None:
    async with room() as made:
        for worker in made.started:
            worker.link.ready = False
        made.supervisor.turn_to(plan())
        third = await made.is_there(3)
        third.link.ready = False
        third.listen()
        await until(lambda: (3, "serving") in made.stages)


async def test_one_that_is_not_ready_in_time_is_ended_and_all_stays() -> None:
    times = Times(LONG_S, LONG_S, LONG_S, 0.05, LONG_S, LONG_S)
    async with room(times) as made:
        made.supervisor.turn_to(plan())
        third = await made.is_there(3)
        third.link.ready = False
        third.listen()
        await until(lambda: third.orders == ["kill"])
        await until(lambda: made.stages == [(1, "serving"), (2, "serving")])
        assert made.supervisor.roster.generation == 1
        assert made.whys == []


async def test_one_that_dies_while_it_gets_ready_is_not_waited_for() -> None:
    async with room() as made:
        made.supervisor.turn_to(plan())
        third = await made.is_there(3)
        third.link.ready = False
        third.listen()
        await until(lambda: len(made.supervisor.answering()) == 3)
        third.end(-9)
        await until(lambda: made.stages == [(1, "serving"), (2, "serving")])
        await until(lambda: "bring in 3" not in repr(made.background))


@pytest.mark.parametrize(("code", "kind"), [(2, SettingsError), (1, ProxyError)])
async def test_what_keeps_the_first_from_beginning_is_raised(
    code: int, kind: type[ProxyError]
) -> None:
    async with Background() as background:
        made = Room(background, PATIENT, 3)
        starting = background.spawn(made.supervisor.start(), name="start")
        first = await made.is_there(1)
        first.say(Report("failed", "no such table", code))
        first.end(code)
        with pytest.raises(ProxyError, match="no such table") as raised:
            await starting
        assert type(raised.value) is kind
        # Nobody else has tried.
        assert len(made.started) == 1
        await made.supervisor.stop()


async def test_one_that_dies_without_a_word_before_it_serves_is_told_by_its_exit_code() -> None:
    async with Background() as background:
        made = Room(background, PATIENT, 1)
        starting = background.spawn(made.supervisor.start(), name="start")
        (await made.is_there(1)).end(-11)
        with pytest.raises(ProxyError, match="it ended with exit code -11"):
            await starting
        await made.supervisor.stop()


async def test_where_no_process_can_be_made_it_is_tried_again() -> None:
    async with room() as made:
        made.refusals += [OSError(12, "Cannot allocate memory")] * 3
        made.started[0].end(1)
        await made.is_there(3)
        assert made.refusals == []


async def test_a_roll_for_which_no_process_can_be_made_changes_nothing() -> None:
    async with room() as made:
        made.refusals.append(OSError(12, "Cannot allocate memory"))
        made.supervisor.turn_to(plan())
        await until(lambda: made.supervisor.roster.generation == 1)
        assert made.stages == [(1, "serving"), (2, "serving")]


async def test_told_to_stop_before_all_serve_it_does_not_begin() -> None:
    async with Background() as background:
        made = Room(background, PATIENT, 2)
        starting = background.spawn(made.supervisor.start(), name="start")
        await made.is_there(1)
        made.supervisor.leave()
        assert not await starting
        await made.supervisor.stop()
        assert [worker.orders for worker in made.started] == [["terminate"]]


async def test_one_that_was_being_started_when_all_were_told_to_leave_is_told_too() -> None:
    async with room() as made:
        made.gate.clear()
        made.started[0].end(1)
        third = await made.is_there(3)
        stopping = asyncio.create_task(made.supervisor.stop())
        await until(lambda: made.started[1].orders == ["terminate"])
        assert third.orders == []
        assert not stopping.done()
        made.gate.set()
        await stopping
        assert third.orders == ["terminate"]


async def test_who_does_not_leave_when_told_to_is_ended() -> None:
    times = Times(LONG_S, LONG_S, LONG_S, LONG_S, LONG_S, 0.05)
    async with room(times) as made:
        made.started[1].is_stubborn = True
        await made.supervisor.stop()
        assert made.started[0].orders == ["terminate"]
        assert made.started[1].orders == ["terminate", "kill"]


async def test_who_does_not_leave_amid_a_roll_is_ended_and_the_roll_goes_on() -> None:
    times = Times(LONG_S, LONG_S, LONG_S, LONG_S, 0.02, 0.03)
    async with room(times) as made:
        made.supervisor.turn_to(plan())
        await made.serves(3)
        await until(lambda: made.started[1].orders == ["drain", "kill"])
        await made.is_there(4)
        assert made.whys == ["rolling"]


async def test_who_hangs_is_ended_and_replaced() -> None:
    async with room(Times(0.001, LONG_S, 0.01, LONG_S, LONG_S, LONG_S)) as made:
        made.started[0].link.is_well = False
        await made.serves(3)
        assert made.started[0].orders == ["kill"]
        assert made.started[1].orders == []
        assert made.whys == ["hang"]


async def test_who_was_silent_once_is_not_ended() -> None:
    async with room(Times(0.001, LONG_S, 0.0, LONG_S, LONG_S, LONG_S)) as made:
        link = made.started[0].link
        answers = iter([False, *[True, False] * 20])
        asked = 0

        async def is_live(timeout_s: float) -> bool:
            nonlocal asked
            asked += 1
            return next(answers, True)

        link.is_live = is_live  # type: ignore[method-assign]
        await until(lambda: asked > 40)
        assert made.started[0].orders == []


async def test_one_that_ends_while_it_is_about_to_be_told_is_only_replaced() -> None:
    async with room() as made:
        asked: list[Post] = []
        gate = asyncio.Event()

        async def remember(post: Post) -> None:
            asked.append(post)
            await gate.wait()

        made.supervisor.before_drain = remember
        made.supervisor.turn_to(plan())
        await made.serves(3)
        await until(lambda: len(asked) == 1)
        assert asked[0].worker is made.started[1]
        made.started[1].end(-9)
        await until(lambda: (2, "serving") not in made.stages)
        gate.set()
        await made.is_there(4)
        assert made.started[1].orders == []
        assert made.whys == ["crash"]


async def test_what_a_worker_says_last_is_what_it_is_counted_with() -> None:
    async with room() as made:
        first, second = made.started
        first.link.requests, second.link.requests = 5, 7
        await made.supervisor.scrape()
        assert made.counted() == 12
        made.supervisor.turn_to(plan())
        await made.serves(3)
        await until(lambda: second.orders == ["drain"])
        second.link.requests = 9
        second.leave()
        await until(lambda: (2, "draining") not in made.stages)
        assert made.counted() == 14


async def test_of_one_that_crashes_the_last_look_counts() -> None:
    async with room() as made:
        made.started[0].link.requests = 5
        await made.supervisor.scrape()
        made.started[0].link.requests = 6
        made.started[0].end(-9)
        await made.serves(3)
        await made.supervisor.scrape()
        assert made.counted() == 5


async def test_a_look_that_is_under_way_when_a_worker_leaves_does_not_count_it_twice() -> None:
    async with room() as made:
        first = made.started[0]
        first.link.requests = 5
        first.link.gate.clear()
        looking = asyncio.create_task(made.supervisor.scrape())
        await until(lambda: first.link.asked == ["/metrics"])
        first.leave()
        await until(lambda: (1, "serving") not in made.stages)
        first.link.gate.set()
        await looking
        assert made.counted() == 5


async def test_every_worker_that_serves_is_looked_at_now_and_then() -> None:
    async with room(Times(0.001, 0.001, LONG_S, LONG_S, LONG_S, LONG_S)) as made:
        for worker in made.started:
            worker.link.requests = 3
        await until(lambda: made.counted() == 6)


async def test_another_roll_amid_a_roll_ends_with_the_last_settings() -> None:
    async with room() as made:
        made.supervisor.turn_to(plan(poll_ms=1))
        third = await made.is_there(3)
        made.supervisor.turn_to(plan(3, poll_ms=2))
        third.listen()

        def all_new() -> bool:
            for worker in made.started:
                if worker.orders == ["drain"]:
                    worker.leave()
                elif not worker.orders:
                    worker.listen()
            posts = list(made.supervisor)
            return len(posts) == 3 and all(post.plan.settings.poll_ms == 2 for post in posts)

        await until(all_new)


async def test_after_rolls_that_were_given_up_the_next_one_is_another() -> None:
    async with room() as made:
        for _ in range(3):
            made.refusals.append(OSError(12, "Cannot allocate memory"))
            made.supervisor.turn_to(plan())
            await until(lambda: made.supervisor.roster.generation == 1)
        changed = plan()
        made.supervisor.turn_to(changed)
        third = await made.is_there(3)
        third.listen()
        # Those that could not be made have had their numbers too.
        await until(lambda: (6, "serving") in made.stages)
        assert third.plan is changed
