"""The processes that are measured, each on the first core: the proxy, a bare aiohttp handler."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO

import psutil

_BARE = """
import sys, uvloop
from aiohttp import web
body = open(sys.argv[1], 'rb').read()
async def handler(request):
    await request.read()
    return web.Response(body=body, content_type='application/json')
async def app():
    made = web.Application()
    made.router.add_post('/api/dashboard/data', handler)
    made.router.add_post('/api/dashboard/analytics/data', handler)
    return made
web.run_app(app(), host='127.0.0.1', port=0, access_log=None, loop=uvloop.new_event_loop(),
            print=lambda text: print(text, flush=True))
"""


@dataclass(frozen=True, slots=True)
class Server:
    port: int
    admin_port: int
    process: psutil.Process

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def bare(body: Path) -> Iterator[Server]:
    """A handler that does nothing but send the bytes of `body`."""
    with _started([sys.executable, "-c", _BARE, str(body)], {}) as (process, stream):
        yield Server(_port_in(stream, r"127\.0\.0\.1:(\d+)"), 0, process)


@contextmanager
def proxy(database: Path, **settings: str) -> Iterator[Server]:
    environ = {
        "PROXY_DATABASE": str(database),
        "PROXY_PORT": "0",
        "PROXY_ADMIN_PORT": "0",
        "PROXY_LOG_FORMAT": "json",
        **{f"PROXY_{name.upper()}": value for name, value in settings.items()},
    }
    with _started([sys.executable, "-m", "proxy", "serve"], environ) as (process, stream):
        for line in stream:
            if '"listening"' in line:
                ports = re.findall(r"127\.0\.0\.1:(\d+)", line)
                yield Server(int(ports[0]), int(ports[1]), process)
                return
        raise RuntimeError("the proxy did not start")


@contextmanager
def legacy(database: Path, meta_database: Path) -> Iterator[Server]:
    port = free_port()
    command = [
        sys.executable, "-m", "proxy.demo.legacy", "--database", str(database),
        "--meta-database", str(meta_database), "--port", str(port),
    ]  # fmt: skip
    with _started(command, {}) as (process, _):
        _wait_for(port)
        yield Server(port, 0, process)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for(port: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _port_in(stream: Iterator[str], pattern: str) -> int:
    for line in stream:
        if found := re.search(pattern, line):
            return int(found.group(1))
    raise RuntimeError("the server did not say where it listens")


@contextmanager
def _started(
    command: list[str], environ: dict[str, str]
) -> Iterator[tuple[psutil.Process, Iterator[str]]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PROXY_")}
    popen = subprocess.Popen(
        command,
        env=clean | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert popen.stdout is not None
    # Read on to the end: a server whose pipe is full stops at its next log line.
    lines: SimpleQueue[str] = SimpleQueue()
    reader = Thread(target=_pass_on, args=(popen.stdout, lines), daemon=True)
    reader.start()
    try:
        process = psutil.Process(popen.pid)
        process.cpu_affinity([min(os.sched_getaffinity(0))])
        yield process, iter(lines.get, "")
    finally:
        popen.terminate()
        try:
            popen.wait(timeout=15)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
        reader.join()
        popen.stdout.close()


def _pass_on(stream: IO[str], lines: "SimpleQueue[str]") -> None:
    for line in stream:
        lines.put(line)
    lines.put("")
