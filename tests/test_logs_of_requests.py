"""Each line written for a request says for which: by the id that its answer has."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import structlog
from redis.asyncio import Redis

from proxy.cache.codec import VERSION
from proxy.handlers.dashboard import Dashboard
from proxy.logs import configure_logs
from tests.chart_legacy import JUNE, PATH, ROUTE, ChartLegacy, chart_legacy
from tests.public_port import Reply, ask, calling, get, make_database, post, serving
from tests.redis_server import RedisServer
from tests.waiting import until

QUESTION = orjson.dumps({"start_date": "2024-06-21", "end_date": "2024-06-30"})
EMPTY = orjson.dumps({"start_date": "2020-01-01", "end_date": "2020-01-02"})
SPLIT = "/api/dashboard/analytics/data"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
NOWHERE = "http://127.0.0.1:1"
OF_NOBODY = ("listening", "stopping", "stopped", "tracing")


class Lines:
    """What was logged, but for the proxy's own start and end."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        configure_logs("json", self._stream)

    def all(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._stream.getvalue().splitlines()]
        return [line for line in lines if line["event"] not in OF_NOBODY]

    def events(self) -> list[str]:
        return [line["event"] for line in self.all()]

    def ids(self) -> set[str | None]:
        return {line.get("request_id") for line in self.all()}

    def clear(self) -> None:
        self._stream.truncate(0)
        self._stream.seek(0)


@pytest.fixture
def lines() -> Iterator[Lines]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield Lines()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "data.db")


@pytest.fixture
async def legacy() -> AsyncIterator[ChartLegacy]:
    async with chart_legacy() as legacy:
        yield legacy


def id_of(reply: Reply) -> str:
    assert reply.headers["x-request-id"]
    return reply.headers["x-request-id"]


async def test_a_miss_and_a_refusal_have_the_id_of_their_answer(
    database: Path, lines: Lines
) -> None:
    async with serving(database) as running:
        for body, event in ((QUESTION, "answered"), (b'{"start_date": 1}', "refused")):
            reply = await ask(running.url, post("/data", body))
            assert (lines.events(), lines.ids()) == ([event], {id_of(reply)})
            lines.clear()


async def test_all_that_goes_wrong_below_is_told_with_the_id(database: Path, lines: Lines) -> None:
    """Redis, the database and the legacy, each on the other side of a task."""
    async with RedisServer() as redis, Redis.from_url(redis.url) as client:
        settings: dict[str, Any] = {"redis_url": redis.url, "legacy_url": NOWHERE}
        async with serving(database, **settings) as running:
            await ask(running.url, post("/data", QUESTION))
            await running.background.drained()
        for name in await client.keys(f"dashboard-proxy:{VERSION}:*"):
            await client.set(name, b"rubbish")
        lines.clear()
        async with serving(database, **settings) as running:
            # Without a look it would not even know what its keys are.
            await until(lambda: running.watermarks.state == "settled")
            await asyncio.to_thread(database.rename, database.with_name("gone.db"))
            reply = await ask(running.url, post("/data", QUESTION, "X-Request-ID: mine"))
    assert reply.status == 503
    told = {line["event"]: line.get("request_id") for line in lines.all()}
    for event in ("store_rubbish", "fallback_failed", "no_answer"):
        assert told[event] == "mine"


