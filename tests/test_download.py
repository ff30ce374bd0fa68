"""Answers that break off: the caller must not take the part for the whole."""

import asyncio

import pytest

from tests.intermediary import RawLegacy, calling, passing, raw_legacy, reset, scripted

OK = b"HTTP/1.1 200 OK\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"Content-Length: 10\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"Transfer-Encoding: chunked\r\n\r\na\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ],
)
async def test_a_short_body_breaks_off_the_callers_connection(answer: bytes) -> None:
    async with (
        raw_legacy(scripted(OK + answer)) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, GET) as (reader, _),
    ):
        back = await reader.read()
        assert not back.endswith(b"0\r\n\r\n")
        if b"Content-Length" in answer:
            assert b"Content-Length: 10\r\n" in back
        assert proxy.errors("cut_off") + proxy.errors("disconnected") == 1


async def test_what_came_before_the_break_has_been_passed_on() -> None:
    half = asyncio.Event()

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        writer.write(OK + b"Content-Length: 10\r\n\r\nhello")
        await half.wait()

    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, GET) as (reader, _),
    ):
        await reader.readuntil(b"hello")
        half.set()
        assert await reader.read() == b""
        assert proxy.errors("cut_off") == 1


@pytest.mark.parametrize("rubbish", [b"zz\r\nfoo\r\n", b"-5\r\nhello\r\n", b"5\r\nhello,more\r\n"])
async def test_a_malformed_chunk_breaks_off_the_callers_connection(rubbish: bytes) -> None:
    half = asyncio.Event()

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        await half.wait()
        writer.write(rubbish)
        await reader.read()

    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, GET) as (reader, _),
    ):
        await reader.readuntil(b"ab\r\n")
        half.set()
        assert not (await reader.read()).endswith(b"0\r\n\r\n")
        assert proxy.errors("cut_off") == 1


@pytest.mark.parametrize("request_", [GET, OLD])
async def test_a_reset_is_no_end_of_a_body_that_has_no_length(request_: bytes) -> None:
    half = asyncio.Event()

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        writer.write(OK + b"\r\nhello")
        await half.wait()
        reset(writer)

    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, request_) as (reader, _),
    ):
        await reader.readuntil(b"hello")
        half.set()
        if request_ is OLD:
            with pytest.raises(ConnectionResetError):
                await reader.read()
        else:
            assert not (await reader.read()).endswith(b"0\r\n\r\n")
        assert proxy.errors("cut_off") == 1


async def test_a_broken_answer_does_not_harm_the_next() -> None:
    good = OK + b"Content-Length: 2\r\n\r\nok"
    answers = [OK + b"Content-Length: 10\r\n\r\nhello", good]

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        writer.write(answers.pop(0))

    async with raw_legacy(answer) as legacy, passing(legacy.url) as proxy:
        async with calling(proxy.port, GET) as (reader, _):
            await reader.read()
        async with calling(proxy.port, GET) as (reader, _):
            assert (await reader.readuntil(b"ok")).startswith(OK)


async def test_a_reused_connection_still_tells_of_a_malformed_chunk() -> None:
    half = asyncio.Event()
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        writer.write(chunked)
        await half.wait()
        half.clear()
        writer.write(b"0\r\n\r\n")
        await legacy.head(reader)
        writer.write(chunked)
        await half.wait()
        writer.write(b"zz\r\n")
        await reader.read()

    async with (
        raw_legacy(answer) as legacy,
        passing(legacy.url) as proxy,
        calling(proxy.port, GET) as (reader, writer),
    ):
        await reader.readuntil(b"ab\r\n")
        half.set()
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(GET)
        await reader.readuntil(b"ab\r\n")
        half.set()
        assert await reader.read() == b""
        assert legacy.connections == 1
        assert proxy.errors("cut_off") == 1
