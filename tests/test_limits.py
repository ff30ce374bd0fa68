"""What one caller may take: connections, bytes, and time to say what it wants."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from yarl import URL

from proxy.handlers.framing import LARGEST_HEAD
from proxy.handlers.limits import ConnectionLimit, LimitedHandler, Patience
from proxy.handlers.upstream import HEADER_LIMIT_BYTES
from tests.public_port import (
    Caller,
    ask,
    calling,
    echo_legacy,
    get,
    make_database,
    message,
    post,
    serving,
)
from tests.waiting import until

QUESTION = b'{"start_date":"2024-06-21","end_date":"2024-06-30"}'
SHORT = Patience(head_s=0.2, body_s=0.2, body_rate=1000)
WAIT_S = 10.0


class LimitedServer(web.Server):
    """Connections of the kind under test, and nothing above them."""

    def __call__(self) -> RequestHandler:
        return LimitedHandler(self, loop=self._loop, **self._kwargs)


@dataclass
class Site:
    """Echoes bodies, once it `may_answer`."""

    url: URL = field(default_factory=URL)
    connections: ConnectionLimit = field(default_factory=lambda: ConnectionLimit(1000))
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: int = 0
    begun: int = 0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.begun += 1
        try:
            body = await request.content.read()
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return web.Response(body=body)


@asynccontextmanager
async def site(
    patience: Patience = SHORT, *, most: int = 1000, answers: bool = True
) -> AsyncIterator[Site]:
    here = Site(connections=ConnectionLimit(most))
    if answers:
        here.may_answer.set()
    server = LimitedServer(
        here,
        access_log=None,
        handler_cancellation=True,
        connections=here.connections,
        patience=patience,
    )
    runner = web.ServerRunner(server, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        here.url = URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1])
        yield here
    finally:
        here.may_answer.set()
        await runner.cleanup()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "tables.db")


async def is_closed(caller: Caller) -> bool:
    try:
        async with asyncio.timeout(WAIT_S):
            return await caller.reader.read() == b""
    except ConnectionError:
        return True


async def drip(caller: Caller, data: bytes, *, every_s: float) -> None:
    """Byte by byte, for as long as the other end listens."""
    for byte in data:
        caller.send(bytes([byte]))
        await asyncio.sleep(every_s)


def dripping(caller: Caller, data: bytes) -> asyncio.Task[None]:
    return asyncio.create_task(drip(caller, data, every_s=0.02))


HEAD = message("POST", "/", "X-Long: " + "x" * 1000)


@pytest.mark.parametrize(
    "data", [HEAD, HEAD[:20], b"P"], ids=["byte by byte", "a part", "one byte"]
)
async def test_a_head_that_does_not_end_is_waited_for_so_long(data: bytes) -> None:
    async with site() as here, calling(here.url) as caller:
        sending = dripping(caller, data)
        assert await is_closed(caller)
        sending.cancel()
        assert here.begun == 0


@pytest.mark.parametrize(
    "data",
    [
        message("POST", "/", "Content-Length: 5000", body=b"x"),
        message("POST", "/", "Transfer-Encoding: chunked", body=b"1000\r\nx"),
    ],
    ids=["a length", "chunked"],
)
async def test_a_body_that_drips_is_given_up_and_so_is_what_it_was_for(data: bytes) -> None:
    async with site() as here, calling(here.url) as caller:
        caller.send(data)
        sending = dripping(caller, b"x" * 1000)
        assert await is_closed(caller)
        sending.cancel()
        await until(lambda: here.cancelled == 1)


async def test_a_body_that_comes_steadily_may_take_its_time() -> None:
    async with site() as here, calling(here.url) as caller:
        caller.send(message("POST", "/", "Content-Length: 3000"))
        for _ in range(10):
            caller.send(b"x" * 300)
            await asyncio.sleep(0.05)
        assert (await caller.reply()).body == b"x" * 3000


async def test_who_waits_for_an_answer_is_not_who_is_slow() -> None:
    async with site(answers=False) as here, calling(here.url) as caller:
        caller.send(message("POST", "/", "Content-Length: 4", body=b"body"))
        await until(lambda: here.begun == 1)
        caller.send(b"GET")
        await asyncio.sleep(SHORT.head_s * 3)
        here.may_answer.set()
        assert (await caller.reply()).body == b"body"
        # The next one was begun long ago, but could not have been answered before.
        caller.send(get("/")[3:])
        assert (await caller.reply()).status == 200


async def test_a_connection_between_two_requests_owes_nothing() -> None:
    async with site() as here, calling(here.url) as caller:
        first = get("/")
        caller.send(first[:10])
        await asyncio.sleep(0)
        caller.send(first[10:])
        assert (await caller.reply()).status == 200
        await asyncio.sleep(SHORT.head_s * 2)
        assert (await caller.ask(get("/"))).status == 200


async def test_a_body_that_nobody_reads_is_not_the_callers_fault() -> None:
    async with site(answers=False) as here:
        data = b"x" * 3_000_000

        async def unread(request: web.BaseRequest) -> web.StreamResponse:
            await asyncio.sleep(SHORT.body_s * 3)
            return web.Response(body=str(len(await request.content.read())).encode())

        server = LimitedServer(
            unread, access_log=None, connections=here.connections,
            patience=Patience(head_s=0.2, body_s=0.2, body_rate=10**9),
        )  # fmt: skip
        runner = web.ServerRunner(server, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1])
            reply = await ask(url, post("/", data))
        finally:
            await runner.cleanup()
        assert reply.body == b"3000000"


async def test_one_address_has_so_many_connections_and_no_more() -> None:
    async with site(most=3) as here, AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(calling(here.url)) for _ in range(3)]
        for caller in callers:
            assert (await caller.ask(get("/"))).status == 200
        for _ in range(3):
            async with calling(here.url) as refused:
                reply = await refused.reply()
                assert reply.status == 503
                assert reply.headers["content-type"] == "application/json"
                assert "At most 3" in orjson.loads(reply.body)["error"]
                assert await is_closed(refused)
        assert len(here.connections) == 3
        callers[0].writer.close()
        await until(lambda: len(here.connections) == 2)
        assert (await ask(here.url, get("/"))).status == 200
    assert len(here.connections) == 0


def test_each_address_is_counted_by_itself() -> None:
    limit = ConnectionLimit(1)
    assert limit.admit("10.0.0.1") is None
    assert limit.admit("10.0.0.1") is not None
    assert limit.admit("10.0.0.2") is None
    limit.leave("10.0.0.1")
    assert limit.admit("10.0.0.1") is None
    assert len(limit) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
        ("2001:db8:1:2::1", "2001:0DB8:1:2::2"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_who_has_a_network_of_addresses_is_one_caller(one: str, other: str) -> None:
    limit = ConnectionLimit(2)
    assert limit.admit(one) is None
    assert limit.admit(other) is None
    for address in (one, other):
        assert limit.admit(address) is not None
    limit.leave(other)
    assert limit.admit(one) is None
    limit.leave(one)
    limit.leave(other)
    assert len(limit) == 0
    assert repr(vars(limit)) == repr(vars(ConnectionLimit(2)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:3::1"),
        ("fe80::1%eth0", "fe80::2%eth0"),
        ("fe80::1%eth0", "fe80::1%eth1"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2"),
    ],
)
def test_neighbours_are_callers_of_their_own(one: str, other: str) -> None:
    limit = ConnectionLimit(1)
    assert limit.admit(one) is None
    assert limit.admit(other) is None


def test_connections_without_an_address_are_not_limited() -> None:
    limit = ConnectionLimit(1)
    assert [limit.admit("") for _ in range(3)] == [None] * 3


Make = Callable[[], bytes]
TOO_LONG: dict[str, tuple[Make, int, str]] = {
    "the URL": (lambda: get("/" + "a" * HEADER_LIMIT_BYTES), 414, "The URL is too long"),
    "the query": (lambda: get("/data?a=" + "a" * HEADER_LIMIT_BYTES), 414, "The URL is too long"),
    "a header": (
        lambda: get("/", "X-Long: " + "a" * (HEADER_LIMIT_BYTES + 1)),
        431,
        "A header is too long",
    ),
    "the name of a header": (
        lambda: get("/", "X" * (HEADER_LIMIT_BYTES + 1) + ": a"),
        431,
        "A header is too long",
    ),
    "too many headers": (lambda: get("/", *["X: a"] * 200), 431, "Too many headers"),
    "all headers together": (
        lambda: get("/", *["X: " + "a" * 60_000] * (LARGEST_HEAD // 60_000 + 1)),
        431,
        "too long",
    ),
}


@pytest.mark.parametrize(("make", "status", "text"), TOO_LONG.values(), ids=TOO_LONG.keys())
async def test_what_is_too_long_is_refused_with_the_limit_and_without_an_echo(
    database: Path, make: Make, status: int, text: str
) -> None:
    async with (
        echo_legacy() as legacy,
        serving(database, legacy_url=str(legacy.url)) as running,
        calling(running.url) as caller,
    ):
        reply = await caller.ask(make())
        assert reply.status == status
        assert reply.headers["content-type"] == "application/json"
        error = orjson.loads(reply.body)["error"]
        assert text in error
        assert "aaa" not in error
        assert await is_closed(caller)
        assert legacy.asked == []


@pytest.mark.parametrize("step", [1000, 60_000])
async def test_a_head_that_comes_in_parts_has_the_same_limit(database: Path, step: int) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"a" * 5000 + b"\r\n") * 100
    head = head[: LARGEST_HEAD + 1]
    async with (
        echo_legacy() as legacy,
        serving(database, legacy_url=str(legacy.url)) as running,
        calling(running.url) as caller,
    ):
        for at in range(0, len(head), step):
            caller.send(head[at : at + step])
            await asyncio.sleep(0)
        reply = await caller.reply()
        assert (reply.status, legacy.asked) == (431, [])
        assert await is_closed(caller)


async def test_what_is_just_short_enough_goes_on(database: Path) -> None:
    async with echo_legacy() as legacy, serving(database, legacy_url=str(legacy.url)) as running:
        target = "/" + "a" * 8000
        lines = ["X: " + "a" * 1000] * 20
        reply = await ask(running.url, get(target, *lines))
        assert reply.status == 200
        assert reply.body == f"GET {target}\n".encode()


async def test_the_limit_of_connections_is_a_setting(database: Path) -> None:
    async with (
        serving(database, max_connections_per_address=1) as running,
        calling(running.url) as caller,
    ):
        assert (await caller.ask(post("/data", QUESTION))).status == 200
        async with calling(running.url) as other:
            assert (await other.reply()).status == 503
        assert (await caller.ask(post("/data", QUESTION))).status == 200


@pytest.mark.parametrize("target", ["/admin/status", "/metrics", "/health/ready", "/console"])
async def test_what_is_for_operators_is_not_on_the_public_port(database: Path, target: str) -> None:
    async with serving(database, admin_token="hush") as running:
        reply = await ask(running.url, get(target, "Authorization: Bearer hush"))
        assert reply.status == 502
        assert b"no legacy application is configured" in reply.body
