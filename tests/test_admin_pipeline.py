"""/admin/pipeline on real data: dates, the last run, a rebuild that is held."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.admin_port import NOON, Operator, operating
from tests.public_port import END, make_database, serving
from tests.waiting import until
from tests.writer import Writer

FIRST = END - timedelta(days=9)
DATES = [str(FIRST + timedelta(days=ahead)) for ahead in range(10)]
STAMP = "2024-07-01 03:00:00"
RUN = "2024-07-01 11:00:00.000000"
DAILY = "daily_mixpanel_metrics"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "daily.db")


@pytest.fixture
async def operator(database: Path) -> AsyncIterator[Operator]:
    async with operating(database) as operator:
        yield operator


async def told(operator: Operator) -> dict[str, Any]:
    answer = await operator.get("/pipeline")
    assert answer.status == 200
    body: dict[str, Any] = answer.body
    return body


async def told_when(operator: Operator, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The calendar, once `is_so` holds of it."""
    while not is_so(body := await told(operator)):
        pass
    return body


def touched(*days: str) -> Callable[[dict[str, Any]], bool]:
    """Whether the last run has touched `days`, and no other."""
    return lambda body: (body["last_run"] or {}).get("changed") == list(days)


def all_of(body: dict[str, Any], name: str) -> set[Any]:
    return {day[name] for day in body["dates"]}


async def test_each_date_is_told_the_oldest_first(operator: Operator) -> None:
    body = await told(operator)
    assert body["is_complete"] is True
    assert [day["date"] for day in body["dates"]] == DATES
    age_s = (NOON - NOON.replace(hour=3)).total_seconds()
    assert body["dates"][0] == {
        "date": DATES[0],
        "computed_at": STAMP,
        "age_s": age_s,
        "rows": 14,
        "breakdown_rows": body["dates"][0]["breakdown_rows"],
        "state": "settled",
    }
    assert body["dates"][0]["breakdown_rows"] > 0
    assert (body["computed_at"], body["last_run"]) == (STAMP, None)
    assert (body["is_rebuilding"], body["held"]) == (False, [])


async def test_a_run_shows_the_dates_it_touched(operator: Operator, database: Path) -> None:
    with Writer(database) as writer:
        writer.run(RUN.replace(" ", "T"))
    body = await told_when(operator, touched(*DATES[-3:]))
    assert body["last_run"] == {
        "computed_at": RUN,
        "seen_at": "2024-07-01T12:00:00.000Z",
        "changed": DATES[-3:],
    }
    await until(lambda: operator.running.watermarks.state == "settled")
    body = await told(operator)
    assert [day["computed_at"] for day in body["dates"]] == [STAMP] * 7 + [RUN] * 3
    assert body["dates"][-1]["age_s"] == 3600


async def test_a_later_run_is_another_run(operator: Operator, database: Path) -> None:
    settling = operator.running.watermarks.settling
    generation = await settling.after(None)
    with Writer(database) as writer:
        writer.run(RUN)
        await told_when(operator, touched(*DATES[-3:]))
        # Both of its commits are seen, and nothing more comes.
        while operator.running.watermarks.generation != generation:
            generation = await settling.after(generation)
        writer.run("2024-07-01 11:30:00.000000", days=1)
    body = await told_when(operator, touched(DATES[-1]))
    assert body["last_run"]["computed_at"] == "2024-07-01 11:30:00.000000"


async def test_a_rebuild_that_is_held_is_told(operator: Operator, database: Path) -> None:
    await told(operator)
    with Writer(database) as writer:
        writer.empty()
        await until(lambda: operator.running.watermarks.state == "rebuilding")
        body = await told_when(operator, lambda body: body["held"] == DATES)
        assert body["is_rebuilding"] is True
        assert body["since"] == "2024-07-01T12:00:00.000Z"
        assert all_of(body, "state") == {"rebuilding"}
        # What is served is what was known before, and is as old as that.
        body = await told_when(operator, lambda body: all_of(body, "rows") == {0})
        assert all_of(body, "computed_at") == {STAMP}
        writer.refill(RUN)
        await until(lambda: operator.running.watermarks.state == "settled")
    body = await told_when(operator, lambda body: all_of(body, "rows") == {14})
    assert all_of(body, "state") == {"settled"}
    assert body["last_run"]["changed"] == DATES


async def test_a_date_without_rows_between_others_is_missing(
    operator: Operator, database: Path
) -> None:
    await told(operator)
    with Writer(database) as writer:
        writer.sql(
            f"DELETE FROM {DAILY} WHERE date = '{DATES[4]}'",
            f"DELETE FROM {DAILY}_breakdown WHERE date = '{DATES[4]}'",
        )
        await until(lambda: operator.running.watermarks.state == "rebuilding")
    body = await told_when(operator, lambda body: body["dates"][4]["rows"] == 0)
    assert (body["held"], body["dates"][4]["state"]) == ([DATES[4]], "rebuilding")
    await operator.post("/rebuild", {"action": "end"})
    day = (await told(operator))["dates"][4]
    assert (day["date"], day["state"], day["rows"]) == (DATES[4], "missing", 0)


async def test_a_new_date_is_in_it(operator: Operator, database: Path) -> None:
    new = str(END + timedelta(days=2))
    with Writer(database) as writer:
        writer.sql(
            f"INSERT INTO {DAILY} (date, entity_type, entity_id, computed_at)"
            f" VALUES ('{new}', 'ad', '1', '{RUN}')"
        )
    body = await told_when(operator, lambda body: body["dates"][-1]["date"] == new)
    assert (body["dates"][-1]["rows"], body["dates"][-2]["state"]) == (1, "missing")
    assert body["last_run"]["changed"] == [new]


async def test_without_a_database_there_is_nothing_to_tell(tmp_path: Path) -> None:
    async with (
        serving(tmp_path / "none.db") as running,
        aiohttp.ClientSession() as session,
        session.get(running.admin_url / "admin/pipeline") as answer,
    ):
        assert answer.status == 503
        assert (await answer.json())["error"] == "the database was not looked at yet"


async def test_explaining_tells_the_percent_of_the_split(operator: Operator) -> None:
    asked = f"/explain?start_date={END}&end_date={END}&group_by=ad"
    assert (await operator.get(asked)).body["split_percent"] == 100
    await operator.post("/split", {"percent": 5})
    assert (await operator.get(asked)).body["split_percent"] == 5
    await operator.post("/rollback", {})
    assert (await operator.get(asked)).body["split_percent"] == 0
