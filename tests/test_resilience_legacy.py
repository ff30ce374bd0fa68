"""A legacy that fails in every way: what we can answer ourselves goes on, the rest is told in time.

The proxy is a process of its own, under steady load; the legacy is a bare
server that sends what a test wants, or passes on what a healthy one sends.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from yarl import URL

from proxy.answer import Answer
from proxy.backends.legacy import LegacyBackend
from proxy.demo.data import make_demo
from proxy.demo.legacy import make_legacy
from proxy.errors import BackendError, BackendTimeout
from proxy.handlers.upstream import open_legacy_session
from proxy.query import Query
from proxy.shapes import make_shapes
from tests.clocks import HandClock
from tests.proxies import ProxyProcess
from tests.public_port import END, SMALL, Reply, ask, get, make_database
from tests.steady import Known, Steady, known
from tests.waiting import until

RANGE = {"start_date": "2024-06-21", "end_date": "2024-06-30"}
ANALYTICS = "/api/dashboard/analytics/data"
TIMEOUT_S = 0.5
PATIENCE_S = 1.5
OTHER_PAGE = "/api/running"

Write = asyncio.StreamWriter
Way = Callable[[asyncio.StreamReader, Write], Awaitable[None]]


def answer_of(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


def sends(data: bytes) -> Way:
    async def send(_: asyncio.StreamReader, writer: Write) -> None:
        writer.write(data)
        await writer.drain()

    return send


async def hang(reader: asyncio.StreamReader, _: Write) -> None:
    await reader.read()


async def refuse(_: asyncio.StreamReader, writer: Write) -> None:
    reset(writer)


async def reset_in_the_middle(_: asyncio.StreamReader, writer: Write) -> None:
    writer.write(answer_of(b"x" * 1000)[:-500])
    await writer.drain()
    reset(writer)


async def send_without_end(_: asyncio.StreamReader, writer: Write) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b" " * 2**20)
        await writer.drain()


async def send_drop_by_drop(_: asyncio.StreamReader, writer: Write) -> None:
    writer.write(answer_of(b" " * 10_000)[:-10_000])
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.1)


def reset(writer: Write) -> None:
    # Closing with a linger of zero seconds sends a reset.
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


WAYS: dict[str, tuple[Way, set[int]]] = {
    "it resets each connection": (refuse, {502, 503}),
    "it hangs": (hang, {503, 504}),
    "it resets in the middle of a body": (reset_in_the_middle, {502, 503}),
    "its body has no end": (send_without_end, {502, 503, 504}),
    "it sends a byte now and then": (send_drop_by_drop, {503, 504}),
    "it sends 500": (sends(answer_of(b"oops", "500 Internal Server Error")), {502, 503}),
    "it sends HTML": (sends(answer_of(b"<html>Log in</html>", kind="text/html")), {502, 503}),
    "it sends half of a document": (sends(answer_of(b'{"success": true, "da')), {502, 503}),
    "it reports a failure": (sends(answer_of(b'{"success": false}')), {502, 503}),
    "it hides its failure": (sends(answer_of(b'{"success": true, "data": []}')), {200}),
}


@dataclass
class SickLegacy:
    """Does to each connection what `way` says; None: passes on to the healthy one."""

    healthy: URL
    way: Way | None = None
    url: URL = field(default_factory=URL)
    asked: list[bytes] = field(default_factory=list)
    open: int = 0
    most_open: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: Write) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            with suppress(OSError, EOFError):
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked.append(head.partition(b"\r\n")[0])
                way = self.way or self._pass_on(head)
                await way(reader, writer)
        finally:
            self.open -= 1
            writer.close()

    def _pass_on(self, head: bytes) -> Way:
        async def pass_on(reader: asyncio.StreamReader, writer: Write) -> None:
            up_reader, up_writer = await asyncio.open_connection(
                self.healthy.host, self.healthy.port
            )
            up_writer.write(head)
            asking = asyncio.create_task(_copy(reader, up_writer))
            try:
                await _copy(up_reader, writer)
            finally:
                asking.cancel()
                up_writer.close()

        return pass_on


async def _copy(reader: asyncio.StreamReader, writer: Write) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def sick_legacy(healthy: URL) -> AsyncIterator[SickLegacy]:
    legacy = SickLegacy(healthy)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: Write) -> None:
        task = asyncio.create_task(legacy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    legacy.url = URL.build(scheme="http", host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    try:
        yield legacy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def legacy(tmp_path: Path) -> AsyncIterator[SickLegacy]:
    """Its healthy self has ten days more than our tables."""
    path = tmp_path / "legacy.db"
    make_demo(path, None, size=replace(SMALL, days=20), end=END)
    async with (
        TestServer(make_legacy(path, None)) as server,
        sick_legacy(server.make_url("/").origin()) as legacy,
    ):
        yield legacy


@dataclass
class Scene:
    """`load` asks what our tables answer, `theirs` what only the legacy can."""

    database: Path
    proxy: ProxyProcess
    legacy: SickLegacy
    load: Steady
    theirs: list[Known]

    async def ask_theirs(self, index: int = 0) -> tuple[Reply, float, str]:
        """The answer, how long it took, and what is wrong with it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        reply = await ask(self.proxy.url, self.theirs[index].request)
        return reply, loop.time() - began, self.theirs[index].faults_in(reply.body)

    async def open_the_breaker(self) -> None:
        for _ in range(3):
            reply, took_s, _ = await self.ask_theirs()
            assert reply.status == 504
            assert took_s >= TIMEOUT_S

    def assert_ours_went_on(self) -> None:
        assert self.load.problems() == []
        assert set(self.load.tally()) == {"optimized"}
        assert self.load.slowest_s < PATIENCE_S


