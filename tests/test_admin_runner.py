"""The admin port refuses what is wrong at once, as JSON, whatever it is."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs

from proxy.app import Running
from tests.public_port import Reply, ask, calling, make_database, message, serving

END_REBUILD = b'{"action":"end"}'


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with serving(make_database(tmp_path / "tables.db")) as running:
        yield running


def error_in(reply: Reply) -> str:
    assert reply.headers["content-type"] == "application/json"
    told = orjson.loads(reply.body)
    assert (told.keys(), told["success"]) == ({"success", "error"}, False)
    return str(told["error"])


def asked(method: str, target: str, *headers: str, body: bytes = b"") -> bytes:
    return message(method, target, *headers, body=body).replace(b"Host: dash", b"Host: localhost")


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (asked("GET", "/nothing"), 404, "no such path: GET /admin/openapi.json lists them"),
        (asked("GET", "/admin/nothing"), 404, "no such path: GET /admin/openapi.json lists them"),
        (asked("POST", "/metrics"), 405, "'POST' is not for this path. Must be one of: ['GET',"),
        (asked("PUT", "/admin/rollback"), 405, "Must be one of: ['DELETE', 'POST']"),
        (asked("GET", "/metrics", "Expect: wonders"), 417, "Unknown Expect: wonders"),
        (b"RUBBISH\r\n\r\n", 400, "Bad request: Invalid method encountered"),
        (asked("GET", "*"), 400, "Bad request: the URL is malformed"),
        (asked("GET", "/" + "x" * 9000), 414, "The URL is too long. Must be at most 8190 bytes"),
        (asked("GET", "/metrics", "X: " + "x" * 9000), 431, "A header is too long"),
        (asked("GET", "/admin/status", "Content_Length: 5"), 400, "Content_Length is ambiguous"),
    ],
)
async def test_what_it_does_not_take_is_refused_as_json(
    running: Running, data: bytes, status: int, text: str
) -> None:
    reply = await ask(running.admin_url, data)
    assert reply.status == status
    assert text in error_in(reply)


@pytest.mark.parametrize("path", ["/health/live", "/admin/status", "/admin/openapi.json"])
@pytest.mark.parametrize("host", ["127.0.0.1:99999999", "[::1]:x", "localhost:-1"])
async def test_a_host_that_is_none_is_no_failure_of_ours(
    running: Running, path: str, host: str
) -> None:
    reply = await ask(running.admin_url, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert reply.status == 400
    assert error_in(reply) == "Invalid Host header. Must be a host, or host:port"


async def test_a_405_says_what_is_allowed(running: Running) -> None:
    reply = await ask(running.admin_url, asked("POST", "/health/live"))
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "GZIP"])
async def test_a_compressed_body_is_refused(running: Running, coding: str) -> None:
    body = gzip.compress(END_REBUILD)
    headers = (f"Content-Length: {len(body)}", f"Content-Encoding: {coding}")
    reply = await ask(running.admin_url, asked("POST", "/admin/rebuild", *headers, body=body))
    assert reply.status == 400
    assert error_in(reply) == "Invalid request body. Must not be compressed"


async def test_malformed_chunks_are_refused_at_once(running: Running) -> None:
    head = asked("POST", "/admin/rebuild", "Transfer-Encoding: chunked")
    async with calling(running.admin_url) as caller, asyncio.timeout(10):
        caller.send(head + b"5\r\nabcde\r\n")
        # By the time that another is answered, the handler reads and waits for the rest.
        assert (await ask(running.admin_url, asked("GET", "/health/live"))).status == 200
        caller.send(b"nonsense\r\n")
        reply = await caller.reply()
        assert (reply.status, await caller.reader.read()) == (400, b"")
    assert error_in(reply) == "Invalid request body. Its chunks are malformed"


async def test_a_caller_who_leaves_amid_its_body_is_no_error_of_ours(running: Running) -> None:
    head = asked("POST", "/admin/rebuild", "Content-Length: 1000")
    with capture_logs() as logs:
        async with calling(running.admin_url) as caller:
            caller.send(head + END_REBUILD)
        async with calling(running.admin_url) as caller:
            # Its own answer comes after the other's connection was seen to be gone.
            for _ in range(3):
                assert (await caller.ask(asked("GET", "/health/live"))).status == 200
    assert [line for line in logs if line["log_level"] == "error"] == []
