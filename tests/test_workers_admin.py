"""The admin port of several workers: what it asks of whom, and what one that hangs does to it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from yarl import URL

from proxy.app_workers import supervise
from proxy.background import Background
from proxy.clock import SystemClock
from proxy.commands.supervising import read_plan
from proxy.handlers.admin_runner import AdminRunner
from proxy.handlers.worker_forwarding import Forwarding, Patience
from proxy.handlers.workers_admin import WorkersAdmin, make_workers_admin
from proxy.handlers.workers_operations import WorkerMetrics, WorkersOperations
from proxy.workers.link import LinkError, WorkerLink
from proxy.workers.post import Plan, Times
from tests.public_port import make_database
from tests.waiting import until
from tests.workers_room import PATIENT, FakeWorker, Room

QUICK = Patience(knock_s=0.3, look_s=0.05, hurry_s=0.05)
ENDLESS_S = 600.0
WITHIN_S = 20.0
"""However busy the machine is. What waits for one that hangs takes for ever here."""

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Asked(NamedTuple):
    what: str
    body: Any
    request_id: str


@dataclass(eq=False)
class Port:
    """A worker's own admin port that answers what the test says, and nothing while it hangs."""

    number: int
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    hangs: bool = False
    hangs_when: str = ""
    knocks: int = 0
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        what = f"{request.method} {request.raw_path}"
        if self.hangs or what == self.hangs_when:
            self.hangs = True
            self._note(what, await request.read(), request)
            await self.goes_on.wait()
        if request.path == "/metrics":
            return web.Response(status=404)
        if request.path == "/health/live":
            self.knocks += 1
            return web.Response()
        body = await request.read()
        self._note(what, body, request)
        usual: dict[str, object] = (
            {"entries": []} if request.path == "/admin/audit" else {"by": self.number}
        )
        told = self.answers.get(f"{request.method} {request.path}", usual)
        if callable(told):
            response: web.StreamResponse = await told(request)
            return response
        status, told = told if isinstance(told, tuple) else (200, told)
        return web.json_response(told, status=status)

    def _note(self, what: str, body: bytes, request: web.Request) -> None:
        told = orjson.loads(body) if body else None
        self.asked.append(Asked(what, told, request.headers.get("X-Request-ID", "")))

    def got(self, what: str) -> list[Asked]:
        return [one for one in self.asked if one.what == what]

    @asynccontextmanager
    async def open(self, path: Path) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        await web.UnixSite(runner, str(path)).start()
        try:
            yield
        finally:
            self.goes_on.set()
            await runner.cleanup()


class ServedWorker(FakeWorker):
    """A worker with such a port."""

    link: Any

    def __init__(self, plan: Plan, path: Path) -> None:
        super().__init__(plan)
        self.link = WorkerLink(str(path), "secret")

    def leave(self) -> None:
        self.end()

    async def close(self) -> None:
        await super().close()
        await self.link.__aexit__(None, None, None)


class ServedRoom(Room):
    """`folder` has the sockets of the workers, by number."""

    folder: Path

    async def _launch(self, plan: Plan, number: int) -> FakeWorker:
        worker = ServedWorker(plan, self.folder / f"{number}.sock")
        self.started.append(worker)
        return worker


@dataclass
class Deployed:
    url: URL
    room: ServedRoom
    ports: list[Port]
    session: aiohttp.ClientSession
    admin: WorkersAdmin
    stack: AsyncExitStack

    async def replace(self, number: int) -> Port:
        """The port of the worker that comes when that one has crashed."""
        new = Port(len(self.ports) + 1, {"GET /admin/audit": {"entries": []}})
        self.ports.append(new)
        await self.stack.enter_async_context(new.open(self.room.folder / f"{new.number}.sock"))
        self.room.started[number - 1].end(-9)
        await self.room.serves(new.number)
        return new

    async def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Any]:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        async with asyncio.timeout(WITHIN_S):
            async with self.session.request(
                method, self.url.join(URL(path)), json=body, headers=named
            ) as response:
                text = await response.read()
                return response.status, orjson.loads(text) if text else dict(response.headers)