@pytest.fixture
async def scene(legacy: SickLegacy, tmp_path: Path) -> AsyncIterator[Scene]:
    database = make_database(tmp_path / "daily.db")
    ours = [known("/data", database, **RANGE), known(ANALYTICS, database, **RANGE)]
    theirs = [
        known(ANALYTICS, tmp_path / "legacy.db", start_date=f"2024-06-{day}", end_date="2024-06-20")
        for day in range(11, 21)
    ]
    proxy = ProxyProcess(database, legacy_url=legacy.url, legacy_timeout_s=TIMEOUT_S)
    async with proxy, Steady(proxy.url, ours) as load:
        yield Scene(database, proxy, legacy, load, theirs)


@pytest.mark.parametrize(("way", "statuses"), WAYS.values(), ids=WAYS.keys())
async def test_what_it_does_is_told_in_time_and_over_when_it_is_well(
    scene: Scene, way: Way, statuses: set[int]
) -> None:
    scene.legacy.way = way
    for _ in range(2):
        reply, took_s, _ = await scene.ask_theirs()
        assert reply.status in statuses
        assert b'"success":false' in reply.body or reply.status == 200
        assert took_s < TIMEOUT_S + PATIENCE_S
    await scene.load.round()
    scene.legacy.way = None
    reply, _, fault = await scene.ask_theirs()
    assert (reply.status, fault) == (200, "")
    assert reply.headers["x-dashboard-source"] == "legacy"
    scene.assert_ours_went_on()


async def test_nobody_listens_where_it_should_be(scene: Scene) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with ProxyProcess(scene.database, legacy_url=url) as proxy:
            for _ in range(5):
                reply = await ask(proxy.url, scene.theirs[0].request)
                assert reply.status in (502, 503)
                assert b"cannot be reached" in reply.body
            assert (await ask(proxy.url, get(OTHER_PAGE))).status == 502
            async with Steady(proxy.url, scene.load.questions) as load:
                await load.round()
            assert load.problems() == []


