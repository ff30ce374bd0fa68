"""A proxy that only passes through, a legacy of raw sockets behind it, a raw caller before it."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiohttp import web
from yarl import URL

from proxy.handlers.passthrough import SERVER_OPTIONS, Passthrough
from proxy.handlers.upstream import open_legacy_session
from proxy.telemetry import Telemetry

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Proxy:
    port: int
    passthrough: Passthrough
    telemetry: Telemetry

    @property
    def url(self) -> URL:
        return URL.build(scheme="http", host="127.0.0.1", port=self.port)

    def errors(self, reason: str) -> float:
        value = self.telemetry.registry.get_sample_value(
            "proxy_upstream_errors_total", {"reason": reason}
        )
        return value or 0.0


@asynccontextmanager
async def passing(
    legacy_url: URL | None,
    *,
    timeout_s: float = 30.0,
    extra_headers: Mapping[str, str] | None = None,
    reads_body: bool = False,
) -> AsyncIterator[Proxy]:
    """A proxy that sends all on to `legacy_url`; `reads_body`: reads the body before."""
    telemetry = Telemetry()
    async with open_legacy_session() as session:
        passthrough = Passthrough(
            legacy_url=legacy_url, session=session, telemetry=telemetry, timeout_s=timeout_s
        )

        async def handler(request: web.Request) -> web.StreamResponse:
            body = await request.read() if reads_body else None
            return await passthrough.forward(request, body=body, extra_headers=extra_headers or {})

        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, **SERVER_OPTIONS)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield Proxy(runner.addresses[0][1], passthrough, telemetry)
        finally:
            passthrough.hang_up()
            await runner.cleanup()


@dataclass
class RawLegacy:
    """Answers each connection with `answer`; keeps what it was sent, head by head."""

    answer: Callable[["RawLegacy", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> URL:
        return URL.build(scheme="http", host="127.0.0.1", port=self.port)

    async def head(self, reader: asyncio.StreamReader) -> bytes:
        """The next request's head; `gone` is set when the connection ends instead."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
            raise
        self.heads.append(head)
        self.asked.set()
        return head


@asynccontextmanager
async def raw_legacy(
    answer: Callable[[RawLegacy, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    *,
    buffer_bytes: int | None = None,
) -> AsyncIterator[RawLegacy]:
    """A legacy of bare streams; `buffer_bytes` makes its kernel buffers small."""
    legacy = RawLegacy(answer)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        legacy.connections += 1
        try:
            await answer(legacy, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            legacy.gone.set()
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = socket.create_server(("127.0.0.1", 0))
    if buffer_bytes is not None:
        shrink(listener, buffer_bytes)
    server = await asyncio.start_server(accept, sock=listener)
    legacy.port = listener.getsockname()[1]
    try:
        yield legacy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def scripted(
    *answers: bytes, closes: bool = True
) -> Callable[[RawLegacy, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Give the n-th request of a connection the n-th answer; then close, or wait to be left."""

    async def answer(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        for data in answers:
            await legacy.head(reader)
            writer.write(data)
            await writer.drain()
        if not closes:
            await reader.read()
            legacy.gone.set()

    return answer


@asynccontextmanager
async def calling(
    port: int, data: bytes = b"", *, buffer_bytes: int | None = None
) -> AsyncIterator[Streams]:
    """A bare connection to the proxy, with `data` already sent."""
    sock = socket.socket()
    if buffer_bytes is not None:
        shrink(sock, buffer_bytes)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock)
    writer.write(data)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def answer_to(port: int, data: bytes) -> bytes:
    """All that comes back for `data` until the connection ends."""
    async with calling(port, data) as (reader, _):
        return await reader.read()


def shrink(sock: socket.socket, buffer_bytes: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)


def reset(writer: asyncio.StreamWriter) -> None:
    """Drop the connection with a RST, as a killed process with unread data does."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def stalled(count: Callable[[], int]) -> int:
    """Wait until `count` stands still over many turns of the loop; return it."""
    last, turns = count(), 0
    while turns < 2000:
        await asyncio.sleep(0)
        now = count()
        turns = 0 if now != last else turns + 1
        last = now
    return last