@asynccontextmanager
async def deployed(folder: Path, count: int = 2) -> AsyncIterator[Deployed]:
    async with AsyncExitStack() as stack:
        background = await stack.enter_async_context(Background())
        room = ServedRoom(background, PATIENT, count)
        room.folder = folder
        starting = background.spawn(room.supervisor.start(), name="start", endless=True)
        ports = [Port(number + 1) for number in range(count)]
        for port in ports:
            await stack.enter_async_context(port.open(folder / f"{port.number}.sock"))
        stack.push_async_callback(room.supervisor.stop)
        for port in ports:
            await room.serves(port.number)
        await starting
        admin = WorkersAdmin(room.supervisor, SystemClock(), QUICK)
        app = web.Application()
        app.add_routes(WorkersOperations(room.supervisor, WorkerMetrics()).routes())
        app.add_subapp("/admin", make_workers_admin([admin], lambda: None, 2**20))
        runner = AdminRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port_number = runner.addresses[0][:2]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Deployed(URL(f"http://{host}:{port_number}"), room, ports, session, admin, stack)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path) as made:
        yield made


# One that hangs.


async def test_with_a_lead_that_hangs_all_goes_on(tmp_path: Path) -> None:
    database = make_database(tmp_path / "daily.db")
    given = {
        "database": str(database), "state": str(tmp_path / "state.db"), "port": 0, "admin_port": 0,
        "workers": 2, "legacy_url": "http://127.0.0.1:9",
    }  # fmt: skip
    # It is never given up: whoever waits for it waits in vain.
    times = Times(probe_s=ENDLESS_S, hang_s=ENDLESS_S, scrape_s=ENDLESS_S)
    async with supervise(read_plan(None, given), given, times=times) as supervised:
        supervisor = supervised.supervisor
        assert await supervisor.start()
        lead = supervisor.lead
        assert lead is not None
        os.kill(lead.worker.pid, signal.SIGSTOP)
        try:
            async with aiohttp.ClientSession() as session:

                async def ask(method: str, path: str) -> Any:
                    async with asyncio.timeout(WITHIN_S):
                        url = supervised.admin_url.with_path(path)
                        async with session.request(method, url) as response:
                            assert response.status == 200
                            return await response.json()

                assert (await ask("POST", "/admin/rollback"))["rolled_back"]
                assert (await ask("GET", "/admin/split"))["rolled_back"]
                assert (await ask("GET", "/health/ready"))["status"] == "ready"
                assert len((await ask("GET", "/admin/status"))["workers"]) == 2
                assert (await ask("DELETE", "/admin/rollback"))["rolled_back"] is False
        finally:
            os.kill(lead.worker.pid, signal.SIGKILL)


async def test_a_rollback_goes_to_the_next_one_when_the_lead_does_not_answer(two: Deployed) -> None:
    lead, other = two.ports
    lead.hangs = True
    assert await two.ask("POST", "/admin/rollback", {"reason": "why"}) == (200, {"by": 2})
    [asked] = other.got("POST /admin/rollback")
    assert asked.body == {"reason": "why", "author": "127.0.0.1"}


async def test_a_rollback_that_is_only_slow_is_asked_of_another_too(two: Deployed) -> None:
    lead, _ = two.ports

    async def slowly(request: web.Request) -> web.StreamResponse:
        await lead.goes_on.wait()
        return web.json_response({"by": 1})

    lead.answers["POST /admin/rollback"] = slowly
    # However patient it would be with the one, and nobody waits for that one in the end.
    forwarding = Forwarding(two.room.supervisor, Patience(look_s=ENDLESS_S, hurry_s=0.05))
    request = make_mocked_request("POST", "/admin/rollback")
    async with asyncio.timeout(WITHIN_S):
        post, reply = await forwarding.forward(request)
    assert (post.number, reply.json()) == (2, {"by": 2})
    assert len(lead.got("POST /admin/rollback")) == 1


async def test_a_rollback_that_nobody_answers_is_refused_and_was_asked_of_all(
    two: Deployed,
) -> None:
    for port in two.ports:
        port.hangs = True
    status, told = await two.ask("POST", "/admin/rollback")
    assert (status, told["success"]) == (503, False)
    assert all(port.got("POST /admin/rollback") for port in two.ports)


