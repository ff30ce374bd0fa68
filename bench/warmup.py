"""Warm-up: how soon after a pipeline run the most valuable questions are warm, unasked."""

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

from bench.hits import END
from bench.servers import Server, proxy
from proxy.demo.pipeline import run_pipeline
from proxy.query import BREAKDOWNS, LEVELS, Query

_PATH = "/api/dashboard/analytics/data"
_LOOK_S = 0.05
_SOON_S = 120.0


@dataclass(frozen=True, slots=True)
class WarmRow:
    """Seconds from the last commit of a run; `computing_s` is what the answers cost, summed."""

    questions: int
    stale: int
    median_s: float
    worst_s: float
    computing_s: float


def measure_warmup(database: Path, runs: int, questions: int = 20) -> WarmRow:
    """Three-day runs, each seen through to the end."""
    asked = list(_questions(questions))
    took, computing, stale = [], [], 0
    with proxy(database) as server:
        _until_idle(server)
        for query in asked:
            # The dear ones as often as the cheap ones: their cost makes the order.
            for _ in range(5):
                _call(server.port, "POST", _PATH, json.dumps(query.as_parameters()))
        for number in range(runs):
            run_pipeline(database, now=datetime.now() + timedelta(seconds=number), days=3)
            started = time.perf_counter()
            stale = max(stale, sum(not _is_warm(server, query) for query in asked))
            for query in asked:
                _until_warm(server, query, started)
            took.append(time.perf_counter() - started)
            computing.append(sum(_cost_s(server, query) for query in asked))
            _until_idle(server)
    return WarmRow(len(asked), stale, median(took), max(took), median(computing))


def _questions(count: int) -> Iterator[Query]:
    """What a morning's dashboard asks: the ranges up to the newest day, each level, some splits."""
    forms = [
        (days, level, breakdown)
        for breakdown, days, level in product(BREAKDOWNS[:2], (1, 7, 14, 30), LEVELS)
        if breakdown == "all" or (days <= 14 and level == "campaign")
    ]
    for number in range(count):
        days, level, breakdown = forms[number % len(forms)]
        end = END - timedelta(days=number // len(forms))
        start = end - timedelta(days=days - 1)
        # A breakdown is asked for the level that is shown.
        depth = 3 if breakdown == "all" else 1
        yield Query("analytics", start, end, level, breakdown, depth=depth)


def _is_warm(server: Server, query: Query) -> bool:
    return bool(_explained(server, query)["fresh"])


def _cost_s(server: Server, query: Query) -> float:
    cost: float = _explained(server, query)["cost_ms"] / 1000
    return cost


def _explained(server: Server, query: Query) -> dict[str, Any]:
    """Told without the question being asked: asking would warm it."""
    parameters = {**query.as_parameters(), "include_sparkline": "false"}
    told: dict[str, Any] = _call(
        server.admin_port, "GET", f"/admin/explain?{urlencode(parameters)}"
    )
    return told


def _until_warm(server: Server, query: Query, started: float) -> None:
    while not _is_warm(server, query):
        if time.perf_counter() - started > _SOON_S:
            raise RuntimeError(f"still cold after {_SOON_S:g} s: {query}")
        time.sleep(_LOOK_S)


def _until_idle(server: Server) -> None:
    """Until the warm-up that follows a start or a run has been seen and is over."""
    is_over = False
    while not is_over:
        time.sleep(1.5)
        jobs = _call(server.admin_port, "GET", "/admin/jobs")["jobs"]
        is_over = bool(jobs) and all(job["finished_at"] for job in jobs)


def _call(port: int, method: str, path: str, body: str | None = None) -> dict[str, Any]:
    caller = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        caller.request(method, path, body)
        response = caller.getresponse()
        text = response.read()
    finally:
        caller.close()
    if response.status != 200:
        raise RuntimeError(f"{path}: {response.status} {text[:200]!r}")
    told: dict[str, Any] = json.loads(text)
    return told
