"""Odd requests by the thousand to both ports: each is answered in HTTP, none with a 500."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson
import psutil
import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from yarl import URL

from tests.odd_requests import FOREIGN, OPERATORS, QUESTIONS, OddRequest, OddRequests
from tests.proxies import ProxyProcess
from tests.public_port import EchoLegacy, Reply, make_database

TOKEN = "the-admin-token-that-nobody-may-see"
CONNECTIONS = 12
MEMORY_MB = 16
MOST_GROWN_MB = 80
"""The memory tier, what it may remember beside it, and what the allocator does not give back."""
ANSWER_S = 30.0
PATIENCE_S = 0.3
"""How long a mutilated request is waited for: it may be half of one."""

_HEAD = re.compile(
    rb"HTTP/1\.([01]) [1-5][0-9]{2} [ -~]*\r\n((?:[!#-'*+.^-z|~0-9A-Z-]+: [^\r\n\0]*\r\n)*)\r\n"
)
CONFIG = """
[shadow]
rate = 0.5
[rollout]
steps = [50, 100]
[[cached_routes]]
path = "/api/running"
methods = ["GET", "POST"]
key = ["start_date", "end_date"]
ttl_s = 1
"""
OURS = {400, 401, 403, 404, 405, 408, 409, 413, 414, 417, 431}
NO_LEGACY = "no legacy application is configured (PROXY_LEGACY_URL)"
UNAVAILABLE = re.compile(
    f"{re.escape(NO_LEGACY)}|event streams are open|the legacy application (closed|sent|broke)"
    "|the legacy API sent no JSON|the database was not looked at yet"
)


@dataclass
class Seen:
    """What came back: how many answers by status, and what must not have come."""

    statuses: Counter[int] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    wrong: list[str] = field(default_factory=list)
    secrets: tuple[bytes, ...] = ()

    @property
    def answered(self) -> int:
        return sum(self.statuses.values())

    def note(self, request: OddRequest, reply: Reply, *, is_admin: bool) -> None:
        self.statuses[reply.status] += 1
        reason = self._why_wrong(request, reply, is_admin=is_admin)
        if reason:
            self.wrong.append(f"{reason}: {request.data[:400]!r} -> {reply}"[:1200])

    def _why_wrong(self, request: OddRequest, reply: Reply, *, is_admin: bool) -> str:
        if reply.status == 500:
            return "a 500"
        if any(secret in reply.body for secret in self.secrets):
            return "tells what it must not"
        if "x-evil" in reply.headers:
            return "a header of the caller's making"
        if reply.headers.get("content-type") == "application/x-echo" or reply.status < 400:
            return ""
        if reply.status in (502, 503, 504) and request.method != "HEAD":
            text = _error_in(reply)
            return "" if UNAVAILABLE.search(text) else "unavailable without a reason"
        if reply.status not in OURS and request.method != "HEAD":
            return "a status that nobody was told of"
        if request.method == "HEAD":
            return ""
        if is_admin and reply.headers.get("content-type", "").startswith("text/plain"):
            # A part of the console's page that is not there.
            return "" if reply.status == 404 and b"console" in reply.body else "no JSON"
        text = _error_in(reply)
        self.texts[text[:60]] += 1
        return "" if len(text) > 8 else "no clear text"


def _error_in(reply: Reply) -> str:
    """Empty where it is not the one form of errors."""
    with suppress(orjson.JSONDecodeError):
        told = orjson.loads(reply.body)
        if isinstance(told, dict) and told.keys() == {"success", "error"} and not told["success"]:
            return str(told["error"])
    return ""


class Wire:
    """One connection and what was asked on it. Whatever comes is HTTP, or it raises."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, requests: list[OddRequest]) -> list[Reply]:
        """The answers to `requests`, sent at once. Fewer when the connection was closed."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(
                self._url.host, self._url.port, limit=2**24
            )
        assert self._reader is not None
        replies: list[Reply] = []
        is_framed = all(request.is_framed for request in requests)
        try:
            self._writer.write(b"".join(request.data for request in requests))
            for request in requests:
                async with asyncio.timeout(ANSWER_S if is_framed else PATIENCE_S):
                    replies.append(await self._reply(request))
                if replies[-1].headers.get("connection") == "close":
                    await self.close()
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            await self.close()
        except TimeoutError:
            if is_framed:
                raise
            await self.close()
        if not is_framed:
            await self.close()
        return replies

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with suppress(ConnectionError):
                await self._writer.wait_closed()
        self._reader = self._writer = None

    async def _reply(self, request: OddRequest) -> Reply:
        assert self._reader is not None
        while True:
            head = await self._reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 100"):
                break
        found = _HEAD.fullmatch(head)
        assert found is not None, head
        status = int(head[9:12])
        headers: dict[str, str] = {}
        for line in found[2].decode("latin-1").split("\r\n")[:-1]:
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, head
            headers[name.lower()] = value
        if headers.get("content-type", "").startswith("text/event-stream"):
            # It never ends: its head is its answer.
            return Reply(status, {**headers, "connection": "close"}, b"")
        if found[1] == b"0":
            headers["connection"] = "close"
        body = b""
        if not (request.method == "HEAD" or status in (204, 304)):
            body = await self._body(headers)
        return Reply(status, headers, body)

    async def _body(self, headers: dict[str, str]) -> bytes:
        assert self._reader is not None
        if headers.get("transfer-encoding") == "chunked":
            parts = []
            while length := int(await self._reader.readline(), 16):
                parts.append((await self._reader.readexactly(length + 2))[:-2])
            await self._reader.readexactly(2)
            return b"".join(parts)
        if "content-length" in headers:
            return await self._reader.readexactly(int(headers["content-length"]))
        headers["connection"] = "close"
        return await self._reader.read()


async def fuzz(url: URL, odd: OddRequests, seen: Seen, count: int, *, is_admin: bool) -> None:
    """Ask until `count` requests are answered, on connections that live as long as they may."""
    wire = Wire(url)
    answered = number = 0
    try:
        while answered < count:
            number += 1
            batch = [odd.next() for _ in range(4 if number % 5 == 0 else 1)]
            replies = await wire.ask(batch)
            for request, reply in zip(batch, replies, strict=False):
                seen.note(request, reply, is_admin=is_admin)
            if not replies and all(request.is_framed for request in batch):
                seen.unanswered += 1
            answered += len(replies)
    finally:
        await wire.close()


class EchoHandler(RequestHandler):
    """The legacy's connection: what it refuses is marked as its own."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        response = web.Response(status=400, body=b"refused", content_type="application/x-echo")
        response.force_close()
        return response