async def test_one_that_hangs_is_given_no_change_and_is_asked_last(two: Deployed) -> None:
    lead, other = two.ports
    lead.hangs = True
    for path, body in (("split", {"percent": 5}), ("rollout", {"action": "start"})):
        assert await two.ask("POST", f"/admin/{path}", body) == (200, {"by": 2})
        assert len(other.got(f"POST /admin/{path}")) == 1
    assert {one.what for one in lead.asked} == {"GET /health/live"}
    assert [post.number for post in two.room.supervisor.answering()] == [2, 1]
    # Until it answers again.
    lead.hangs = False
    lead.goes_on.set()
    assert await two.room.started[0].link.is_live(WITHIN_S)
    assert await two.ask("GET", "/admin/split") == (200, {"by": 1})


async def test_an_old_question_that_comes_to_nothing_says_nothing_of_a_worker(
    two: Deployed,
) -> None:
    lead, _ = two.ports
    link = two.room.started[0].link

    async def never(request: web.Request) -> web.StreamResponse:
        await lead.goes_on.wait()
        return web.Response()

    lead.answers["GET /slow"] = never
    slow = asyncio.ensure_future(link.probe("/slow", timeout_s=0.2))
    await until(lambda: bool(lead.got("GET /slow")))
    assert await link.is_live(WITHIN_S)
    with pytest.raises(LinkError):
        await slow
    assert not link.is_silent
    with pytest.raises(LinkError):
        await link.probe("/slow", timeout_s=0.01)
    assert link.is_silent


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/admin/rollout"), ("DELETE", "/admin/rollback")]
)
async def test_what_must_not_be_done_twice_is_not_asked_of_a_second_one(
    two: Deployed, method: str, path: str
) -> None:
    lead, other = two.ports
    lead.hangs_when = f"{method} {path}"
    status, told = await two.ask(method, path, {"action": "promote"})
    assert status == 503
    assert told["error"] == (
        "worker 1 has not answered in time."
        " Whether it has done what it was asked is not known: look first"
    )
    assert not other.got(f"{method} {path}")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/admin/split"), ("POST", "/admin/shadow"), ("GET", "/admin/diffs?limit=1")],
)
async def test_what_may_be_done_twice_is_asked_of_the_next_one(
    two: Deployed, method: str, path: str
) -> None:
    two.ports[0].hangs_when = f"{method} {path}"
    assert await two.ask(method, path) == (200, {"by": 2})


async def test_one_that_is_slow_but_lives_is_waited_for(two: Deployed) -> None:
    lead, other = two.ports

    async def slowly(request: web.Request) -> web.StreamResponse:
        await until(lambda: lead.knocks >= 4)
        return web.json_response({"by": 1})

    lead.answers["POST /admin/rollout"] = slowly
    assert await two.ask("POST", "/admin/rollout", {}) == (200, {"by": 1})
    assert not other.got("POST /admin/rollout")


async def test_one_that_lives_and_never_answers_is_not_waited_for_for_ever(two: Deployed) -> None:
    lead, _ = two.ports

    async def never(request: web.Request) -> web.StreamResponse:
        await lead.goes_on.wait()
        return web.Response()

    lead.answers["POST /admin/rollout"] = never
    assert (await two.ask("POST", "/admin/rollout", {}))[0] == 503


@pytest.mark.parametrize("path", ["/admin/rollback", "/admin/rollout"])
async def test_who_gives_up_leaves_nothing_under_way(two: Deployed, path: str) -> None:
    lead, _ = two.ports
    lead.hangs_when = f"POST {path}"
    forwarding = Forwarding(two.room.supervisor, Patience())
    asking = asyncio.ensure_future(forwarding.forward(make_mocked_request("POST", path)))
    await until(lambda: bool(lead.got(f"POST {path}")))
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    assert [task for task in asyncio.all_tasks() if "Forwarding" in repr(task)] == []


async def test_it_is_ready_as_soon_as_one_says_so(two: Deployed) -> None:
    lead, other = two.ports
    lead.hangs = True
    other.answers["GET /health/ready"] = {"status": "ready"}
    assert await two.ask("GET", "/health/ready") == (200, {"status": "ready"})
    assert not two.room.started[0].link.is_silent


async def test_where_none_is_ready_the_leads_reason_is_told(two: Deployed) -> None:
    for port in two.ports:
        port.answers["GET /health/ready"] = (503, {"not_ready": [port.number]})
    assert await two.ask("GET", "/health/ready") == (503, {"not_ready": [1]})
    two.ports[1].answers["GET /health/ready"] = {"status": "ready"}
    assert await two.ask("GET", "/health/ready") == (200, {"status": "ready"})


# What is handed on.


