"""The whole way through: what the legacy is sent, what the caller gets, who notices a parting."""

import asyncio
import gzip

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from yarl import URL

from tests.intermediary import RawLegacy, answer_to, calling, passing, raw_legacy, scripted, stalled

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
CLOSE = b"Host: dash\r\nConnection: close\r\n\r\n"


async def silent(
    legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await legacy.head(reader)
    await legacy.head(reader)


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
)
async def test_any_method_goes_through(method: str) -> None:
    script = scripted(EMPTY if method == "HEAD" else OK)
    async with raw_legacy(script) as legacy, passing(legacy.url) as proxy:
        answer = await answer_to(proxy.port, method.encode() + b" /x HTTP/1.1\r\n" + CLOSE)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert legacy.heads[0].startswith(method.encode() + b" /x HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "target",
    [
        b"/a%2Fb//c",
        b"/%zz?%",
        b"/x?a=b&a=b&c=+%20",
        b"/x?",
        b"/%C3%A9?%fc=1",
        b"//host/x",
        b"/a/../b/./c;p=1",
        b"/[]|^`{}?[]",
    ],
)
async def test_path_and_query_go_on_byte_for_byte(target: bytes) -> None:
    async with raw_legacy(scripted(OK)) as legacy, passing(legacy.url) as proxy:
        answer = await answer_to(proxy.port, b"GET " + target + b" HTTP/1.1\r\n" + CLOSE)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert legacy.heads[0].split(b"\r\n")[0] == b"GET " + target + b" HTTP/1.1"


async def test_the_legacy_sees_the_callers_headers_and_nothing_of_the_clients_own() -> None:
    request = (
        b"POST /x HTTP/1.1\r\nX-A: 1\r\nContent-Length: 2\r\nKeep-Alive: 5\r\n" + CLOSE + b"hi"
    )
    async with raw_legacy(scripted(OK)) as legacy, passing(legacy.url) as proxy:
        await answer_to(proxy.port, request)
    lines = legacy.heads[0].decode().split("\r\n")
    assert sorted(lines[1:-2]) == sorted(
        [
            f"Host: 127.0.0.1:{legacy.port}",
            "X-A: 1",
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: dash",
            "Via: 1.1 dashboard-proxy",
            "Content-Length: 2",
            "Connection: close",
        ]
    )


async def test_compression_redirects_and_cookies_are_left_alone() -> None:
    packed = gzip.compress(b"x" * 1000)
    bodies: list[bytes] = []

    async def handler(request: web.Request) -> web.Response:
        bodies.append(await request.content.read())
        assert request.headers.get("Cookie") is None
        response = web.Response(
            status=302, body=packed, headers={"Location": "/y", "Content-Encoding": "gzip"}
        )
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1])
    async with (
        passing(url) as proxy,
        aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as caller,
    ):
        for _ in range(2):
            async with caller.post(
                proxy.url / "x",
                data=packed,
                headers={"Content-Encoding": "gzip"},
                allow_redirects=False,
            ) as answer:
                assert (answer.status, await answer.read()) == (302, packed)
                assert answer.headers["Content-Length"] == str(len(packed))
                assert len(answer.headers.getall("Set-Cookie")) == 2
    await runner.cleanup()
    assert bodies == [packed, packed]


async def test_a_body_read_before_is_sent_on_byte_for_byte() -> None:
    sent = b'{ "start_date" :"\xff" }'

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        legacy.heads.append(await reader.readexactly(len(sent)))
        writer.write(OK)

    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + CLOSE
    chunks = b"5\r\n" + sent[:5] + b"\r\n%x\r\n" % len(sent[5:]) + sent[5:] + b"\r\n0\r\n\r\n"
    async with raw_legacy(answer) as legacy, passing(legacy.url, reads_body=True) as proxy:
        back = await answer_to(proxy.port, head + chunks)
    assert back.endswith(b"\r\n\r\nok")
    assert f"Content-Length: {len(sent)}\r\n".encode() in legacy.heads[0]
    assert b"Transfer-Encoding" not in legacy.heads[0]
    assert legacy.heads[1] == sent


