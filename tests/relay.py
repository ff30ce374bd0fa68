"""A TCP relay that a test puts between a client and a server, to disturb what comes back."""

import asyncio
import socket
import struct
from types import TracebackType
from typing import Self


class Relay:
    """Passes bytes both ways. Replies wait while `is_held`, or are cut off by a reset.

    `cut_after` bytes of replies the client's connection is reset, once. Each
    reply comes `delay_s` late.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.cut_after: int | None = None
        self.delay_s = 0.0
        self.connections = 0
        self.asked = b""
        """What clients have sent, all of them."""
        self.withheld = 0
        """Bytes of replies that came while replies were held."""

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    def hold(self) -> None:
        self._flowing.clear()

    def release(self) -> None:
        self._flowing.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._ask(reader, up_writer))
                both.create_task(self._reply(up_reader, writer))
        except* OSError:
            pass
        finally:
            up_writer.close()
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.asked += data
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self._flowing.is_set():
                self.withheld += len(data)
                await self._flowing.wait()
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.cut_after is not None and len(data) >= self.cut_after:
                writer.write(data[: self.cut_after])
                await writer.drain()
                self.cut_after = None
                self._reset(writer)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        # Closing with a linger of zero seconds sends a reset.
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        raise ConnectionResetError
