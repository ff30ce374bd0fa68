"""The caller's body on its way, and whose time is counted."""

import asyncio

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from tests.intermediary import RawLegacy, calling, passing, raw_legacy

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET /stuck HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def a_limit_passes(port: int) -> None:
    """Return when a request that began now has run into the limit."""
    async with calling(port, GET) as (reader, _):
        assert (await reader.read()).startswith(b"HTTP/1.1 504 ")


async def test_a_caller_who_uploads_slowly_is_not_timed_out() -> None:
    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if b"/stuck" in await legacy.head(reader):
            await reader.read()
            return
        assert await reader.readexactly(4) == b"abcd"
        writer.write(OK)

    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url, timeout_s=0.05) as proxy,
        calling(proxy.port, head) as (reader, writer),
    ):
        await legacy.asked.wait()
        await a_limit_passes(proxy.port)
        writer.write(b"ab")
        await a_limit_passes(proxy.port)
        writer.write(b"cd")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")


async def test_a_long_body_that_flows_is_not_timed_out() -> None:
    more = asyncio.Event()

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if b"/stuck" in await legacy.head(reader):
            await reader.read()
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await more.wait()
        writer.write(b"cd")

    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url, timeout_s=0.05) as proxy,
        calling(proxy.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as (reader, _),
    ):
        await reader.readuntil(b"ab")
        await a_limit_passes(proxy.port)
        more.set()
        assert await reader.readexactly(2) == b"cd"


async def test_a_legacy_that_takes_the_whole_body_and_is_silent_is_timed_out() -> None:
    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        await reader.readexactly(4)
        await reader.read()
        legacy.gone.set()

    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url, timeout_s=0.05) as proxy,
        calling(proxy.port, head + b"abcd") as (reader, _),
    ):
        assert (await reader.read()).startswith(b"HTTP/1.1 504 ")
        await legacy.gone.wait()


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 4\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"]
)
async def test_the_head_is_sent_before_the_caller_begins_his_body(framing: bytes) -> None:
    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        await reader.read()

    head = b"POST / HTTP/1.1\r\nHost: x\r\n" + framing
    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, head),
    ):
        await legacy.asked.wait()


async def test_chunks_go_on_as_they_come() -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = await legacy.head(reader)
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        for _ in range(3):
            size = int(await reader.readline(), 16)
            got.put_nowait(await reader.readexactly(size))
            await reader.readexactly(2)
        writer.write(OK)

    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, head) as (reader, writer),
    ):
        for chunk in (b"a", b"bb"):
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            assert await got.get() == chunk
        writer.write(b"0\r\n\r\n")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")


async def test_a_legacy_that_leaves_during_the_upload_is_502(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if b"POST" in await legacy.head(reader):
            await reader.readexactly(2)

    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, head + b"ab") as (reader, writer),
    ):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
        await reader.readuntil(b"}")
        writer.write(bytes(998) + GET.replace(b"/stuck", b"/next"))
        assert (await reader.read()).startswith(b"HTTP/1.1 502 ")
        assert len(legacy.heads) == 2
    assert not caplog.records


async def test_a_body_that_breaks_off_is_not_the_legacys_fault() -> None:
    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        await reader.read()
        legacy.gone.set()

    loop = asyncio.get_running_loop()
    body = aiohttp.StreamReader(BaseProtocol(loop), 65536, loop=loop)
    body.set_exception(ConnectionResetError("the caller is gone"))
    request = make_mocked_request("POST", "/", {"Transfer-Encoding": "chunked"}, payload=body)
    async with raw_legacy(answer) as legacy, passing(legacy.url) as proxy:
        response = await proxy.passthrough.forward(request)
        assert response.status == 400
        assert proxy.errors("disconnected") == 0
        await legacy.gone.wait()