async def test_extra_headers_are_set_on_answers_and_on_failures() -> None:
    extra = {"X-Dashboard-Source": "legacy"}
    async with raw_legacy(scripted(OK)) as legacy, passing(legacy.url, extra_headers=extra) as p:
        assert b"X-Dashboard-Source: legacy\r\n" in await answer_to(
            p.port, b"GET / HTTP/1.1\r\n" + CLOSE
        )
    async with passing(None, extra_headers=extra) as p:
        assert b"X-Dashboard-Source: legacy\r\n" in await answer_to(
            p.port, b"GET / HTTP/1.1\r\n" + CLOSE
        )


async def failure(port: int, request: bytes = b"GET /x HTTP/1.1\r\n") -> tuple[int, str]:
    """Status and text of a JSON error."""
    head, _, body = (await answer_to(port, request + CLOSE)).partition(b"\r\n\r\n")
    assert b"\r\nContent-Type: application/json" in head
    parsed = orjson.loads(body)
    assert parsed["success"] is False
    return int(head.split()[1]), parsed["error"]


async def test_without_a_legacy_the_error_names_the_setting() -> None:
    async with passing(None) as proxy:
        status, text = await failure(proxy.port)
        assert proxy.errors("unconfigured") == 1
    assert status == 502
    assert "PROXY_LEGACY_URL" in text


async def test_connect_is_refused() -> None:
    async with passing(URL("http://127.0.0.1:1")) as proxy:
        response = await proxy.passthrough.forward(make_mocked_request("CONNECT", "other:1"))
        assert response.status == 400
        assert proxy.errors("unreachable") == 0


async def test_an_unreachable_legacy_is_502() -> None:
    async with raw_legacy(scripted(OK)) as legacy:
        gone = legacy.url
    async with passing(gone) as proxy:
        assert (await failure(proxy.port))[0] == 502
        assert proxy.errors("unreachable") == 1


async def test_a_silent_legacy_is_504_and_is_let_go() -> None:
    async with raw_legacy(silent) as legacy, passing(legacy.url, timeout_s=0.05) as proxy:
        status, text = await failure(proxy.port)
        assert proxy.errors("timeout") == 1
        await legacy.gone.wait()
    assert status == 504
    assert "0.05 s" in text


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "malformed"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nX-A: \x01\r\nContent-Length: 0\r\n\r\n", "malformed"),
        (b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "malformed"),
        (b"", "disconnected"),
        (b"HTTP/1.1 200 OK\r\nContent-", "disconnected"),
    ],
)
async def test_an_answer_that_is_none_is_502(answer: bytes, reason: str) -> None:
    async with raw_legacy(scripted(answer)) as legacy, passing(legacy.url) as proxy:
        assert (await failure(proxy.port))[0] == 502
        assert proxy.errors(reason) == 1
        assert len(legacy.heads) == 1


async def test_a_long_poll_is_answered_when_the_legacy_has_something_to_say() -> None:
    news = asyncio.Event()

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        await news.wait()
        writer.write(OK)

    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, b"GET /socket.io/ HTTP/1.1\r\n" + CLOSE) as (reader, _),
    ):
        await legacy.asked.wait()
        assert reader._buffer == b""  # type: ignore[attr-defined]
        news.set()
        assert (await reader.read()).endswith(b"ok")


async def test_a_caller_who_leaves_before_the_answer_cancels_the_request() -> None:
    async with raw_legacy(silent) as legacy, passing(legacy.url) as proxy:
        async with calling(proxy.port, b"GET / HTTP/1.1\r\n" + CLOSE):
            await legacy.asked.wait()
        await legacy.gone.wait()
        assert proxy.errors("disconnected") == 0


@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_a_caller_who_leaves_during_the_answer_cancels_it(framing: bytes) -> None:
    start = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n2\r\nab\r\n"
    async with (
        raw_legacy(scripted(start, closes=False)) as legacy,
        passing(legacy.url) as proxy,
    ):
        async with calling(proxy.port, b"GET / HTTP/1.1\r\n" + CLOSE) as (reader, _):
            await reader.readuntil(b"ab")
        await legacy.gone.wait()
        assert proxy.errors("cut_off") == 0


