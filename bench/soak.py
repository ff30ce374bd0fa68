"""`make soak`: minutes of load, pipeline runs and a bouncing Redis, and whether the proxy grows."""

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.table import Table

from bench.hits import END, question, raw_request
from bench.servers import Server, free_port, proxy
from proxy.demo.data import make_demo
from proxy.demo.pipeline import run_pipeline
from tests.redis_server import redis_server_path

_STEP_S = 5.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What the proxy holds at one moment. `requests` counts those answered since the last one."""

    at_s: float
    rss_mib: float
    descriptors: int
    threads: int
    requests: int
    failures: int


@contextmanager
def redis(port: int) -> Iterator[None]:
    command = [
        str(redis_server_path()), "--port", str(port), "--bind", "127.0.0.1",
        "--save", "", "--appendonly", "no",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def soak(minutes: float, folder: Path, console: Console) -> list[Reading]:
    database = folder / "soak.db"
    make_demo(database, None, size="s", end=END)
    port = free_port()
    readings: list[Reading] = []
    with ExitStack() as stack:
        redis_stack = stack.enter_context(ExitStack())
        redis_stack.enter_context(redis(port))
        server = stack.enter_context(proxy(database, redis_url=f"redis://127.0.0.1:{port}/0"))
        started = time.monotonic()
        number = 0
        while time.monotonic() - started < minutes * 60:
            number += 1
            # In turn: a run of the pipeline, a Redis that goes and comes back.
            run_pipeline(database, now=datetime(2026, 7, 1) + timedelta(seconds=number))
            if number % 3 == 0:
                redis_stack.close()
            elif number % 3 == 1 and number > 1:
                redis_stack.enter_context(redis(port))
            _ask_odd_ranges(server, number)
            requests, failures = _load(server, raw_request(question(days=7)), _STEP_S)
            readings.append(_read(server, time.monotonic() - started, requests, failures))
            console.print(f"{readings[-1].at_s:5.0f} s  {readings[-1].rss_mib:6.1f} MiB", end="\r")
    return readings


def _load(server: Server, raw: bytes, seconds: float) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.load", "127.0.0.1", str(server.port), "8", str(seconds)],
        input=raw, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    return int(told["requests"]), int(told["failures"])


def _ask_odd_ranges(server: Server, number: int) -> None:
    """Questions nobody asked before, each from a caller who leaves without its answer."""
    for offset in range(20):
        end = END - timedelta(days=(number * 20 + offset) % 50)
        asked = {"start_date": str(end - timedelta(days=offset % 9)), "end_date": str(end)}
        caller = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        caller.request("POST", "/data", json.dumps(asked))
        if offset % 2:
            caller.getresponse().read()
        caller.close()


def _read(server: Server, at_s: float, requests: int, failures: int) -> Reading:
    process = server.process
    rss = process.memory_info().rss / 2**20
    return Reading(at_s, rss, process.num_fds(), process.num_threads(), requests, failures)


def _table(readings: list[Reading]) -> Table:
    table = Table(title="Soak: the proxy's own process", title_justify="left")
    for heading in ("after s", "RSS MiB", "descriptors", "threads", "requests", "not 200"):
        table.add_column(heading, justify="right")
    step = max(1, len(readings) // 12)
    for reading in readings[::step]:
        table.add_row(
            f"{reading.at_s:.0f}", f"{reading.rss_mib:.1f}", str(reading.descriptors),
            str(reading.threads), f"{reading.requests:,}", str(reading.failures),
        )  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    asked = parser.parse_args()
    console = Console(width=100)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        readings = soak(asked.minutes, Path(name), console)
    console.print(_table(readings))
    third = max(1, len(readings) // 3)
    early = mean(reading.rss_mib for reading in readings[third : 2 * third] or readings)
    late = mean(reading.rss_mib for reading in readings[-third:])
    total = sum(reading.requests for reading in readings)
    failures = sum(reading.failures for reading in readings)
    console.print(
        f"{total:,} requests, {failures} not 200; memory of the last third against the one "
        f"before: {late / early:.3f}"
    )
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
