"""What callers get when a part fails: each row of the design's table, through whole proxies."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp.test_utils import BaseTestServer, TestServer
from redis.asyncio import Redis
from yarl import URL

from proxy.app import Running
from proxy.clock import Clock
from proxy.demo.data import Size, make_demo
from proxy.demo.legacy import LEGACY, Legacy, make_legacy
from proxy.document import WARNINGS
from proxy.errors import SettingsError
from tests.clocks import HandClock
from tests.public_port import serving
from tests.redis_server import RedisServer
from tests.waiting import until
from tests.writer import Writer

SMALL = Size(campaigns=2, adsets=2, ads=2, days=10)
END = date(2024, 6, 30)
DAILY = "daily_mixpanel_metrics"
ANALYTICS = "/api/dashboard/analytics/data"
OPTIMIZED = f"{ANALYTICS}/optimized"
ASKED = {"start_date": "2024-06-21", "end_date": "2024-06-30"}
OTHER = {"start_date": "2024-06-22", "end_date": "2024-06-30"}
NO_ROWS = {"start_date": "2031-01-01", "end_date": "2031-01-02"}


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def source(self) -> str | None:
        return self.headers.get("X-Dashboard-Source")

    @property
    def cache(self) -> str:
        return self.headers["Cache-Status"].removeprefix("dashboard-proxy; ")

    @property
    def warnings(self) -> str:
        return self.headers.get("X-Dashboard-Warning", "")

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


async def ask(url: URL, path: str = "/data", **asked: object) -> Reply:
    question = asked or ASKED
    async with (
        aiohttp.ClientSession() as session,
        session.post(url.with_path(path), json=question) as response,
    ):
        return Reply(response.status, response.headers, await response.read())


async def read(url: URL, path: str) -> Reply:
    async with aiohttp.ClientSession() as session, session.get(url.with_path(path)) as response:
        return Reply(response.status, response.headers, await response.read())


@dataclass
class Behind:
    """The demo's legacy application. Where it is made slow it waits until it `may_go_on`."""

    url: URL
    legacy: Legacy
    server: BaseTestServer
    may_go_on: asyncio.Event
    asleep: asyncio.Event = field(default_factory=asyncio.Event)

    def misbehave(self, **how: Any) -> None:
        self.legacy.misbehaviour = replace(self.legacy.misbehaviour, **how)

    @property
    def asked(self) -> int:
        return self.legacy.requests[ANALYTICS]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "daily.db"
    make_demo(path, None, size=SMALL, end=END)
    return path


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[Behind]:
    """It has a database of its own, with more days, which fails with none of the proxy's."""
    path, may_go_on, asleep = tmp_path / "legacy.db", asyncio.Event(), asyncio.Event()
    make_demo(path, None, size=replace(SMALL, days=20), end=END)

    async def sleep(seconds: float) -> None:
        asleep.set()
        await may_go_on.wait()

    app = make_legacy(path, None, sleep=sleep)
    async with TestServer(app) as server:
        yield Behind(server.make_url("/").origin(), app[LEGACY], server, may_go_on, asleep)
        may_go_on.set()


