"""The SQL of a question: one statement, that reads its range and nothing else of history."""

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import apsw
import pytest

from proxy.backends.database import Database
from proxy.backends.sqlite import SqliteBackend
from proxy.backends.statement import compile_statement, levels_read
from proxy.clock import Clock, SystemClock
from proxy.demo.data import Size, make_demo
from proxy.errors import BackendTimeout
from proxy.query import BREAKDOWNS, LEVELS, Query, ShapeName
from proxy.shapes import make_shapes
from proxy.telemetry import Telemetry
from tests.traced_database import TracedDatabase

END = date(2024, 6, 30)
FEW = Size(campaigns=3, adsets=2, ads=3, days=20)
MANY_DAYS = Size(campaigns=3, adsets=2, ads=3, days=200)
HISTORY = re.compile(r"(?:daily_mixpanel_metrics\w*|ad_performance_daily\w*)")
SHAPES: tuple[ShapeName, ...] = ("dashboard", "analytics")

Kind = Literal["wide", "narrow", "narrow, Meta by date"]
KINDS: tuple[Kind, ...] = ("wide", "narrow", "narrow, Meta by date")


def forms(shapes: tuple[ShapeName, ...] = SHAPES, days: int = 7) -> Iterator[Query]:
    """A question of each form there is."""
    start = END - timedelta(days=days - 1)
    for shape in shapes:
        for place, level in enumerate(LEVELS):
            for depth in range(1, len(LEVELS) - place + 1):
                for breakdown in BREAKDOWNS:
                    for has_sparkline in (False, True):
                        yield Query(shape, start, END, level, breakdown, depth, has_sparkline)


def write(directory: Path, kind: Kind, size: Size, *, is_analyzed: bool = False) -> TracedDatabase:
    directory.mkdir(parents=True)
    path, meta_path = directory / "tables.db", directory / "meta.db"
    if kind == "wide":
        make_demo(path, None, size=size, end=END)
    else:
        make_demo(path, meta_path, size=size, end=END, form="narrow")
    if kind == "narrow, Meta by date":
        with closing(sqlite3.connect(meta_path, isolation_level=None)) as meta:
            for table in ("", "_country", "_region", "_device"):
                name = f"ad_performance_daily{table}"
                meta.execute(f"CREATE INDEX {name}_by_date ON {name} (date)")
    if is_analyzed:
        for file in (path, meta_path) if meta_path.exists() else (path,):
            with closing(sqlite3.connect(file, isolation_level=None)) as db:
                db.execute("ANALYZE")
    return TracedDatabase(path, None if kind == "wide" else meta_path)


def backend_of(
    database: Database, clock: Clock | None = None, *, timeout_s: float = 60.0
) -> SqliteBackend:
    return SqliteBackend(
        database,
        make_shapes(),
        Telemetry(),
        clock or SystemClock(),
        timeout_s=timeout_s,
        readers=1,
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_each_form_of_question_is_one_statement(kind: Kind, tmp_path: Path) -> None:
    database = write(tmp_path / "db", kind, Size(campaigns=1, adsets=2, ads=2, days=3))
    async with backend_of(database) as backend:
        # The first one looks at the schema too.
        await backend.fetch(Query("analytics", END, END, "campaign"))
        for query in forms():
            database.forget()
            fetched = await backend.fetch(query)
            assert len(database.begun) == len(database.ended) == 1, query
            assert database.begun[0].startswith("WITH RECURSIVE"), query
            assert fetched.rows_read[("daily", query.level)] > 0
    assert database.opened == 1


async def test_one_statement_is_one_observation_of_its_time(tmp_path: Path) -> None:
    database = write(tmp_path / "db", "wide", Size(campaigns=1, adsets=1, ads=1, days=1))
    telemetry = Telemetry()
    async with SqliteBackend(database, make_shapes(), telemetry, SystemClock()) as backend:
        for _ in range(3):
            await backend.fetch(Query("analytics", END, END, "campaign"))
    count = telemetry.registry.get_sample_value("proxy_sql_seconds_count")
    assert count == 3


@dataclass(frozen=True, slots=True)
class Step:
    """A line of EXPLAIN QUERY PLAN that touches a table of history."""

    table: str
    text: str

    @property
    def is_ranged(self) -> bool:
        """By day, or by entity and then by a range of days: never longer with longer history."""
        by_day = r"\(date=\?( AND .*)?\)"
        by_entity = (
            r"\((entity_type=\? AND entity_id=\?|ad_id=\?) AND date>\? AND date<\?( AND .*)?\)"
        )
        how = rf"SEARCH \w+ USING (COVERING )?(INDEX \w+|PRIMARY KEY) ({by_day}|{by_entity})"
        return re.fullmatch(how, self.text) is not None

    @property
    def is_a_hop(self) -> bool:
        """To the first ad, or from one ad to the next one: the index is not walked."""
        how = r"SEARCH (meta\.)?\w+ USING COVERING INDEX \w+( \(ad_id>\?\))?"
        return self.table.startswith("ad_performance") and bool(re.fullmatch(how, self.text))


def history_steps(connection: apsw.Connection, sql: str, query: Query) -> list[Step]:
    aliases: dict[str, str] = {}
    for name, alias in re.findall(r"(?:FROM|JOIN) (?:meta\.)?(\w+)(?: AS (\w+))?", sql):
        if HISTORY.fullmatch(name):
            aliases[alias or name] = name
    parameters = {
        "start": query.start.isoformat(),
        "end": query.end.isoformat(),
        "breakdown": query.breakdown,
        "sparkline": query.sparkline_start.isoformat(),
    }
    steps = []
    for *_, text in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters):
        found = re.match(r"(?:SCAN|SEARCH) (?:meta\.)?(\w+)", str(text))
        if found and found[1] in aliases:
            steps.append(Step(aliases[found[1]], str(text)))
    return steps