async def test_a_handler_that_fails_tells_the_id_to_its_caller_and_to_the_log(
    database: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("what nobody foresaw")

    monkeypatch.setattr(Dashboard, "handle", fail)
    async with serving(database) as running:
        reply = await ask(running.url, post("/data", QUESTION))
    assert reply.status == 500
    [line] = lines.all()
    assert (line["event"], line["level"]) == ("handler_failed", "error")
    assert "what nobody foresaw" in line["exception"]
    assert line["request_id"] == id_of(reply)


async def test_what_the_legacy_answers_has_the_id_it_is_sent_with(
    database: Path, lines: Lines, legacy: ChartLegacy
) -> None:
    strange = orjson.dumps({**orjson.loads(QUESTION), "unknown": 1})
    async with serving(database, legacy_url=str(legacy.url), cached_routes=[ROUTE]) as running:
        bypassed = await ask(running.url, post(SPLIT, strange))
        assert (lines.events(), lines.ids()) == (["bypassed"], {id_of(bypassed)})
        lines.clear()
        kept = await ask(running.url, get(JUNE))
        assert (lines.events(), lines.ids()) == (["answered"], {id_of(kept)})
        lines.clear()
        fell_back = await ask(running.url, post("/data", EMPTY))
        assert set(lines.events()) == {"answered", "fell_back"}
        assert lines.ids() == {id_of(fell_back)}
        lines.clear()
        passed = await ask(running.url, get("/other", "X-Request-ID: mine"))
        assert (lines.events(), lines.ids()) == (["passed"], {"mine"})
        # Somebody else's answer is left as it is.
        assert "x-request-id" not in passed.headers


async def test_a_request_that_nobody_answers_has_an_id_too(database: Path, lines: Lines) -> None:
    async with serving(
        database, legacy_url=NOWHERE, cached_routes=[ROUTE], auth="forward"
    ) as running:
        for data in (get("/other"), get(PATH), get(JUNE), post("/data", QUESTION)):
            lines.clear()
            reply = await ask(running.url, data)
            assert reply.status in (502, 503)
            # That nobody can be let in is found out for all, not for one of them.
            own = [line for line in lines.all() if line["event"] != "auth_down"]
            assert {line.get("request_id") for line in own} == {id_of(reply)}


async def test_each_waiter_has_its_own_id_and_the_load_that_of_who_began_it(
    database: Path, lines: Lines, legacy: ChartLegacy
) -> None:
    may_answer = asyncio.Event()

    async def wait() -> None:
        await may_answer.wait()

    legacy.before = wait
    legacy.status = 500
    async with (
        serving(database, legacy_url=str(legacy.url)) as running,
        calling(running.url) as first,
        calling(running.url) as second,
    ):
        first.send(post("/data", EMPTY, "X-Request-ID: first"))
        await legacy.has_come.wait()
        second.send(post("/data", EMPTY, "X-Request-ID: second"))
        await until(lambda: ": 2}" in repr(running.read_through._flights))
        may_answer.set()
        await first.reply()
        await second.reply()
    told = [(line["event"], line["request_id"]) for line in lines.all()]
    assert sorted(told) == [
        ("fallback_failed", "first"),
        ("no_answer", "first"),
        ("no_answer", "second"),
    ]


@pytest.mark.parametrize(
    "sent",
    ["a\x1b[31mred", "x" * 201, "zw\xf6lf", "tab\there", ""],
)
async def test_an_id_that_may_not_stand_in_a_log_is_replaced(
    database: Path, lines: Lines, sent: str
) -> None:
    async with serving(database) as running:
        reply = await ask(running.url, post("/data", QUESTION, f"X-Request-ID: {sent}"))
    if reply.status == 200:
        assert len(id_of(reply)) == 32
        assert lines.ids() == {id_of(reply)}
    else:
        assert (reply.status, sent in json.dumps(lines.all())) == (400, False)


async def test_the_place_in_a_trace_is_told_where_there_is_one(
    database: Path, lines: Lines
) -> None:
    async with serving(database) as running:
        for headers in (
            (f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01",),
            (),
            (f"traceparent: 00-{TRACE}-00f067aa0ba902b7",),
        ):
            await ask(running.url, post("/data", b"{}", *headers))
    assert [line.get("trace_id") for line in lines.all()] == [TRACE, None, None]


async def test_an_operators_call_has_an_id_and_what_it_sets_going_has_none(
    database: Path, lines: Lines
) -> None:
    async with serving(database) as running, aiohttp.ClientSession() as session:
        url = running.admin_url / "admin" / "warm"
        async with session.post(url, json={"queries": "usual"}) as response:
            assert response.status == 202
        await until(lambda: "job_over" in lines.events())
        async with session.get(running.admin_url / "nowhere") as refused:
            assert refused.headers["X-Request-ID"]
    told = {line["event"]: line.get("request_id") for line in lines.all()}
    assert told.pop("audit") == response.headers["X-Request-ID"]
    assert set(told.values()) == {None}
