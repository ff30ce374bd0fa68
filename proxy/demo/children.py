"""The demo's programs as child processes that never outlive it."""

import asyncio
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from proxy.errors import ProxyError

_BETWEEN_TRIES_S = 0.02
_LOCAL = "127.0.0.1"


class ChildError(ProxyError):
    """One of the demo's programs did not start or has stopped."""


@dataclass(frozen=True, slots=True)
class Child:
    """A program that runs. `log` is where it writes what it has to say."""

    name: str
    process: Process
    log: Path

    def check(self) -> None:
        """Raises ChildError, with the last of its log, when it has stopped."""
        if self.process.returncode is not None:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last = f": {lines[-1]}" if lines else ""
            raise ChildError(f"the demo's {self.name} has stopped{last} (see {self.log})")


class Children:
    """Starts programs of this project; all are stopped when the context is left, however it is.

    Each runs in a session of its own: Ctrl-C reaches the demo, and the demo
    stops them in its own time. One that does not stop is killed. Should the
    demo itself be killed, the leash ends them.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str], *, stop_s: float = 5.0) -> None:
        self._folder = folder
        self._environ = dict(environ)
        self._stop_s = stop_s
        self._started: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        running = [c.process for c in self._started if c.process.returncode is None]
        for process in running:
            process.terminate()
        try:
            async with asyncio.timeout(self._stop_s):
                for process in running:
                    await process.wait()
        except TimeoutError:
            # Killed below.
            pass
        finally:
            for process in running:
                if process.returncode is None:
                    process.kill()
        for process in running:
            await process.wait()

    async def start(
        self,
        name: str,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        is_heard: bool = False,
    ) -> Child:
        """Run `python -m` with `arguments`. When `is_heard` its stdout is a pipe to read from."""
        log = self._folder / f"{name}.log"
        with ExitStack() as stack:
            file = stack.enter_context(log.open("wb"))
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "proxy.demo.leash",
                *arguments,
                stdin=PIPE,
                stdout=PIPE if is_heard else file,
                stderr=file if is_heard else STDOUT,
                env={**self._environ, **(environ or {})},
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._started.append(child)
        return child

    def __repr__(self) -> str:
        running = [c.name for c in self._started if c.process.returncode is None]
        return f"<Children running={running}>"


async def until_listening(child: Child, port: int, *, timeout_s: float = 30.0) -> None:
    """Return once `port` accepts connections. Raises ChildError when the child stops before."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                child.check()
                try:
                    _, writer = await asyncio.open_connection(_LOCAL, port)
                except OSError:
                    await asyncio.sleep(_BETWEEN_TRIES_S)
                else:
                    writer.close()
                    return
    except TimeoutError as error:
        raise ChildError(f"the demo's {child.name} does not listen (see {child.log})") from error


def free_ports(*preferred: int) -> list[int]:
    """Free ports of this machine: each preferred one if it is free, else any."""
    with ExitStack() as stack:
        return [_claim(stack, port) for port in preferred]


def _claim(stack: ExitStack, preferred: int) -> int:
    for port in (preferred, 0):
        claimed = stack.enter_context(socket.socket())
        # As servers do, so that a port left a moment ago counts as free.
        claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            claimed.bind((_LOCAL, port))
        except OSError:
            continue
        return int(claimed.getsockname()[1])
    raise ChildError("no port of this machine is free")