@pytest.mark.parametrize("is_analyzed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_table_of_history_is_reached_through_an_index_by_its_dates(
    kind: Kind, is_analyzed: bool, tmp_path: Path
) -> None:
    database = write(tmp_path / "db", kind, FEW, is_analyzed=is_analyzed)
    shapes = make_shapes()
    with closing(database.open()) as connection:
        schema = database.read_schema(connection)
        for query in forms():
            for rate_mode in ("mean", "ratio"):
                sql = compile_statement(query, shapes[query.shape], schema, rate_mode).sql
                steps = history_steps(connection, sql, query)
                assert steps
                assert [s for s in steps if not (s.is_ranged or s.is_a_hop)] == [], query
                if kind != "narrow":
                    assert all(step.is_ranged for step in steps)


def test_a_walk_through_history_would_be_seen(tmp_path: Path) -> None:
    database = write(tmp_path / "db", "wide", FEW)
    query = Query("analytics", END, END, "campaign")
    with closing(database.open()) as connection:
        for where in ("entity_type = 'campaign'", "date(date) = :end", "computed_at > :end"):
            sql = f"SELECT * FROM daily_mixpanel_metrics AS d WHERE {where}"
            (step,) = history_steps(connection, sql, query)
            assert not step.is_ranged
            assert not step.is_a_hop


@pytest.mark.parametrize("is_analyzed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_ten_times_the_history_costs_no_more_steps(
    kind: Kind, is_analyzed: bool, tmp_path: Path
) -> None:
    costs = []
    for size in (FEW, MANY_DAYS):
        database = write(tmp_path / str(size.days), kind, size, is_analyzed=is_analyzed)
        async with backend_of(database) as backend:
            await backend.fetch(Query("analytics", END, END, "campaign"))
            database.forget()
            bodies = [(await backend.fetch(q)).payload.body for q in forms(("analytics",))]
        costs.append((bodies, list(database.steps)))
    (short_bodies, short), (long_bodies, long) = costs
    assert short_bodies == long_bodies
    for query, before, after in zip(forms(("analytics",)), short, long, strict=True):
        assert before > 500
        assert after <= before * 1.03, query


async def test_a_longer_range_does_cost_more_steps(tmp_path: Path) -> None:
    database = write(tmp_path / "db", "wide", FEW)
    async with backend_of(database) as backend:
        for days in (7, 14):
            for query in forms(("analytics",), days):
                await backend.fetch(query)
    week, fortnight = database.steps[-96:-48], database.steps[-48:]
    assert sum(fortnight) > 1.5 * sum(week)


class LeapingClock:
    """Each look finds it `leap_s` later."""

    def __init__(self) -> None:
        self.leap_s = 0.0
        self._now = 0.0

    def now(self) -> float:
        return self.monotonic()

    def monotonic(self) -> float:
        self._now += self.leap_s
        return self._now


async def test_a_statement_past_its_time_is_interrupted_and_the_reader_free_at_once(
    tmp_path: Path,
) -> None:
    database = write(tmp_path / "db", "wide", FEW)
    clock = LeapingClock()
    query = Query("analytics", END - timedelta(days=19), END, "campaign", "country")
    async with backend_of(database, clock, timeout_s=1.5) as backend:
        whole = await backend.fetch(query)
        steps = database.steps[-1]
        assert steps > 40_000
        database.forget()
        # The deadline is set by the first look, the second is still within it.
        clock.leap_s = 1.0
        with pytest.raises(BackendTimeout) as raised:
            await backend.fetch(query)
        assert raised.value.reason == "sql_timeout"
        clock.leap_s = 0.0
        assert database.begun == database.ended
        assert len(database.begun) == 1
        assert database.steps[-1] < steps
        again = await asyncio.wait_for(backend.fetch(query), 30)
    assert again.payload.body == whole.payload.body
    assert len(database.begun) == len(database.ended) == 2
    assert database.opened == 1


def test_a_statement_has_no_value_of_the_question_in_its_text(tmp_path: Path) -> None:
    database = write(tmp_path / "db", "wide", Size(campaigns=1, adsets=1, ads=1, days=1))
    shape = make_shapes()["analytics"]
    with closing(database.open()) as connection:
        schema = database.read_schema(connection)
    texts = {
        compile_statement(Query("analytics", start, END, "ad"), shape, schema, "mean").sql
        for start in (END, END - timedelta(days=1), date(1999, 1, 1))
    }
    assert len(texts) == 1
    statement = compile_statement(Query("analytics", END, END, "ad"), shape, schema, "mean")
    assert statement.parameters(Query("analytics", END, END, "ad", "device")) == {
        "start": "2024-06-30",
        "end": "2024-06-30",
        "breakdown": "device",
        "sparkline": "2024-06-17",
    }


def test_without_a_hierarchy_only_the_asked_level_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tables.db"
    size = Size(campaigns=1, adsets=1, ads=1, days=1)
    query = Query("analytics", END, END, "campaign")
    for has_hierarchy, levels in ((True, LEVELS), (False, ("campaign",))):
        make_demo(path, None, size=size, end=END, has_hierarchy=has_hierarchy)
        database = Database(path)
        with closing(database.open()) as connection:
            schema = database.read_schema(connection)
        assert levels_read(query, schema) == levels
        sql = compile_statement(query, make_shapes()["analytics"], schema, "mean").sql
        assert ("id_hierarchy_mapping" in sql) == has_hierarchy
