"""WorkerProcess: one worker as its supervisor has it. A process, what it says, and its admin."""

import asyncio
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

import proxy
from proxy.workers.link import WorkerLink
from proxy.workers.orders import DRAIN, Orders, Report

log = structlog.get_logger(__name__)

_LONGEST_LINE = 64 * 2**20


class WorkerProcess:
    """Whoever drops it without a word ends it too: the worker notices that nobody is there."""

    def __init__(
        self,
        process: Process,
        link: WorkerLink,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.link: Final = link
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, orders: Orders, listeners: Sequence[socket.socket]) -> "WorkerProcess":
        """Raises OSError when no process can be made."""
        ours, theirs = socket.socketpair()
        try:
            reader, writer = await asyncio.open_connection(sock=ours, limit=_LONGEST_LINE)
            try:
                process = await asyncio.create_subprocess_exec(
                    *_interpreter(),
                    "worker",
                    "--orders",
                    str(theirs.fileno()),
                    stdin=DEVNULL,
                    pass_fds=[theirs.fileno(), *(one.fileno() for one in listeners)],
                    # Ctrl-C on the terminal is for the supervisor, which tells the others.
                    start_new_session=True,
                )
            except BaseException:
                writer.close()
                raise
        finally:
            theirs.close()
        writer.write(orders.as_line())
        return cls(process, WorkerLink(orders.admin_path, orders.admin_token), reader, writer)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def reports(self) -> AsyncIterator[Report]:
        """What it says, until it is gone."""
        try:
            async for line in self._reader:
                yield Report.from_line(line)
        except ConnectionError:
            return
        except ValueError as error:
            # What it says next cannot be understood either.
            log.error("worker_not_understood", pid=self.pid, error=str(error))
            self.kill()

    async def ended(self) -> int:
        """Its exit code, once it has ended; minus the signal that ended it."""
        return await self._process.wait()

    def drain(self) -> None:
        """Have it accept nothing more, answer what still comes, and leave."""
        if not self._writer.is_closing():
            self._writer.write(DRAIN)

    def terminate(self) -> None:
        """Have it leave as soon as it has answered what it has begun."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """Let go of what was needed to talk to it. It has ended."""
        self._writer.close()
        await self.link.__aexit__(None, None, None)

    def __repr__(self) -> str:
        return f"<WorkerProcess pid={self.pid}>"


def _interpreter() -> list[str]:
    """The command line of this program, found where this process found it.

    Only a process that was started from the sources looks in the directory it runs
    in: anywhere else something that happens to be called `proxy` may lie there.
    """
    sources = Path(proxy.__file__).parent.parent
    is_from_sources = bool(sys.path[0]) and Path(sys.path[0]).resolve() == sources
    return [sys.executable, *([] if is_from_sources else ["-P"]), "-m", "proxy"]