@asynccontextmanager
async def backed(
    database: Path, behind: Behind, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[Running]:
    async with serving(database, clock, legacy_url=str(behind.url), **settings) as running:
        yield running


async def ready(running: Running) -> Reply:
    return await read(running.admin_url, "/health/ready")


async def is_ready(running: Running) -> bool:
    return (await ready(running)).status == 200


async def asked_until(condition: Callable[[], Awaitable[object]]) -> None:
    """Like `until`, of a third party that has to be asked."""
    while not await condition():  # noqa: ASYNC110 (a third party fires no event)
        await asyncio.sleep(0)


def take_away(path: Path) -> Path:
    """Where the file is now."""
    return path.rename(path.with_name("away.db"))


def put_garbage(path: Path) -> Path:
    """A copy of what was there."""
    good = path.with_name("good.db")
    shutil.copyfile(path, good)
    garbage = path.with_name("garbage.db")
    garbage.write_bytes(b"garbage" * 1000)
    garbage.replace(path)
    return good


@asynccontextmanager
async def held_by(redis: RedisServer) -> AsyncIterator[Any]:
    """A client, once the server holds something."""
    client = Redis.from_url(redis.url)
    try:
        await asked_until(lambda: client.dbsize())
        yield client
    finally:
        await client.aclose()


# Redis


async def test_while_redis_is_gone_memory_and_the_tables_answer(database: Path) -> None:
    async with RedisServer() as redis, serving(database, redis_url=redis.url) as running:
        await ask(running.url)
        redis.kill()
        assert (await ask(running.url)).cache == "hit"
        other = await ask(running.url, **OTHER)
        assert (other.status, other.source, other.cache) == (200, "optimized", "fwd=miss; stored")


async def test_a_redis_that_hangs_holds_nobody_up(database: Path) -> None:
    async with RedisServer() as redis, serving(database, redis_url=redis.url) as running:
        await ask(running.url)
        redis.stop()
        try:
            answers = [await ask(running.url), await ask(running.url, **OTHER)]
        finally:
            redis.cont()
    assert [answer.cache for answer in answers] == ["hit", "fwd=miss; stored"]


async def test_redis_is_used_again_when_it_is_back(database: Path) -> None:
    clock = HandClock()
    async with RedisServer() as redis, serving(database, clock, redis_url=redis.url) as first:
        redis.kill()
        await ask(first.url)
        await redis.start()
        clock.pass_s(60)
        await ask(first.url, **OTHER)
        async with held_by(redis), serving(database, redis_url=redis.url) as second:
            assert (await ask(second.url, **OTHER)).cache == "hit; detail=redis"


async def test_rubbish_in_redis_is_a_miss(database: Path) -> None:
    async with RedisServer() as redis:
        async with serving(database, redis_url=redis.url) as running:
            first = await ask(running.url)
            async with held_by(redis) as client:
                for key in await client.keys():
                    await client.set(key, b"\x00rubbish")
        async with serving(database, redis_url=redis.url) as running:
            again = await ask(running.url)
    assert (again.status, again.cache, again.body) == (200, "fwd=miss; stored", first.body)


# The tables have no answer


async def test_a_range_without_rows_is_answered_by_the_legacy(
    database: Path, behind: Behind
) -> None:
    earlier = {"start_date": "2024-06-12", "end_date": "2024-06-14"}
    async with backed(database, behind) as running:
        answers = [await ask(running.url, OPTIMIZED, **earlier) for _ in range(2)]
    assert [answer.source for answer in answers] == ["legacy", "legacy"]
    assert answers[0].cache == "fwd=miss; detail=no_rows"
    assert answers[0].json["data"]
    assert behind.asked == 2


async def test_what_the_legacy_sends_for_analytics_is_given_as_it_is(
    database: Path, behind: Behind
) -> None:
    earlier = {"start_date": "2024-06-12", "end_date": "2024-06-14", "group_by": "adset"}
    straight = await ask(behind.url, ANALYTICS, **earlier)
    async with backed(database, behind) as running:
        answer = await ask(running.url, ANALYTICS, **earlier)
    assert answer.json["data"] == straight.json["data"]
    assert answer.json["metadata"].keys() == straight.json["metadata"].keys()
    assert b'": ' not in answer.body


@pytest.mark.parametrize("breakdown", ["all", "country"])
async def test_for_data_the_legacys_numbers_stand_in_our_shape(
    database: Path, behind: Behind, breakdown: str
) -> None:
    span = {"start_date": "2024-06-12", "end_date": "2024-06-14", "breakdown": breakdown}
    straight = await ask(behind.url, ANALYTICS, group_by="campaign", **span)
    async with backed(database, behind) as running:
        answer = await ask(running.url, hierarchy="campaign", **span)
    assert (answer.source, answer.json["metadata"]["data_source"]) == ("legacy", "legacy")
    ours, theirs = by_id(answer.json["data"]), by_id(straight.json["data"])
    assert ours.keys() == theirs.keys()
    assert len(ours) == 2 + 4 + 8
    for row_id, row in ours.items():
        wanted = theirs[row_id]
        assert row["name"] == wanted["name"]
        assert numbers_of(row) == pytest.approx(numbers_wanted(wanted))
        groups = wanted.get("breakdowns", [])
        values = [value for group in groups for value in group["values"]]
        split = {value["name"]: numbers_wanted(value) for value in values}
        assert split.keys() == {part["breakdown_value"] for part in row["breakdown_data"]}
        for part in row["breakdown_data"]:
            assert numbers_of(part) == pytest.approx(split[part["breakdown_value"]])


def by_id(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {row["id"]: row for row in rows}
    for row in rows:
        found |= by_id(row["children"])
    return found


def numbers_of(row: dict[str, Any]) -> list[float]:
    return [
        row["trials"],
        row["purchases"],
        row["spend"],
        row["estimated_revenue"],
        row["profit"],
        row["roas"],
        row["trial_conversion_rate"],
    ]


def numbers_wanted(row: dict[str, Any]) -> list[float]:
    return [
        row["mixpanel_trials_started"],
        row["mixpanel_purchases"],
        row["spend"],
        row["estimated_revenue_adjusted"],
        row["profit"],
        row["estimated_roas"],
        round(row["trial_conversion_rate"] * 100, 6),
    ]


@pytest.mark.parametrize("path", ["/data", OPTIMIZED, ANALYTICS])
async def test_an_empty_answer_of_the_legacy_is_given_but_never_kept(
    database: Path, behind: Behind, path: str
) -> None:
    async with backed(database, behind) as running:
        answers = [await ask(running.url, path, **NO_ROWS) for _ in range(2)]
    assert [(answer.status, answer.json["data"]) for answer in answers] == [(200, [])] * 2
    assert [answer.warnings for answer in answers] == ["no_rows", "no_rows"]
    assert [answer.cache for answer in answers] == ["fwd=miss; detail=no_rows"] * 2
    assert behind.asked == 2


async def test_without_a_legacy_a_range_without_rows_is_an_empty_answer(database: Path) -> None:
    async with serving(database) as running:
        answer = await ask(running.url, **NO_ROWS)
    assert (answer.status, answer.json["data"], answer.warnings) == (200, [], "no_rows")
    assert answer.json["metadata"]["warnings"] == [WARNINGS["no_rows"]]


async def test_without_a_breakdown_table_the_legacy_is_asked_and_may_fail(
    tmp_path: Path, behind: Behind
) -> None:
    path = tmp_path / "flat.db"
    make_demo(path, None, size=SMALL, end=END, has_breakdown=False)
    split = {**ASKED, "breakdown": "country"}
    async with backed(path, behind) as running:
        assert (await ask(running.url, **split)).source == "legacy"
        behind.misbehave(error_rate=1.0)
        own = await ask(running.url, **split)
        assert (own.status, own.source, own.cache) == (
            200,
            "optimized",
            "fwd=miss; detail=no_breakdown",
        )
        assert own.warnings == "no_breakdown"
        behind.misbehave(error_rate=0.0)
        assert (await ask(running.url, **split)).source == "legacy"


# The database fails


async def test_sql_that_fails_is_answered_by_the_legacy_and_by_nobody_kept(
    database: Path, behind: Behind
) -> None:
    with Writer(database) as writer:
        async with backed(database, behind) as running:
            writer.sql(f"ALTER TABLE {DAILY} RENAME TO hidden")
            answer = await ask(running.url)
            assert (answer.status, answer.source) == (200, "legacy")
            assert answer.cache == "fwd=miss; detail=schema"
            await until(lambda: running.watermarks.state == "unknown")
            not_ready = await ready(running)
            writer.sql(f"ALTER TABLE hidden RENAME TO {DAILY}")
            back = await ask(running.url)
    assert (not_ready.status, not_ready.json["not_ready"]) == (503, ["database"])
    assert (back.source, back.cache) == ("optimized", "fwd=miss; stored")


async def test_an_entry_fresh_at_the_last_look_outlives_the_database(
    database: Path, behind: Behind
) -> None:
    async with backed(database, behind) as running:
        before = await ask(running.url)
        take_away(database)
        answer = await ask(running.url)
        missed = await ask(running.url, **OTHER)
    assert (answer.status, answer.source, answer.warnings) == (200, "stale", "unverified")
    assert answer.cache == "hit; detail=unverified"
    assert answer.json["data"] == before.json["data"]
    assert answer.json["metadata"]["warnings"] == [WARNINGS["unverified"]]
    assert (missed.source, missed.cache) == ("legacy", "fwd=miss; detail=no_database")


async def test_an_entry_outlives_a_database_that_becomes_garbage(database: Path) -> None:
    async with serving(database) as running:
        before = await ask(running.url)
        good = put_garbage(database)
        answer = await ask(running.url)
        none = await ask(running.url, **OTHER)
        good.replace(database)
        back = await ask(running.url)
    assert (answer.source, answer.warnings) == ("stale", "unverified")
    assert answer.json["data"] == before.json["data"]
    assert (none.status, none.json["success"]) == (503, False)
    assert (back.source, back.body) == ("optimized", before.body)


async def test_while_the_database_is_locked_an_entry_is_a_plain_hit(database: Path) -> None:
    with Writer(database) as writer:
        writer.sql("PRAGMA journal_mode=DELETE")
        async with serving(database) as running:
            before = await ask(running.url)
            writer.sql("BEGIN EXCLUSIVE")
            answer = await ask(running.url)
            is_ready_meanwhile = await ready(running)
            writer.sql("ROLLBACK")
    assert (answer.cache, answer.source, answer.body) == ("hit", "optimized", before.body)
    assert is_ready_meanwhile.status == 200


async def gone_stale(running: Running, writer: Writer) -> Reply:
    """Ask, have the pipeline write, let the proxy know, and take the table away."""
    before = await ask(running.url)
    writer.sql(f"UPDATE {DAILY} SET meta_spend = meta_spend + 1")
    await ask(running.url, **ASKED, depth=1)
    writer.sql(f"ALTER TABLE {DAILY} RENAME TO hidden")
    return before


async def test_when_the_legacy_fails_too_the_last_entry_is_served_marked_stale(
    database: Path, behind: Behind
) -> None:
    with Writer(database) as writer:
        async with backed(database, behind) as running:
            before = await gone_stale(running, writer)
            behind.misbehave(error_rate=1.0)
            answer = await ask(running.url)
            behind.misbehave(error_rate=0.0, is_empty=True)
            hidden = await ask(running.url)
    for each in (answer, hidden):
        assert (each.status, each.source, each.warnings) == (200, "stale", "stale")
        assert each.json["data"] == before.json["data"]
        assert each.json["metadata"]["warnings"] == [WARNINGS["stale"]]
        assert each.headers["ETag"] != before.headers["ETag"]
    assert answer.cache == "fwd=stale; detail=legacy_error"


async def test_a_stale_entry_is_served_without_a_legacy_too(database: Path) -> None:
    with Writer(database) as writer:
        async with serving(database) as running:
            before = await gone_stale(running, writer)
            answer = await ask(running.url)
    assert (answer.source, answer.cache) == ("stale", "fwd=stale; detail=schema")
    assert answer.json["data"] == before.json["data"]


@pytest.mark.parametrize("path", ["/data", OPTIMIZED, ANALYTICS])
async def test_when_nobody_can_answer_the_error_is_json(
    database: Path, behind: Behind, path: str
) -> None:
    take_away(database)
    async with backed(database, behind, legacy_timeout_s=0.05) as running:
        behind.misbehave(error_rate=1.0)
        failed = await ask(running.url, path)
        behind.misbehave(error_rate=0.0, slow_s=3600.0)
        late = await ask(running.url, path)
        await behind.server.close()
        gone = await ask(running.url, path)
    assert [reply.status for reply in (failed, late, gone)] == [503, 504, 503]
    for reply in (failed, late, gone):
        assert reply.json["success"] is False
        assert reply.json["error"]
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["X-Request-ID"]


async def test_without_database_and_legacy_the_error_is_503(database: Path) -> None:
    take_away(database)
    async with serving(database) as running:
        reply = await ask(running.url)
    assert (reply.status, reply.json) == (
        503,
        {"success": False, "error": "the database is not there"},
    )


# The database comes late, or is not what it has to be


async def test_a_database_that_comes_late_is_followed(database: Path, behind: Behind) -> None:
    away = take_away(database)
    async with backed(database, behind) as running:
        early = await ask(running.url)
        not_ready = await ready(running)
        away.rename(database)
        await asked_until(lambda: is_ready(running))
        late = [await ask(running.url) for _ in range(2)]
    assert (early.source, not_ready.status) == ("legacy", 503)
    assert not_ready.json["not_ready"] == ["database"]
    assert [reply.source for reply in late] == ["optimized", "optimized"]
    assert late[1].cache == "hit"


@pytest.mark.parametrize("table", [DAILY, "id_name_mapping"])
async def test_a_file_that_lacks_a_required_table_stops_the_start(
    database: Path, table: str
) -> None:
    with Writer(database) as writer:
        writer.sql(f"DROP TABLE {table}")
    with pytest.raises(SettingsError, match=f"{database}: .*required table {table}$"):
        async with serving(database):
            pass


async def test_a_file_that_is_no_database_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "garbage.db"
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(SettingsError, match=str(path)):
        async with serving(path):
            pass


# The legacy fails


async def test_our_routes_go_on_without_the_legacy(database: Path, behind: Behind) -> None:
    async with backed(database, behind) as running:
        await behind.server.close()
        own = [await ask(running.url, path) for path in ("/data", OPTIMIZED, ANALYTICS)]
        passed = await read(running.url, "/api/pipelines")
        health = await ready(running)
    assert [reply.source for reply in own] == ["optimized"] * 3
    assert (passed.status, passed.json["success"]) == (502, False)
    assert (health.status, health.json["parts"]["legacy"]) == (200, "down")


async def test_a_passed_through_request_that_takes_too_long_gets_504(
    database: Path, behind: Behind
) -> None:
    behind.misbehave(slow_s=3600.0)
    async with backed(database, behind, legacy_timeout_s=0.05) as running:
        reply = await ask(running.url, ANALYTICS, **ASKED, unknown=1)
    assert (reply.status, reply.json["success"]) == (504, False)


# Leaving


async def test_what_has_begun_is_answered_before_the_proxy_leaves(
    database: Path, behind: Behind
) -> None:
    take_away(database)
    behind.misbehave(slow_s=3600.0)
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(backed(database, behind))
        begun = asyncio.create_task(ask(running.url))
        await behind.asleep.wait()
        leaving = asyncio.create_task(stack.aclose())
        await refused(running.url)
        behind.may_go_on.set()
        answer = await begun
        await leaving
    assert (answer.status, answer.source) == (200, "legacy")
    assert len(running.background) == 0


async def refused(url: URL) -> None:
    """Return once nobody takes new connections there."""
    while True:
        try:
            _, writer = await asyncio.open_connection(url.host, url.port)
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0)