async def test_one_that_hangs_holds_nobody_up_for_long_and_comes_back_by_itself(
    scene: Scene,
) -> None:
    scene.legacy.way = hang
    await scene.open_the_breaker()
    for index in range(5):
        reply, took_s, _ = await scene.ask_theirs(index)
        assert reply.status == 503
        assert took_s < TIMEOUT_S
    await until(lambda: bool(scene.proxy.events("legacy_down")))

    scene.legacy.way = None
    async with asyncio.timeout(15):
        while (await scene.ask_theirs())[0].status != 200:
            await scene.load.round()
    await until(lambda: bool(scene.proxy.events("legacy_back")))
    answers = await asyncio.gather(*map(scene.ask_theirs, range(len(scene.theirs))))
    assert [(reply.status, fault) for reply, _, fault in answers] == [(200, "")] * len(answers)
    scene.assert_ours_went_on()


async def test_one_at_a_time_tries_whether_it_is_back(scene: Scene) -> None:
    scene.legacy.way = hang
    await scene.open_the_breaker()
    await until(lambda: scene.legacy.open == 0)
    scene.legacy.most_open = 0
    tries = len(scene.legacy.asked)
    async with asyncio.timeout(15):
        while len(scene.legacy.asked) == tries:
            await asyncio.gather(*map(scene.ask_theirs, range(len(scene.theirs))))
    assert scene.legacy.most_open == 1


async def test_what_passes_through_is_not_refused_meanwhile(scene: Scene) -> None:
    scene.legacy.way = hang
    await scene.open_the_breaker()
    scene.legacy.way = None
    reply = await ask(scene.proxy.url, get(OTHER_PAGE, "Connection: close"))
    assert (reply.status, reply.body) == (200, b'{"running":[]}')


DAY = Query("analytics", date(2024, 6, 11), date(2024, 6, 20), "ad")


@asynccontextmanager
async def backend_on(legacy: SickLegacy, clock: HandClock) -> AsyncIterator[LegacyBackend]:
    async with open_legacy_session() as session:
        yield LegacyBackend(legacy.url, session, make_shapes(), clock, timeout_s=0.05)


async def outcome(backend: LegacyBackend) -> str:
    try:
        answer: Answer = await backend.answer(DAY)
    except BackendError as error:
        return error.reason
    return answer.source


async def test_errors_that_come_at_once_open_nothing(legacy: SickLegacy) -> None:
    legacy.way = sends(answer_of(b"oops", "500 Internal Server Error"))
    async with backend_on(legacy, HandClock()) as backend:
        assert [await outcome(backend) for _ in range(10)] == ["legacy_error"] * 10
        assert backend.is_up


async def test_errors_that_kept_callers_waiting_open_it(legacy: SickLegacy) -> None:
    clock = HandClock()

    async def fail_late(_: asyncio.StreamReader, writer: Write) -> None:
        clock.pass_s(2)
        writer.write(answer_of(b"oops", "500 Internal Server Error"))

    legacy.way = fail_late
    async with backend_on(legacy, clock) as backend:
        assert [await outcome(backend) for _ in range(5)] == ["legacy_error"] * 3 + [
            "legacy_down"
        ] * 2
        assert not backend.is_up


async def test_a_try_that_fails_at_once_lets_everybody_through(legacy: SickLegacy) -> None:
    clock = HandClock()
    legacy.way = hang
    async with backend_on(legacy, clock) as backend:
        for _ in range(3):
            with pytest.raises(BackendTimeout):
                await backend.answer(DAY)
        legacy.way = refuse
        assert await outcome(backend) == "legacy_down"
        clock.pass_s(1)
        assert [await outcome(backend) for _ in range(3)] == ["disconnected"] * 3


async def test_a_try_whose_caller_leaves_is_followed_by_another(legacy: SickLegacy) -> None:
    clock = HandClock()
    legacy.way = hang
    async with backend_on(legacy, clock) as backend:
        for _ in range(3):
            await outcome(backend)
        await until(lambda: legacy.open == 0)
        clock.pass_s(1)
        trying = asyncio.create_task(backend.answer(DAY))
        await until(lambda: legacy.open == 1)
        trying.cancel()
        await asyncio.wait([trying])
        assert await outcome(backend) == "legacy_down"
        clock.pass_s(1)
        assert await outcome(backend) == "legacy_timeout"
