"""The demo's legacy application beside our own answers: what comparing makes of its ways."""

import asyncio
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any, Literal

import orjson
import pytest

from proxy.backends.database import Database
from proxy.backends.sqlite import SqliteBackend
from proxy.clock import SystemClock
from proxy.demo.data import Size, make_demo
from proxy.demo.misbehaviour import Misbehaviour, spoil
from proxy.demo.question import Question
from proxy.demo.records import compute
from proxy.measures import Unit
from proxy.query import BREAKDOWNS, LEVELS, Breakdown, Level, Query
from proxy.rollout.compare import compare
from proxy.rollout.contract import propose
from proxy.rollout.rate_modes import closer
from proxy.rollout.result import Result
from proxy.rollout.rules import rules_of
from proxy.settings_tables import CompareTable
from proxy.shapes import make_shapes
from proxy.telemetry import Telemetry

END = date(2024, 3, 31)
START = END - timedelta(days=5)
SHAPES = make_shapes()
RATES = {name for name, cell in SHAPES["analytics"].fields.items() if cell.unit is Unit.FRACTION}
RULES = rules_of(CompareTable(), frozenset(RATES))

Document = dict[str, Any]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compare") / "daily.db"
    make_demo(path, None, size=Size(campaigns=3, adsets=2, ads=3, days=8), end=END)
    return path


@pytest.fixture(scope="module")
def legacy(database: Path) -> Callable[..., Document]:
    """The legacy's answer, computed once per question."""
    known: dict[tuple[Level, Breakdown], Document] = {}

    def answer(
        how: Misbehaviour | None = None, level: Level = "campaign", breakdown: Breakdown = "all"
    ) -> Document:
        if (level, breakdown) not in known:
            question = Question(START, END, level, breakdown)
            records = compute(database, None, question)
            known[level, breakdown] = {"data": records}
        records = spoil(known[level, breakdown]["data"], how or Misbehaviour(), Random(1))
        return {"success": True, "data": records, "metadata": {"generated_at": "now"}}

    return answer


def ours(
    database: Path,
    level: Level = "campaign",
    breakdown: Breakdown = "all",
    mode: Literal["mean", "ratio"] = "mean",
) -> Document:
    async def fetch() -> Document:
        held = Database(database)
        backend = SqliteBackend(held, SHAPES, Telemetry(), SystemClock(), rate_mode=mode)
        async with backend:
            fetched = await backend.fetch(question(level, breakdown))
            found: Document = orjson.loads(fetched.payload.body)
            return found

    return asyncio.run(fetch())


def question(level: Level = "campaign", breakdown: Breakdown = "all") -> Query:
    return Query("analytics", START, END, level, breakdown)


def kinds(result: Result) -> set[tuple[str, str]]:
    return {(one.kind, one.field) for one in result.differences}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("breakdown", BREAKDOWNS)
def test_a_good_legacy_matches_in_both_directions(
    database: Path, legacy: Callable[..., Document], level: Level, breakdown: Breakdown
) -> None:
    theirs, own = legacy(None, level, breakdown), ours(database, level, breakdown)
    asked = question(level, breakdown)
    assert compare(theirs, own, RULES, query=asked).differences == ()
    found = compare(own, theirs, RULES, query=asked)
    assert (found.outcome, found.differences) == ("matched", ())
    assert found.rows > 0


@pytest.fixture(scope="module")
def own(database: Path) -> Document:
    return ours(database)


def both_ways(own: Document, theirs: Document) -> tuple[Result, Result]:
    asked = question()
    return compare(theirs, own, RULES, query=asked), compare(own, theirs, RULES, query=asked)


def test_a_deciding_field_off_by_five_percent_is_seen(
    own: Document, legacy: Callable[..., Document]
) -> None:
    for result in both_ways(own, legacy(Misbehaviour(field="spend", factor=1.05))):
        assert result.outcome == "mismatched"
        assert kinds(result) == {("value", "spend")}
    for result in both_ways(own, legacy(Misbehaviour(field="clicks", factor=1.05))):
        assert result.outcome == "ignored"


def test_a_missing_key_decides_where_ours_is_the_control(
    own: Document, legacy: Callable[..., Document]
) -> None:
    as_control, as_candidate = both_ways(own, legacy(Misbehaviour(missing="spend")))
    assert (as_candidate.outcome, as_candidate.is_structural) == ("mismatched", True)
    assert kinds(as_candidate) == {("missing_key", "spend")}
    assert (as_control.outcome, kinds(as_control)) == ("ignored", {("added_key", "spend")})


def test_the_habits_of_the_real_one_decide_nothing(
    own: Document, legacy: Callable[..., Document]
) -> None:
    habits = Misbehaviour(has_percent_children=True, has_repeated_adsets=True)
    for result in both_ways(own, legacy(habits)):
        assert result.outcome == "ignored"
        assert {one.kind for one in result.differences} == {"unit", "doubled_row"}
        assert len(result.differences) < 30


def test_noise_is_seen_between_two_answers_of_the_legacy(legacy: Callable[..., Document]) -> None:
    noisy = legacy(Misbehaviour(noise=0.1))
    assert compare(legacy(), noisy, RULES, query=question()).outcome == "mismatched"


def test_an_empty_answer_lacks_rows(own: Document, legacy: Callable[..., Document]) -> None:
    result = compare(own, legacy(Misbehaviour(is_empty=True)), RULES, query=question())
    assert kinds(result) == {("missing_row", "data")}
    assert result.is_structural


def test_the_mode_that_the_legacy_uses_is_closer(
    own: Document, database: Path, legacy: Callable[..., Document]
) -> None:
    ratio = ours(database, mode="ratio")
    for how in (None, Misbehaviour(has_percent_children=True)):
        found = closer(legacy(how), own, ratio, RULES, query=question())
        assert set(found) <= RATES
        assert len(found) > 5
        assert all(others == 0 for _, others, _ in found.values())
        assert found["roas"][0] > 10


def test_a_field_that_the_legacy_calls_otherwise_is_proposed(
    own: Document, legacy: Callable[..., Document]
) -> None:
    def add(rows: list[Any]) -> None:
        for row in rows:
            row["cost"] = row["spend"]
            row["cpc"] = round(row["spend"] / row["clicks"], 2) if row["clicks"] else 0
            add(row["children"])

    theirs = orjson.loads(orjson.dumps(legacy()))
    add(theirs["data"])
    proposal = propose([(theirs, own)])
    assert [(one.name, one.expressions) for one in proposal.lacking] == [
        ("cost", ("spend",)),
        ("cpc", ("spend / clicks",)),
    ]
    assert proposal.added == ()
