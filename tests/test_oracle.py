"""SqliteBackend against the oracle: every cell of both shapes, in both rate modes."""

import asyncio
import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.backends.database import Database
from proxy.backends.sqlite import SqliteBackend
from proxy.canonical import Limits, canonicalize
from proxy.clock import SystemClock
from proxy.query import Query, ShapeName
from proxy.shapes import make_shapes
from proxy.telemetry import Telemetry
from tests.agreement import disagreements
from tests.oracle import expect
from tests.oracle_measures import RateMode
from tests.random_data import Plan, make_world, plans, questions

fixed = settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
"""The same examples on every machine."""


def backend_of(path: Path, meta_path: Path | None, rate_mode: RateMode) -> SqliteBackend:
    return SqliteBackend(
        Database(path, meta_path),
        make_shapes(),
        Telemetry(),
        SystemClock(),
        rate_mode=rate_mode,
        readers=1,
    )


def bodies(
    path: Path, meta_path: Path | None, rate_mode: RateMode, queries: list[Query]
) -> list[bytes]:
    async def fetch() -> list[bytes]:
        async with backend_of(path, meta_path, rate_mode) as backend:
            return [(await backend.fetch(query)).payload.body for query in queries]

    return asyncio.run(fetch())


def query_of(shape: ShapeName, parameters: dict[str, Any]) -> Query:
    return canonicalize(shape, parameters, Limits())


PLAIN = Plan(
    seed=0,
    entities=4,
    density=1.0,
    daily="wide",
    breakdown="wide",
    has_other_spelling=False,
    has_hierarchy=True,
    has_updated_at=True,
    has_nulls=False,
    has_declared_types=False,
    has_integer_ids=False,
    has_indexes=False,
    meta="none",
    stamps=(" ", ""),
)


@pytest.mark.parametrize("rate_mode", ["mean", "ratio"])
# Spend that cancels out leaves a REAL sum beside 0, which is no denominator.
@example(
    replace(PLAIN, seed=121),
    {"start_date": "2024-02-19", "end_date": "2024-02-19"},
    {"start_date": "2024-02-19", "end_date": "2024-03-20", "breakdown": "device"},
)
# Meta's own NULL country is the Unknown of the breakdown table.
@example(
    replace(PLAIN, breakdown="narrow", has_nulls=True, meta="by ad"),
    {"start_date": "2024-02-19", "end_date": "2024-02-19", "breakdown": "country"},
    {"start_date": "2024-02-19", "end_date": "2024-03-03", "breakdown": "region"},
)
@fixed
@given(plans, questions("dashboard"), questions("analytics"))
def test_sqlite_backend_agrees_with_the_oracle_in_every_cell(
    rate_mode: RateMode, plan: Plan, dashboard: dict[str, Any], analytics: dict[str, Any]
) -> None:
    with TemporaryDirectory() as directory:
        path, meta_path = make_world(plan).write(Path(directory))
        queries = [query_of("dashboard", dashboard), query_of("analytics", analytics)]
        answers = map(orjson.loads, bodies(path, meta_path, rate_mode, queries))
        for query, parameters, answer in zip(queries, [dashboard, analytics], answers, strict=True):
            expected = expect(path, meta_path, parameters, rate_mode, query.shape)
            assert disagreements(expected, answer) == []


@settings(fixed, max_examples=60)
@given(plans, questions("analytics"), st.integers(0, 2**32))
def test_the_order_of_rows_in_the_tables_does_not_matter(
    plan: Plan, parameters: dict[str, Any], seed: int
) -> None:
    query = query_of("analytics", parameters)
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        first = make_world(plan).write(Path(one))
        second = make_world(plan).write(Path(other), shuffled=seed)
        assert bodies(*first, "ratio", [query]) == bodies(*second, "ratio", [query])


def test_equal_data_give_equal_bytes_in_two_processes(tmp_path: Path) -> None:
    plan = replace(PLAIN, seed=11, entities=5, has_nulls=True, has_indexes=True)
    path, _ = make_world(plan).write(tmp_path)
    own = printed_digest(path)
    digests = {
        subprocess.run(
            [sys.executable, "-c", _IN_ANOTHER_PROCESS, str(path)],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert digests == {own}


_LEVEL_NAMES: dict[ShapeName, str] = {"dashboard": "hierarchy", "analytics": "group_by"}
_IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from tests.test_oracle import printed_digest
print(printed_digest(Path(sys.argv[1])))
"""


def printed_digest(path: Path) -> str:
    """Of all the questions that a page could ask about one range of the database."""
    queries = [
        query_of(
            shape,
            {
                "start_date": "2024-02-20",
                "end_date": "2024-03-05",
                level_name: level,
                "breakdown": breakdown,
                "include_sparkline": True,
            },
        )
        for shape, level_name in _LEVEL_NAMES.items()
        for level in ("campaign", "adset", "ad")
        for breakdown in ("all", "country", "region", "device")
    ]
    digest = hashlib.sha256()
    for body in bodies(path, None, "mean", queries):
        assert len(body) > 1000
        digest.update(body)
    return digest.hexdigest()
