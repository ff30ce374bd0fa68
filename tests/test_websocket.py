"""WebSockets through the proxy."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from yarl import URL

from tests.intermediary import Proxy, RawLegacy, calling, passing, raw_legacy, reset, stalled

HANDSHAKE = (
    b"GET /socket.io/?EIO=4 HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Legacy: 1\r\n\r\n"
)


@dataclass
class Ends:
    proxy: Proxy
    caller: aiohttp.ClientSession
    closed: "asyncio.Queue[int | None]" = field(default_factory=asyncio.Queue)


@asynccontextmanager
async def legacy_with(
    talk: Callable[[web.WebSocketResponse], Awaitable[None]],
) -> AsyncIterator[Ends]:
    """A legacy that talks WebSocket; `closed` gets the code it saw at the end."""
    closed: asyncio.Queue[int | None] = asyncio.Queue()

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/refused":
            return web.Response(status=401, text="who?", headers={"WWW-Authenticate": "Basic"})
        socket = web.WebSocketResponse(
            protocols=("chat", "news"), autoping=False, max_msg_size=0, timeout=0.1
        )
        await socket.prepare(request)
        try:
            await talk(socket)
        finally:
            closed.put_nowait(socket.close_code)
        return socket

    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1])
    try:
        async with passing(url) as proxy, aiohttp.ClientSession() as caller:
            yield Ends(proxy, caller, closed)
    finally:
        await runner.cleanup()


async def echo(socket: web.WebSocketResponse) -> None:
    async for message in socket:
        match message.type:
            case WSMsgType.TEXT:
                await socket.send_str(message.data)
            case WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            case WSMsgType.PING:
                await socket.pong(message.data)


async def test_text_binary_and_pings_go_both_ways() -> None:
    async with (
        legacy_with(echo) as ends,
        ends.caller.ws_connect(ends.proxy.url / "socket.io/", autoping=False) as socket,
    ):
        await socket.send_str("héllo")
        assert await socket.receive_str() == "héllo"
        await socket.send_bytes(b"\x00\xff")
        assert await socket.receive_bytes() == b"\x00\xff"
        await socket.ping(b"p")
        pong = await socket.receive()
        assert (pong.type, pong.data) == (WSMsgType.PONG, b"p")


@pytest.mark.parametrize("compress", [0, 15])
async def test_big_messages_go_through(compress: int) -> None:
    big = bytes(range(256)) * 65536
    async with (
        legacy_with(echo) as ends,
        ends.caller.ws_connect(ends.proxy.url / "x", max_msg_size=0, compress=compress) as socket,
    ):
        assert socket.compress == compress
        await socket.send_bytes(big)
        assert await socket.receive_bytes() == big


async def test_the_legacy_chooses_the_subprotocol() -> None:
    async with (
        legacy_with(echo) as ends,
        ends.caller.ws_connect(ends.proxy.url / "x", protocols=("other", "news")) as socket,
    ):
        assert socket.protocol == "news"


@pytest.mark.parametrize("code", [1000, 1008, 1012, 3000, 4999])
async def test_the_callers_close_code_reaches_the_legacy(code: int) -> None:
    async with legacy_with(echo) as ends:
        async with ends.caller.ws_connect(ends.proxy.url / "x") as socket:
            await socket.close(code=code, message=b"bye")
        assert await ends.closed.get() == code


@pytest.mark.parametrize("code", [1000, 1011, 1013, 3000, 4001])
async def test_the_legacys_close_code_reaches_the_caller(code: int) -> None:
    async def leave(socket: web.WebSocketResponse) -> None:
        await socket.close(code=code, message=b"bye")

    async with (
        legacy_with(leave) as ends,
        ends.caller.ws_connect(ends.proxy.url / "x") as socket,
    ):
        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, code, "bye")


async def test_a_refused_handshake_is_passed_on_as_it_is() -> None:
    async with legacy_with(echo) as ends:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await ends.caller.ws_connect(ends.proxy.url / "refused")
    assert caught.value.status == 401
    assert caught.value.headers is not None
    assert caught.value.headers["WWW-Authenticate"] == "Basic"


async def test_a_handshake_without_a_legacy_is_502() -> None:
    async with passing(None) as proxy, aiohttp.ClientSession() as caller:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await caller.ws_connect(proxy.url / "x")
    assert caught.value.status == 502


async def tunnel_end(
    legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await legacy.head(reader)
    writer.write(SWITCH + b"first")
    await reader.read()
    legacy.gone.set()


async def test_the_handshake_is_end_to_end_and_bytes_after_it_are_not_lost() -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        writer.write(SWITCH + b"first")
        got.put_nowait(await reader.readexactly(5))

    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, HANDSHAKE + b"early") as (reader, _),
    ):
        head, _, first = (await reader.read()).partition(b"\r\n\r\n")
        assert await got.get() == b"early"
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Legacy: 1\r\n" in head
    assert first == b"first"
    sent = legacy.heads[0]
    assert sent.startswith(b"GET /socket.io/?EIO=4 HTTP/1.1\r\n")
    for line in (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"):
        assert b"\r\n" + line + b"\r\n" in sent


async def test_a_caller_who_vanishes_takes_the_legacys_connection_along() -> None:
    async with raw_legacy(tunnel_end) as legacy, passing(legacy.url) as proxy:
        async with calling(proxy.port, HANDSHAKE) as (reader, writer):
            await reader.readuntil(b"first")
            reset(writer)
        await legacy.gone.wait()


async def test_a_legacy_that_vanishes_takes_the_callers_connection_along() -> None:
    left = asyncio.Event()

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        writer.write(SWITCH + b"first")
        await left.wait()
        reset(writer)

    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, HANDSHAKE) as (reader, _),
    ):
        await reader.readuntil(b"first")
        left.set()
        assert await reader.read() == b""


async def test_hanging_up_ends_every_websocket() -> None:
    async with (
        raw_legacy(tunnel_end) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, HANDSHAKE) as (reader, _),
    ):
        await reader.readuntil(b"first")
        proxy.passthrough.hang_up()
        assert await reader.read() == b""
        await legacy.gone.wait()


async def test_a_slow_reader_of_a_websocket_holds_the_other_side_back() -> None:
    size, sent = 50_000_000, 0

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal sent
        await legacy.head(reader)
        writer.write(SWITCH)
        while sent < size:
            writer.write(bytes(50_000))
            await writer.drain()
            sent += 50_000

    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, HANDSHAKE, buffer_bytes=65536) as (reader, _),
    ):
        await reader.readuntil(b"\r\n\r\n")
        assert await stalled(lambda: sent) < size // 2
        read = 0
        while data := await reader.read(1 << 20):
            read += len(data)
    assert read == size


async def test_other_upgrades_are_not_passed_on() -> None:
    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = await legacy.head(reader)
        assert b"pgrade" not in head
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, HANDSHAKE.replace(b"websocket", b"h2c")) as (reader, _),
    ):
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
