"""Whole proxies as what they are in production: processes of their own, to stop, kill and ask."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

START_S = 60.0
LEAVE_S = 30.0


class ProxyProcess:
    """`python -m proxy serve` on free loopback ports, for the time of the context.

    `settings` are those of Settings and reach the process as PROXY_ variables;
    `config` is a configuration file.
    Every change of state has happened when the method returns. `said` holds
    the log lines so far; whoever tests for a crash finds it there.
    """

    program = "proxy"

    def __init__(self, database: Path, **settings: object) -> None:
        config = settings.pop("config", None)
        self._arguments = [] if config is None else ["--config", str(config)]
        self._settings = {
            "database": database,
            "port": 0,
            "admin_port": 0,
            "state": database.with_name(f"state-{id(self)}.db"),
            "log_format": "json",
            **settings,
        }
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._listens = threading.Event()
        self.said: list[str] = []
        self.url = URL()
        self.admin_url = URL()

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Returns when it listens, on the same ports as before when it was started before.

        ChildProcessError with what it said when it does not come that far.
        """
        await asyncio.to_thread(self._start)

    def kill(self) -> None:
        """End it as a crash does."""
        process = self._running()
        process.kill()
        self._gone(process)

    async def end(self) -> int:
        """Tell it to leave (SIGTERM) and wait until it has; its exit code."""
        process = self._running()
        process.terminate()
        await asyncio.to_thread(process.wait, LEAVE_S)
        self._gone(process)
        return process.returncode

    def stop(self) -> None:
        """Make it hang: it keeps its connections and its place in the world, but does nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def cont(self) -> None:
        """Let a stopped one go on."""
        os.kill(self.pid, signal.SIGCONT)
        os.waitid(os.P_PID, self.pid, os.WCONTINUED)

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples `name` that have at least `labels`; 0 where there is none."""
        text = await asyncio.to_thread(self._read, self.admin_url / "metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def events(self, name: str) -> list[dict[str, object]]:
        """The log lines of that name so far."""
        lines = [json.loads(line) for line in list(self.said) if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]

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

    def _start(self) -> None:
        environ = {name: text for name, text in os.environ.items() if not name.startswith("PROXY_")}
        environ |= {f"PROXY_{name.upper()}": str(value) for name, value in self._settings.items()}
        self._listens.clear()
        before = len(self.events("listening"))
        process = subprocess.Popen(
            [sys.executable, "-m", self.program, "serve", *self._arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environ,
        )
        self._process = process
        # Read for as long as it lives: a full pipe would hold it up.
        self._reader = threading.Thread(target=self._listen_to, args=(process,), daemon=True)
        self._reader.start()
        self._listens.wait(START_S)
        if len(self.events("listening")) == before:
            self.kill()
            raise ChildProcessError("the proxy did not start:\n" + "".join(self.said))

    def _listen_to(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.said.append(line)
            if '"listening"' in line and not self._listens.is_set():
                told = json.loads(line)
                self.url, self.admin_url = URL(told["url"]), URL(told["admin"])
                self._settings |= {"port": self.url.port, "admin_port": self.admin_url.port}
                self._listens.set()
        self._listens.set()

    def _gone(self, process: subprocess.Popen[str]) -> None:
        process.wait()
        assert self._reader is not None
        assert process.stderr is not None
        self._reader.join()
        process.stderr.close()
        self._process = None

    def _read(self, url: URL) -> str:
        with urlopen(str(url), timeout=30) as response:
            text: str = response.read().decode()
        return text

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("the proxy is not running")
        return self._process

    def __repr__(self) -> str:
        state = "down" if self._process is None else f"pid={self._process.pid}"
        return f"<ProxyProcess {self.url} {state}>"