class EchoServer(web.Server):
    def __call__(self) -> RequestHandler:
        return EchoHandler(self, loop=self._loop, **self._kwargs)


@asynccontextmanager
async def echoing() -> AsyncIterator[URL]:
    """A legacy that sends back what it was sent."""
    server = EchoServer(EchoLegacy(), access_log=None, auto_decompress=False)
    runner = web.ServerRunner(server, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1])
    finally:
        await runner.cleanup()


@asynccontextmanager
async def stage(folder: Path, has_legacy: bool, workers: int) -> AsyncIterator[ProxyProcess]:
    database = make_database(folder / "data.db")
    settings: dict[str, object] = {"memory_mb": MEMORY_MB, "workers": workers}
    async with echoing() as legacy:
        if has_legacy:
            config = folder / "proxy.toml"
            config.write_text(CONFIG, encoding="utf-8")
            settings |= {
                "config": config,
                "legacy_url": legacy,
                "admin_token": TOKEN,
                "cors_origins": "https://app.example",
            }
        async with ProxyProcess(database, **settings) as proxy:
            await until_ready(proxy)
            yield proxy


async def until_ready(proxy: ProxyProcess) -> None:
    """Until it has looked at its tables; pytest's timeout ends a wait in vain."""
    async with aiohttp.ClientSession() as session:
        status = 0
        while status != 200:
            async with session.get(proxy.admin_url / "health/ready") as response:
                status = response.status


def resident_mb(process: psutil.Process) -> float:
    """Of all its processes."""
    every = [process, *process.children(recursive=True)]
    return sum(one.memory_info().rss for one in every) / 2**20


@pytest.mark.parametrize(
    ("requests", "has_legacy", "workers"),
    [(10_000, True, 1), (2500, False, 1), (2500, True, 2)],
    ids=["10,000 before a legacy", "2,500 alone", "2,500 with two workers"],
)
async def test_odd_requests_get_no_500(
    tmp_path: Path, requests: int, has_legacy: bool, workers: int
) -> None:
    """So many `requests`, not counting those that got no answer."""
    seen = Seen(
        secrets=(TOKEN.encode(), str(tmp_path).encode(), b"Traceback (most", b"/site-packages/")
    )
    authorization = f"Bearer {TOKEN}" if has_legacy else ""
    async with stage(tmp_path, has_legacy, workers) as proxy:
        process = psutil.Process(proxy.pid)
        share = requests // CONNECTIONS

        async def run(count: int, seed: int) -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(CONNECTIONS):
                    is_admin = number % 2 == 0
                    url = proxy.admin_url if is_admin else proxy.url
                    paths = OPERATORS if is_admin else QUESTIONS * 3 + FOREIGN
                    odd = OddRequests(
                        paths, seed + number, authorization=authorization if is_admin else ""
                    )
                    group.create_task(fuzz(url, odd, seen, count, is_admin=is_admin))

        await run(share // 5, seed=1000)
        before = resident_mb(process)
        await run(share - share // 5 + 1, seed=2000)
        grown = resident_mb(process) - before
        assert seen.wrong == []
        assert seen.answered >= requests
        # Much of it was understood, much refused, and nothing that is whole broken off.
        assert seen.statuses[200] > requests / 5
        assert seen.statuses[400] > requests / 10
        assert {401 if has_legacy else 403, 404, 405, 409, 414, 431} <= seen.statuses.keys()
        assert seen.unanswered == 0
        assert grown < MOST_GROWN_MB
        await assert_well(proxy, authorization)


async def assert_well(proxy: ProxyProcess, authorization: str) -> None:
    """It goes on answering as if nothing had been, and nothing went wrong inside."""
    assert proxy.is_running
    question = {"start_date": "2024-06-21", "end_date": "2024-06-30"}
    headers = {"Authorization": authorization} if authorization else {}
    async with aiohttp.ClientSession() as session:
        async with session.post(proxy.url / "data", json=question) as response:
            told = await response.json()
            assert (response.status, len(told["data"])) == (200, 2)
        async with session.get(proxy.admin_url / "admin/status", headers=headers) as response:
            assert response.status == 200
    lines = [json.loads(line) for line in proxy.said if line.startswith("{")]
    assert [line for line in lines if line["level"] in ("error", "critical")] == []
    assert len(lines) == len(proxy.said), "a line that is no JSON"
    assert TOKEN not in "".join(proxy.said)