async def test_a_request_has_one_id(two: Deployed) -> None:
    for method, path in (("POST", "/admin/split"), ("POST", "/admin/purge")):
        async with two.session.request(method, two.url.with_path(path)) as response:
            made = response.headers["X-Request-ID"]
        async with two.session.request(
            method, two.url.with_path(path), headers={"X-Request-ID": "mine"}
        ) as response:
            assert response.headers["X-Request-ID"] == "mine"
        ids = [one.request_id for one in two.ports[0].got(f"{method} {path}")]
        assert ids == [made, "mine"]
        assert made


@pytest.mark.parametrize("name", ["author", "reason"])
@pytest.mark.parametrize("value", [[], {}, 0, False])
async def test_what_is_no_text_is_left_to_the_worker_to_refuse(
    two: Deployed, name: str, value: object
) -> None:
    await two.ask("POST", "/admin/split", {"author": "me", name: value})
    [asked] = two.ports[0].got("POST /admin/split")
    assert asked.body == {"author": "me", name: value}


@pytest.mark.parametrize("body", [None, {}, {"author": None}, {"author": ""}])
async def test_who_names_no_author_is_told_by_his_address(two: Deployed, body: object) -> None:
    await two.ask("POST", "/admin/split", body)
    [asked] = two.ports[0].got("POST /admin/split")
    assert asked.body == {"author": "127.0.0.1"}


