"""Hits: requests per second against a bare aiohttp handler that sends the same bytes."""

import json
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median

from bench.servers import Server, bare, proxy
from proxy.demo.data import Size, make_demo

END = date(2026, 6, 30)
PATH = "/api/dashboard/data"
_CAMPAIGNS = {"5 KB": 14, "50 KB": 145, "500 KB": 1450}
_CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Sample:
    rate: float
    cpu_us: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class HitRow:
    """Medians over the rounds. `ratio` is ours over the other's, pair by pair."""

    name: str
    body_bytes: int
    ours: Sample
    theirs: Sample
    ratio: float


def question(days: int = 3, **more: object) -> bytes:
    start = date.fromordinal(END.toordinal() - days + 1)
    return json.dumps(
        {"start_date": start.isoformat(), "end_date": END.isoformat(), "depth": 1, **more}
    ).encode()


def raw_request(body: bytes, path: str = PATH) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Accept: */*\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def ask(port: int, body: bytes, path: str = PATH) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=120) as response:
        answer: bytes = response.read()
    return answer


def drive(server: Server, raw: bytes, seconds: float) -> Sample:
    before = server.cpu_s()
    done = subprocess.run(
        [sys.executable, "-m", "bench.load", "127.0.0.1", str(server.port),
         str(_CONNECTIONS), str(seconds)],
        input=raw, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    if told["failures"]:
        raise RuntimeError(f"{told['failures']} answers were not 200")
    cpu_us = (server.cpu_s() - before) / told["requests"] * 1e6
    return Sample(told["requests"] / told["seconds"], cpu_us, told["p99_ms"])


def compare(name: str, ours: Server, theirs: Server, raw: bytes, size: int, rounds: int,
            seconds: float) -> HitRow:  # fmt: skip
    pairs = []
    for number in range(rounds):
        # In turn, and each first as often: neither gets the quieter half.
        first, second = (ours, theirs) if number % 2 == 0 else (theirs, ours)
        samples = {id(first): drive(first, raw, seconds), id(second): drive(second, raw, seconds)}
        pairs.append((samples[id(ours)], samples[id(theirs)]))
    ratio = median(one.rate / other.rate for one, other in pairs)
    return HitRow(name, size, _middle([p[0] for p in pairs]), _middle([p[1] for p in pairs]), ratio)


def measure_hits(folder: Path, rounds: int, seconds: float) -> list[HitRow]:
    rows = []
    for name, campaigns in _CAMPAIGNS.items():
        database = folder / f"hits-{campaigns}.db"
        make_demo(database, None, size=Size(campaigns, 1, 1, 3), end=END, has_breakdown=False)
        with ExitStack() as stack:
            ours = stack.enter_context(proxy(database))
            body = ask(ours.port, question())
            copy = folder / f"body-{campaigns}.json"
            copy.write_bytes(body)
            theirs = stack.enter_context(bare(copy))
            raw = raw_request(question())
            rows.append(compare(name, ours, theirs, raw, len(body), rounds, seconds))
    return rows


def measure_strict(folder: Path, rounds: int, seconds: float) -> HitRow:
    """Strict against polled freshness, both ours, at 5 KB."""
    database = folder / "hits-14.db"
    with proxy(database) as strict, proxy(database, freshness="poll") as polled:
        body = ask(strict.port, question())
        ask(polled.port, question())
        raw = raw_request(question())
        return compare("strict / poll", strict, polled, raw, len(body), rounds, seconds)


def _middle(samples: list[Sample]) -> Sample:
    return Sample(
        median(sample.rate for sample in samples),
        median(sample.cpu_us for sample in samples),
        median(sample.p99_ms for sample in samples),
    )
