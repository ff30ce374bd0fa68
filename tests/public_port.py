"""A whole proxy on a free port, a legacy that sends back what it was sent, and a bare caller."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from aiohttp import web
from yarl import URL

from proxy.app import Running, run_proxy
from proxy.clock import Clock
from proxy.demo.data import Size, make_demo
from proxy.settings import Settings

END = date(2024, 6, 30)
SMALL = Size(campaigns=2, adsets=2, ads=2, days=10)


def make_database(path: Path, size: Size | str = SMALL) -> Path:
    make_demo(path, None, size=size, end=END)
    return path


@asynccontextmanager
async def serving(
    database: Path, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[Running]:
    """The proxy on `database`, with no file of its own left behind."""
    made = Settings(
        database=str(database),
        port=0,
        admin_port=0,
        state=database.with_name("state.db"),
        **settings,
    )
    async with run_proxy(made, clock) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Reply:
    """One response; names of `headers` in lower case, in the order they came."""

    status: int
    headers: dict[str, str]
    body: bytes
    version: str = "HTTP/1.1"


@dataclass
class EchoLegacy:
    """Answers 200 with the method, the target and the body it was sent; counts its questions."""

    url: URL = field(default_factory=URL)
    asked: list[bytes] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        self.heads.append("\n".join(f"{name}: {value}" for name, value in request.headers.items()))
        self.asked.append(f"{request.method} {request.raw_path}\n".encode() + body)
        return web.Response(body=self.asked[-1], content_type="application/x-echo")


@asynccontextmanager
async def echo_legacy() -> AsyncIterator[EchoLegacy]:
    legacy = EchoLegacy()
    server = web.Server(legacy, access_log=None, auto_decompress=False)
    runner = web.ServerRunner(server, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        legacy.url = URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1])
        yield legacy
    finally:
        await runner.cleanup()


class Caller:
    """One connection. Reads answers one by one; what is left over is the next answer's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ask(self, data: bytes) -> Reply:
        self.send(data)
        return await self.reply(is_head=data.startswith(b"HEAD"))

    async def reply(self, *, is_head: bool = False) -> Reply:
        """The next answer. IncompleteReadError or ConnectionError when there is none."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        version, status, *_ = first.split(" ")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            assert name.lower() not in headers, f"two headers {name}"
            headers[name.lower()] = value.strip()
        body = b""
        if not (is_head or status in ("204", "304") or status.startswith("1")):
            body = await self._body(headers)
        return Reply(int(status), headers, body, version)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            parts = []
            while length := int(await self.reader.readline(), 16):
                parts.append((await self.reader.readexactly(length + 2))[:-2])
            await self.reader.readexactly(2)
            return b"".join(parts)
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        return await self.reader.read()


@asynccontextmanager
async def calling(url: URL, *, buffer_bytes: int | None = None) -> AsyncIterator[Caller]:
    """A connection to `url`; `buffer_bytes` makes the kernel's buffers at this end small."""
    sock = socket.socket()
    if buffer_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (url.host, url.port))
    except BaseException:
        sock.close()
        raise
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def ask(url: URL, data: bytes) -> Reply:
    """The answer to `data` on a connection of its own."""
    async with calling(url) as caller:
        return await caller.ask(data)


def post(path: str, body: bytes, *headers: str) -> bytes:
    """The bytes of a POST."""
    return message("POST", path, f"Content-Length: {len(body)}", *headers, body=body)


def get(target: str, *headers: str) -> bytes:
    return message("GET", target, *headers)


def message(method: str, target: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: dash", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def counted(running: Running, route: str, source: str, result: str) -> float:
    """Requests answered so, by the metrics."""
    labels = {"route": route, "source": source, "result": result}
    registry = running.telemetry.registry
    return registry.get_sample_value("proxy_requests_total", labels) or 0.0
