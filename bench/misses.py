"""Misses: a question's way through the proxy against stepping its statement with sqlite3."""

import http.client
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median

from bench.hits import END
from bench.servers import Server, legacy, proxy
from proxy.backends.database import Database
from proxy.backends.statement import compile_statement
from proxy.query import Query, ShapeName
from proxy.shapes import make_shapes

_PATHS: dict[ShapeName, str] = {
    "dashboard": "/api/dashboard/data",
    "analytics": "/api/dashboard/analytics/data/optimized",
}
FORMS = (
    ("s", 7, 1), ("s", 7, 3), ("s", 31, 1), ("s", 31, 3),
    ("m", 7, 1), ("m", 31, 1), ("m", 90, 1), ("m", 7, 3), ("m", 31, 3),
)  # fmt: skip


_SETTLE_S = 10.0
"""After the start the proxy reads what it must know of the newest dates; then it is steady."""


@dataclass(frozen=True, slots=True)
class MissRow:
    """Medians in ms. `http` is what a caller waits, `stepping` sqlite3 alone, `ratio` by pairs."""

    size: str
    days: int
    depth: int
    shape: str
    http_ms: float
    stepping_ms: float
    ratio: float
    body_bytes: int


def measure_misses(databases: dict[str, Path], samples: int) -> list[MissRow]:
    rows = []
    for size, database in databases.items():
        with proxy(database) as server:
            time.sleep(_SETTLE_S)
            rows += [
                _row(server, database, size, days, depth, shape, samples)
                for of, days, depth in FORMS
                if of == size
                for shape in _PATHS
            ]
    return rows


def _row(
    server: Server, database: Path, size: str, days: int, depth: int, shape: ShapeName,
    samples: int,
) -> MissRow:  # fmt: skip
    known = Database(database)
    opened = known.open()
    schema = known.read_schema(opened)
    opened.close()
    shapes = make_shapes()
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    caller = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    pairs = []
    size_bytes = 0
    try:
        # The first two warm both page caches and are not counted.
        for number, query in enumerate(_questions(days, depth, shape, samples + 2)):
            statement = compile_statement(query, shapes[shape], schema, "mean")
            started = time.perf_counter()
            connection.execute(statement.sql, statement.parameters(query)).fetchall()
            stepping = time.perf_counter() - started
            started = time.perf_counter()
            size_bytes = _ask(caller, query)
            http_s = time.perf_counter() - started
            if number >= 2:
                pairs.append((http_s, stepping))
    finally:
        caller.close()
        connection.close()
    return MissRow(
        size,
        days,
        depth,
        shape,
        median(pair[0] for pair in pairs) * 1000,
        median(pair[1] for pair in pairs) * 1000,
        median(pair[0] / pair[1] for pair in pairs),
        size_bytes,
    )


def _questions(days: int, depth: int, shape: ShapeName, count: int) -> Iterator[Query]:
    """Ranges that end on different days: each a question nobody asked before."""
    for number in range(count):
        end = END - timedelta(days=number)
        yield Query(shape, end - timedelta(days=days - 1), end, "campaign", depth=depth)


def _ask(caller: http.client.HTTPConnection, query: Query) -> int:
    body = json.dumps(query.as_parameters())
    caller.request("POST", _PATHS[query.shape], body)
    response = caller.getresponse()
    read = response.read()
    if response.status != 200 or "fwd=miss" not in (response.headers["Cache-Status"] or ""):
        raise RuntimeError(f"not a miss: {response.status} {response.headers['Cache-Status']}")
    return len(read)


@dataclass(frozen=True, slots=True)
class LegacyRow:
    days: int
    miss_ms: float
    hit_ms: float
    legacy_ms: float


def measure_legacy(database: Path, meta_database: Path, samples: int) -> list[LegacyRow]:
    """The demo legacy application against the proxy on the same data, campaigns alone."""
    rows = []
    with proxy(database) as ours, legacy(database, meta_database) as theirs:
        for days in (7, 31):
            told: dict[str, list[float]] = {"miss": [], "hit": [], "legacy": []}
            for number in range(samples):
                end = END - timedelta(days=number)
                question = {
                    "start_date": (end - timedelta(days=days - 1)).isoformat(),
                    "end_date": end.isoformat(),
                    "group_by": "campaign",
                }
                told["miss"].append(_timed(ours, _PATHS["analytics"], {**question, "depth": 1}))
                told["hit"].append(_timed(ours, _PATHS["analytics"], {**question, "depth": 1}))
                told["legacy"].append(_timed(theirs, "/api/dashboard/analytics/data", question))
            rows.append(LegacyRow(days, *(median(times) * 1000 for times in told.values())))
    return rows


def _timed(server: Server, path: str, question: Mapping[str, object]) -> float:
    caller = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    started = time.perf_counter()
    caller.request("POST", path, json.dumps(question), {"Content-Type": "application/json"})
    response = caller.getresponse()
    response.read()
    caller.close()
    if response.status != 200:
        raise RuntimeError(f"{path}: {response.status}")
    return time.perf_counter() - started