@pytest.mark.parametrize("framing", [b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_a_caller_who_leaves_during_his_upload_is_no_short_request(framing: bytes) -> None:
    rest: list[bytes] = []

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        try:
            while data := await reader.read(100):
                rest.append(data)
        finally:
            legacy.gone.set()

    async with raw_legacy(answer) as legacy, passing(legacy.url) as proxy:
        async with calling(proxy.port, b"POST / HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n") as (
            _,
            writer,
        ):
            writer.write(b"2\r\nab\r\n")
            await legacy.asked.wait()
        await legacy.gone.wait()
    assert b"0\r\n\r\n" not in b"".join(rest)
    assert len(b"".join(rest)) < 9


async def test_a_slow_reader_holds_the_legacy_back() -> None:
    size, piece = 50_000_000, bytes(65536)
    sent = 0

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal sent
        await legacy.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            part = piece[: size - sent]
            writer.write(part)
            await writer.drain()
            sent += len(part)

    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, b"GET / HTTP/1.1\r\n" + CLOSE, buffer_bytes=65536) as (reader, _),
    ):
        await reader.readuntil(b"\r\n\r\n")
        held = await stalled(lambda: sent)
        assert held < size // 2, "only the kernel's buffers may be ahead of the reader"
        read = 0
        while data := await reader.read(1 << 20):
            read += len(data)
    assert read == size == sent


async def test_a_slow_legacy_holds_the_upload_back() -> None:
    size, piece = 50_000_000, bytes(65536)
    sent = 0
    awake = asyncio.Event()
    got = 0

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal got
        await legacy.head(reader)
        await awake.wait()
        while got < size:
            got += len(await reader.read(1 << 20))
        writer.write(OK)

    async with (
        raw_legacy(answer, buffer_bytes=65536) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port) as (reader, writer),
    ):

        async def upload() -> None:
            nonlocal sent
            writer.write(b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n" % size + CLOSE)
            while sent < size:
                part = piece[: size - sent]
                writer.write(part)
                await writer.drain()
                sent += len(part)

        async with asyncio.TaskGroup() as group:
            group.create_task(upload())
            await legacy.asked.wait()
            assert await stalled(lambda: sent) < size // 2
            awake.set()
        assert (await reader.read()).endswith(b"ok")
    assert got == size


async def test_many_streams_flow_at_once() -> None:
    everyone = asyncio.Barrier(100)

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = await legacy.head(reader)
        name = head.split()[1]
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + name)
        await everyone.wait()
        for _ in range(20):
            writer.write(name * 100)
            await writer.drain()

    async with raw_legacy(answer) as legacy, passing(legacy.url) as proxy:

        async def call(number: int) -> None:
            name = b"/%03d" % number
            async with calling(proxy.port, b"GET %s HTTP/1.0\r\n\r\n" % name) as (reader, _):
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.0 200 OK")
            assert body == name * 2001

        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(call(number))
    assert legacy.connections == 100


async def test_an_early_answer_is_passed_on_while_the_upload_goes_on() -> None:
    too_large = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    async with (
        raw_legacy(scripted(too_large, closes=False)) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, head + b"first") as (reader, _),
    ):
        assert (await reader.readuntil(b"big")).startswith(b"HTTP/1.1 413 Too Large\r\n")
        await legacy.gone.wait()


async def test_both_directions_stream_at_the_same_time() -> None:
    async def echo(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        for _ in range(3):
            writer.write(await reader.readexactly(2))

    head = b"POST / HTTP/1.1\r\nContent-Length: 6\r\n" + CLOSE
    async with (
        raw_legacy(echo) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, head) as (reader, writer),
    ):
        await reader.readuntil(b"\r\n\r\n")
        for piece in (b"ab", b"cd", b"ef"):
            writer.write(piece)
            assert await reader.readexactly(2) == piece


async def test_expect_100_continue_is_answered_and_the_body_sent() -> None:
    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = await legacy.head(reader)
        assert b"xpect" not in head
        assert await reader.readexactly(2) == b"hi"
        writer.write(OK)

    head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n" + CLOSE
    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, head) as (reader, writer),
    ):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert (await reader.read()).endswith(b"\r\n\r\nok")


async def test_nothing_is_cached() -> None:
    cacheable = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 1\r\n\r\n"
    script = scripted(cacheable + b"1", cacheable + b"2")
    async with raw_legacy(script) as legacy, passing(legacy.url) as proxy:
        for body in (b"1", b"2"):
            answer = await answer_to(proxy.port, b"GET /a HTTP/1.1\r\n" + CLOSE)
            assert answer.endswith(b"\r\n\r\n" + body)
    assert len(legacy.heads) == 2


async def test_the_callers_connection_is_kept_for_his_next_request() -> None:
    request = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
    async with (
        raw_legacy(scripted(OK, OK)) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, request + request) as (reader, _),
    ):
        for _ in range(2):
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK\r\n")
