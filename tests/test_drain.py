"""Leaving a port that others go on to serve: nobody who has asked is left without an answer."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
import uvloop
from aiohttp import web
from yarl import URL

from proxy.app import Running, run_proxy
from proxy.app_listening import Inherited
from proxy.handlers.lane_protocol import LaneProtocol
from proxy.settings import Settings
from tests.public_port import Caller, calling, get, make_database, post
from tests.waiting import until

QUESTION = orjson.dumps({"start_date": "2024-06-21", "end_date": "2024-06-30"})
ASK = post("/data", QUESTION)
LONG_S = 60.0


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("drain") / "daily.db")


class Legacy:
    """Answers when it is told to; `came` is set when it was asked."""

    def __init__(self) -> None:
        self.url = URL()
        self.came = asyncio.Event()
        self.begin = asyncio.Event()
        self.end = asyncio.Event()
        self.body = b""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.came.set()
        if request.method == "PUT":
            self.body = await request.read()
            return web.Response(text="kept")
        await self.begin.wait()
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first ")
        await self.end.wait()
        await response.write(b"last")
        return response


@asynccontextmanager
async def legacy_app() -> AsyncIterator[Legacy]:
    legacy = Legacy()
    runner = web.ServerRunner(web.Server(legacy, access_log=None), shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    legacy.url = URL(f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield legacy
    finally:
        await runner.cleanup()


class Left:
    """A worker, and the listening socket that stays when it has left."""

    def __init__(self, running: Running, listener: socket.socket, legacy: Legacy) -> None:
        self.running = running
        self.listener = listener
        self.legacy = legacy
        self.url = running.url

    async def drain(self, grace_s: float = LONG_S) -> "asyncio.Task[None]":
        """Returns when it has begun."""
        task = asyncio.create_task(self.running.port.drain(grace_s))
        await until(lambda: self.running.port.is_draining)
        return task

    @property
    def connections(self) -> list[LaneProtocol]:
        open_ones = self.running.port._server.connections
        return [one for one in open_ones if isinstance(one, LaneProtocol)]

    async def warm(self, caller: Caller) -> None:
        """Have the fast lane know the question."""
        for _ in range(2):
            assert (await caller.ask(ASK)).status == 200


Test = Callable[[Left], Awaitable[None]]


def on_a_worker(database: Path, test: Test) -> None:
    """Run `test` on the event loop that workers run on."""

    async def run() -> None:
        # The supervisor's, which goes on listening whatever the worker does.
        with socket.create_server(("127.0.0.1", 0)) as kept:
            kept.setblocking(False)
            url = URL(f"http://127.0.0.1:{kept.getsockname()[1]}")
            folder = database.parent
            async with legacy_app() as legacy:
                settings = Settings(
                    database=str(database), state=folder / "state.db", legacy_url=str(legacy.url)
                )
                inherited = Inherited([kept.dup()], url, folder / "admin.sock", "token")
                async with run_proxy(settings, inherited=inherited) as running:
                    await test(Left(running, kept, legacy))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def is_closed(caller: Caller) -> bool:
    return await caller.reader.read() == b""


def test_a_question_on_an_idle_connection_is_answered_and_is_its_last(database: Path) -> None:
    async def test(left: Left) -> None:
        async with calling(left.url) as caller:
            await left.warm(caller)
            assert "connection" not in (await caller.ask(ASK)).headers
            draining = await left.drain()
            reply = await caller.ask(ASK)
            assert reply.status == 200
            assert reply.headers["connection"] == "close"
            assert reply.headers["cache-status"] == "dashboard-proxy; hit"
            assert await is_closed(caller)
            # Nobody is left to wait for, though the grace is long.
            await draining

    on_a_worker(database, test)


def test_a_connection_that_says_nothing_is_closed_after_its_grace(database: Path) -> None:
    async def test(left: Left) -> None:
        async with calling(left.url) as silent, calling(left.url) as used:
            await left.warm(used)
            loop = asyncio.get_running_loop()
            begun = loop.time()
            draining = await left.drain(0.3)
            assert await is_closed(silent)
            assert loop.time() - begun >= 0.29
            assert await is_closed(used)
            await draining

    on_a_worker(database, test)


def test_what_has_arrived_when_the_grace_ends_is_answered(database: Path) -> None:
    async def test(left: Left) -> None:
        async with calling(left.url) as caller:
            await left.warm(caller)
            [connection] = left.connections
            ours = caller.writer.get_extra_info("socket").fileno()
            # In the socket, and not read: the loop does not run between these two.
            os.write(ours, ASK)
            connection.leave(0.0, 0.0)
            assert (await caller.reply()).status == 200
            connection.leave(0.0, 0.0)
            assert await is_closed(caller)

    on_a_worker(database, test)


def test_one_that_was_used_a_moment_ago_has_its_grace_from_then(database: Path) -> None:
    async def test(left: Left) -> None:
        async with calling(left.url) as caller:
            await left.warm(caller)
            [connection] = left.connections
            connection.leave(asyncio.get_running_loop().time() - 10, 5.0)
            assert (await caller.ask(ASK)).status == 200

    on_a_worker(database, test)


def test_what_is_under_way_is_answered_and_says_that_it_was_the_last(database: Path) -> None:
    async def test(left: Left) -> None:
        async with calling(left.url) as caller, calling(left.url) as idle:
            caller.send(get("/slow"))
            await left.legacy.came.wait()
            draining = await left.drain(0.0)
            assert await is_closed(idle)
            left.legacy.begin.set()
            left.legacy.end.set()
            reply = await caller.reply()
            assert (reply.status, reply.body) == (200, b"first last")
            assert reply.headers["connection"] == "close"
            await draining

    on_a_worker(database, test)


def test_an_answer_that_had_promised_to_go_on_is_followed_by_a_last_one(database: Path) -> None:
    async def test(left: Left) -> None:
        async with calling(left.url) as caller:
            caller.send(get("/slow"))
            left.legacy.begin.set()
            head = await caller.reader.readuntil(b"\r\n\r\n")
            assert b"onnection: close" not in head
            draining = await left.drain(0.5)
            left.legacy.end.set()
            assert (await caller.reader.readuntil(b"0\r\n\r\n")).endswith(b"last\r\n0\r\n\r\n")
            reply = await caller.ask(ASK)
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            await draining

    on_a_worker(database, test)


def test_questions_that_were_sent_ahead_are_all_answered(database: Path) -> None:
    async def test(left: Left) -> None:
        async with calling(left.url) as caller:
            caller.send(get("/slow") + ASK + ASK)
            await left.legacy.came.wait()
            draining = await left.drain()
            left.legacy.begin.set()
            left.legacy.end.set()
            replies = [await caller.reply() for _ in range(3)]
            assert [reply.status for reply in replies] == [200, 200, 200]
            last_words = [reply.headers.get("connection") for reply in replies]
            assert last_words == [None, None, "close"]
            await draining

    on_a_worker(database, test)


def test_a_body_that_is_still_coming_is_waited_for(database: Path) -> None:
    async def test(left: Left) -> None:
        async with calling(left.url) as caller, calling(left.url) as idle:
            caller.send(b"PUT /file HTTP/1.1\r\nHost: dash\r\nContent-Length: 8\r\n\r\nhalf")
            await left.legacy.came.wait()
            draining = await left.drain(0.0)
            assert await is_closed(idle)
            caller.send(b"half")
            reply = await caller.reply()
            assert (reply.status, reply.body) == (200, b"kept")
            assert left.legacy.body == b"halfhalf"
            await draining

    on_a_worker(database, test)


def test_a_head_that_is_still_coming_is_waited_for(database: Path) -> None:
    async def test(left: Left) -> None:
        async with calling(left.url) as caller, calling(left.url) as idle:
            caller.send(ASK[:30])
            # Whoever comes after it is answered after it was read.
            await left.warm(idle)
            draining = await left.drain(0.0)
            assert await is_closed(idle)
            caller.send(ASK[30:])
            assert (await caller.reply()).status == 200
            await draining

    on_a_worker(database, test)


def test_connections_that_come_at_that_moment_are_answered_here_or_left_to_others(
    database: Path,
) -> None:
    async def test(left: Left) -> None:
        loop = asyncio.get_running_loop()
        address = left.listener.getsockname()
        early = [socket.create_connection(address) for _ in range(20)]
        for connection in early:
            connection.setblocking(False)
            await loop.sock_sendall(connection, ASK)
        # Some are accepted by now, some wait in the kernel.
        draining = await left.drain(1.0)
        late = [socket.create_connection(address) for _ in range(5)]
        for connection in late:
            connection.setblocking(False)
            await loop.sock_sendall(connection, ASK)
        await draining
        others = 0
        while True:
            try:
                accepted, _ = left.listener.accept()
            except BlockingIOError:
                break
            others += 1
            accepted.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            accepted.close()
        for connection in [*early, *late]:
            answer = await loop.sock_recv(connection, 65536)
            assert answer.startswith(b"HTTP/1.1 200 OK")
            connection.close()
        assert others >= len(late)

    on_a_worker(database, test)


def test_who_is_in_a_hurry_waits_for_no_grace(database: Path) -> None:
    async def test(left: Left) -> None:
        async with calling(left.url) as caller:
            await left.warm(caller)
            draining = await left.drain()
            left.running.port.hurry()
            await draining

    on_a_worker(database, test)


def test_a_caller_who_goes_away_is_not_waited_for(database: Path) -> None:
    async def test(left: Left) -> None:
        async with calling(left.url) as caller:
            await left.warm(caller)
            draining = await left.drain()
        await draining

    on_a_worker(database, test)