@pytest.mark.parametrize(
    "target",
    ["ftp://localhost/admin/split?a=%20b", "http://localhost/admin/split?a=%20b",
     "/admin/split?a=%20b"],
)  # fmt: skip
async def test_of_a_target_path_and_query_are_handed_on(two: Deployed, target: str) -> None:
    reader, writer = await asyncio.open_connection(two.url.host, two.url.port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()
    assert two.ports[0].got("GET /admin/split?a=%20b")


async def test_a_head_has_the_length_and_no_body(two: Deployed) -> None:
    for path in ("/admin/split", "/admin/jobs/none"):
        _, headers = await two.ask("HEAD", path)
        assert int(headers["Content-Length"]) > 0


# What is put together.


def freshness(state: str) -> dict[str, Any]:
    return {"freshness": {"state": state}}


async def test_what_is_asked_of_all_says_whether_all_have_done_it(two: Deployed) -> None:
    lead, other = two.ports
    lead.answers |= {
        "POST /admin/rebuild": freshness("settled"),
        "POST /admin/warm": (202, {"job_id": "warm-1"}),
        "POST /admin/purge": {"purged": 1, "is_complete": True},
    }
    other.answers |= lead.answers
    assert await two.ask("POST", "/admin/rebuild") == (
        200, {**freshness("settled"), "is_complete": True},
    )  # fmt: skip
    assert await two.ask("POST", "/admin/warm") == (
        202, {"job_id": "warm-1", "is_complete": True},
    )  # fmt: skip
    refusal = (409, {"success": False, "error": "16 jobs wait already"})
    other.answers |= dict.fromkeys(("POST /admin/rebuild", "POST /admin/warm"), refusal)
    for path in ("rebuild", "warm"):
        assert (await two.ask("POST", f"/admin/{path}"))[1]["is_complete"] is False
    # Whoever refuses first speaks for all.
    lead.answers["POST /admin/warm"] = refusal
    before = len(other.got("POST /admin/warm"))
    assert (await two.ask("POST", "/admin/warm"))[0] == 409
    assert len(other.got("POST /admin/warm")) == before


@pytest.mark.parametrize("silent", [0, 1])
async def test_what_one_that_hangs_was_not_asked_is_not_complete(
    two: Deployed, silent: int
) -> None:
    for port in two.ports:
        port.answers["POST /admin/purge"] = {"purged": 1, "is_complete": True}
        port.answers["POST /admin/rebuild"] = freshness("settled")
    two.ports[silent].hangs = True
    assert await two.ask("POST", "/admin/purge") == (200, {"purged": 1, "is_complete": False})
    assert (await two.ask("POST", "/admin/rebuild"))[1]["is_complete"] is False


def job(name: str, started_at: str | None, finished_at: str | None = None) -> dict[str, Any]:
    return {"id": name, "started_at": started_at, "finished_at": finished_at}


async def test_jobs_of_all_workers_are_listed_with_their_workers(two: Deployed) -> None:
    lead, other = two.ports
    lead.answers["GET /admin/jobs"] = {"jobs": [job("b", "2024-01-01T00:00:02Z")]}
    other.answers["GET /admin/jobs"] = {"jobs": [job("c", None), job("a", "2024-01-01T00:00:01Z")]}
    status, told = await two.ask("GET", "/admin/jobs?limit=2")
    assert (status, [(one["id"], one["worker"]) for one in told["jobs"]]) == (
        200, [("c", 2), ("b", 1)],
    )  # fmt: skip
    assert lead.got("GET /admin/jobs?limit=2")
    assert (await two.ask("GET", "/admin/jobs?limit=0"))[0] == 400


async def test_a_job_is_found_wherever_it_is(two: Deployed) -> None:
    lead, other = two.ports
    unknown = (404, {"success": False, "error": "no such job"})
    lead.answers["GET /admin/jobs/warm-1"] = unknown
    other.answers["GET /admin/jobs/warm-1"] = job("warm-1", None, "2024-01-01T00:00:01Z")
    assert await two.ask("GET", "/admin/jobs/warm-1") == (
        200, {**job("warm-1", None, "2024-01-01T00:00:01Z"), "worker": 2},
    )  # fmt: skip
    other.answers["GET /admin/jobs/warm-1"] = unknown
    assert (await two.ask("GET", "/admin/jobs/warm-1"))[0] == 404
    # One that cannot be asked may have it.
    other.hangs = True
    status, told = await two.ask("GET", "/admin/jobs/warm-1")
    assert (status, told["error"]) == (
        503, "it may be a job of worker 2, which does not answer",
    )  # fmt: skip


def act(second: int, action: str = "split", before: object = None) -> dict[str, Any]:
    return {
        "at": f"2024-01-01T00:00:{second:02}.000Z", "author": "me", "action": action,
        "before": before, "after": None, "reason": "",
    }  # fmt: skip


async def test_the_newest_entry_of_the_audit_costs_one_entry_of_each(two: Deployed) -> None:
    lead, other = two.ports
    lead.answers["GET /admin/audit"] = {"entries": [act(2)]}
    other.answers["GET /admin/audit"] = {"entries": [act(1, "purge")]}
    assert await two.admin.newest_record() == act(2)
    assert [one.what for port in two.ports for one in port.asked] == [
        "GET /admin/audit?limit=1",
    ] * 2  # fmt: skip


async def test_the_audit_of_those_that_are_gone_stays_as_one_list(two: Deployed) -> None:
    for number, port in enumerate(two.ports):
        port.answers["GET /admin/audit"] = {
            "entries": [act(30 - number, "split", number), act(10 + number, "purge")]
        }
        port.answers["POST /admin/purge"] = {"purged": 0, "is_complete": True}
    # As each change does, this has the lists noted.
    await two.ask("POST", "/admin/purge", {"all": True})
    acts = [act(30, "split", 0), act(29, "split", 1), act(10, "purge")]
    for number in (1, 2):
        await two.replace(number)
        assert (await two.ask("GET", "/admin/audit"))[1]["entries"] == acts
        assert await two.admin.newest_record() == acts[0]
    assert (await two.ask("GET", "/admin/audit?limit=1"))[1]["entries"] == acts[:1]


async def test_the_status_of_all_is_had_without_one_that_hangs(two: Deployed) -> None:
    for port in two.ports:
        port.answers["GET /admin/status"] = {
            "version": "1", "cache": {"entries": port.number},
            "jobs": [job(f"warm-{port.number}", "2024-01-01T00:00:01Z")],
        }  # fmt: skip
    status, told = await two.ask("GET", "/admin/status")
    assert (status, told["cache"]["entries"]) == (200, 3)
    assert [one["worker"] for one in told["jobs"]] == [1, 2]
    two.ports[0].hangs = True
    status, told = await two.ask("GET", "/admin/status")
    assert (status, told["cache"]["entries"], len(told["workers"])) == (200, 2, 2)


async def test_with_nobody_to_ask_it_says_so(two: Deployed) -> None:
    for port in two.ports:
        port.hangs = True
    for method, path in (
        ("GET", "/admin/status"), ("GET", "/admin/split"), ("POST", "/admin/rollout"),
        ("POST", "/admin/purge"),
    ):  # fmt: skip
        status, told = await two.ask(method, path)
        assert (status, told["error"]) == (
            503, "no worker is there to answer: try again in a moment",
        )  # fmt: skip
