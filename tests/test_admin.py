"""/admin over HTTP: status, rebuild, audit, and the shape of every error."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy import __version__
from proxy.query import Query
from tests.admin_port import Operator, operating
from tests.public_port import END, make_database
from tests.waiting import until
from tests.writer import Writer

QUERY = Query("analytics", END, END, "ad")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "daily.db")


@pytest.fixture
async def operator(database: Path) -> AsyncIterator[Operator]:
    async with operating(database) as operator:
        yield operator


async def test_the_status_tells_how_the_proxy_is(operator: Operator) -> None:
    operator.clock.pass_s(90)
    before = (await operator.get("/status")).body["cache"]
    await operator.question(QUERY)
    told = (await operator.get("/status")).body
    assert (told["version"], told["uptime_s"]) == (__version__, 90.0)
    assert told["freshness"] == {
        "state": "settled",
        "computed_at": "2024-07-01 03:00:00",
        "since": "2024-07-01T12:00:00.000Z",
    }
    assert told["sources"] == {"database": "up", "redis": "off", "legacy": "off"}
    assert told["cache"]["hits"] + told["cache"]["misses"] == before["hits"] + before["misses"] + 1
    assert told["cache"]["entries"] > 0
    assert told["cache"]["bytes"] > 1000
    assert [(job["kind"], job["about"], job["state"]) for job in told["jobs"]] == [
        ("warm", "start", "done")
    ]


async def test_an_operator_can_end_a_rebuild(operator: Operator, database: Path) -> None:
    await operator.question(QUERY)
    watermarks = operator.running.watermarks
    with Writer(database) as writer:
        writer.empty()
        await until(lambda: watermarks.state == "rebuilding")
        operator.clock.pass_s(60)
        assert (await operator.get("/status")).body["freshness"]["state"] == "rebuilding"
        told = await operator.post(
            "/rebuild", {"action": "end", "author": "ann", "reason": "meant"}
        )
        assert (told.status, told.body["freshness"]["state"]) == (200, "settled")
    (record,) = (await operator.get("/audit")).body["entries"]
    assert (record["author"], record["action"], record["reason"]) == ("ann", "rebuild end", "meant")
    assert (record["before"]["state"], record["after"]["state"]) == ("rebuilding", "settled")
    assert record["at"] == "2024-07-01T12:01:00.000Z"


@pytest.mark.parametrize("body", [None, {}, {"action": "begin"}, {"action": None}])
async def test_a_rebuild_can_only_be_ended(operator: Operator, body: object) -> None:
    told = await operator.post("/rebuild", body)
    assert told.status == 400
    assert told.body == {"success": False, "error": "Invalid action field. Must be: end"}
    assert (await operator.get("/audit")).body["entries"] == []


async def test_each_change_is_in_the_audit_list_newest_first(operator: Operator) -> None:
    await operator.post("/warm", {"queries": "usual", "author": "ann"})
    await operator.post("/purge", {"all": True, "reason": "doubt"})
    await operator.post("/purge", {"all": 7})
    entries = (await operator.get("/audit")).body["entries"]
    assert [(one["action"], one["author"], one["reason"]) for one in entries] == [
        ("purge", "127.0.0.1", "doubt"),
        ("warm", "ann", ""),
    ]
    assert len((await operator.get("/audit?limit=1")).body["entries"]) == 1


@pytest.mark.parametrize("path", ["/nothing", "/jobs/nobody", "/", "/statusx", "/status/x"])
async def test_what_is_not_there_is_404_in_json(operator: Operator, path: str) -> None:
    told = await operator.get(path)
    assert told.status == 404
    assert told.body["success"] is False


async def test_another_method_is_405_and_says_which_there_are(operator: Operator) -> None:
    told = await operator.post("/status", {})
    assert (told.status, told.body["success"]) == (405, False)
    assert told.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1001", "9" * 400, "", "٣"])
async def test_a_bad_limit_is_400(operator: Operator, limit: str) -> None:
    told = await operator.get(f"/audit?limit={limit}")
    assert (told.status, told.body["success"]) == (400, False)
    assert "limit" in told.body["error"]
