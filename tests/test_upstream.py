"""The session that requests go out on: once each, on a living connection."""

import asyncio

import aiohttp
import pytest

from proxy.errors import BackendTimeout, BackendUnavailable
from proxy.handlers.upstream import open_legacy_session, translate
from tests.intermediary import RawLegacy, raw_legacy, scripted

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def closes_upon_the_second(
    legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await legacy.head(reader)
    writer.write(OK)
    await legacy.head(reader)


async def test_a_request_that_meets_a_dying_connection_is_not_sent_again() -> None:
    async with raw_legacy(closes_upon_the_second) as legacy, open_legacy_session() as session:
        async with session.get(legacy.url) as answer:
            assert await answer.read() == b"ok"
        with pytest.raises(BackendUnavailable) as caught:
            await session.get(legacy.url)
    assert caught.value.reason == "disconnected"
    assert (len(legacy.heads), legacy.connections) == (2, 1)


async def test_aiohttp_by_itself_would_send_it_again() -> None:
    async with raw_legacy(closes_upon_the_second) as legacy, aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.get(legacy.url) as answer:
                assert await answer.read() == b"ok"
    assert (len(legacy.heads), legacy.connections) == (3, 2)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_an_unsafe_request_never_meets_a_used_connection(method: str) -> None:
    async with raw_legacy(closes_upon_the_second) as legacy, open_legacy_session() as session:
        for verb in ("GET", method, method):
            async with session.request(verb, legacy.url) as answer:
                assert await answer.read() == b"ok"
    assert (len(legacy.heads), legacy.connections) == (3, 3)
    assert b"\r\nConnection: close\r\n" in legacy.heads[1]


async def test_a_safe_request_reuses_a_connection() -> None:
    async with raw_legacy(scripted(OK, OK)) as legacy, open_legacy_session() as session:
        for _ in range(2):
            async with session.get(legacy.url) as answer:
                assert await answer.read() == b"ok"
    assert legacy.connections == 1


async def test_a_request_adds_nothing_and_keeps_no_cookies() -> None:
    script = scripted(OK.replace(b"OK\r\n", b"OK\r\nSet-Cookie: a=1\r\n"), OK)
    async with raw_legacy(script) as legacy, open_legacy_session() as session:
        for _ in range(2):
            async with session.get(legacy.url) as answer:
                await answer.read()
    host = f"Host: 127.0.0.1:{legacy.port}"
    assert legacy.heads == [f"GET / HTTP/1.1\r\n{host}\r\n\r\n".encode()] * 2


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (aiohttp.ConnectionTimeoutError("x"), BackendTimeout, "timeout"),
        (TimeoutError(), BackendTimeout, "timeout"),
        (aiohttp.ServerDisconnectedError(), BackendUnavailable, "disconnected"),
        (aiohttp.ClientOSError(104, "reset"), BackendUnavailable, "disconnected"),
        (OSError(32, "pipe"), BackendUnavailable, "disconnected"),
    ],
)
def test_each_failure_has_its_word(error: Exception, kind: type[Exception], reason: str) -> None:
    translated = translate(error)
    assert isinstance(translated, kind)
    assert translated.reason == reason
