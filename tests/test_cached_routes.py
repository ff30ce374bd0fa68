"""Cached legacy routes through a whole proxy: kept, coalesced, invalidated, and what never is."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import zstandard
from redis.asyncio import Redis
from yarl import URL

from proxy.app import Running
from proxy.clock import Clock
from proxy.errors import SettingsError
from tests.chart_legacy import JUNE, PATH, ROUTE, ChartLegacy, chart, chart_legacy
from tests.clocks import HandClock
from tests.public_port import (
    Reply,
    ask,
    calling,
    counted,
    get,
    make_database,
    message,
    post,
    serving,
)
from tests.redis_server import RedisServer
from tests.writer import Writer

EARLY = f"{PATH}?start_date=2024-06-21&end_date=2024-06-23"
LATER = "2024-07-01 09:00:00"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "data.db")


@pytest.fixture
def writer(database: Path) -> Iterator[Writer]:
    with Writer(database) as writer:
        yield writer


@pytest.fixture
async def legacy() -> AsyncIterator[ChartLegacy]:
    async with chart_legacy() as legacy:
        yield legacy


@asynccontextmanager
async def keeping(
    database: Path, legacy: ChartLegacy, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[Running]:
    route = {name: settings.pop(name) for name in list(settings) if name in _OF_ROUTE}
    settings.setdefault("cached_routes", [{**ROUTE, **route}])
    async with serving(database, clock, legacy_url=str(legacy.url), **settings) as running:
        yield running


_OF_ROUTE = {"ttl_s", "shared_between_users", "methods", "key"}


def number_in(reply: Reply) -> int:
    number: int = orjson.loads(reply.body)["data"][0]["roas"]
    return number


def status_of(reply: Reply) -> str:
    return reply.headers["cache-status"].removeprefix("dashboard-proxy; ")


async def test_an_answer_is_kept_and_has_the_headers_of_our_own(
    database: Path, legacy: ChartLegacy
) -> None:
    async with keeping(database, legacy) as running:
        first = await ask(running.url, get(JUNE))
        again = await ask(running.url, get(JUNE))
        assert counted(running, "cached", "legacy", "miss") == 1
        assert counted(running, "cached", "legacy", "hit") == 1

    assert (first.status, first.body, status_of(first)) == (200, chart(1), "fwd=miss; stored")
    assert (again.status, again.body, status_of(again)) == (200, chart(1), "hit")
    assert again.headers["x-dashboard-source"] == "legacy"
    assert again.headers["content-type"] == "application/json"
    assert again.headers["cache-control"] == "private, no-cache"
    assert again.headers["x-data-watermark"] == "2024-07-01 03:00:00"
    assert again.headers["age"] == "0"
    assert first.headers["x-request-id"]
    assert "x-request-id" not in again.headers
    assert legacy.seen[0]["accept-encoding"] == "identity"


async def test_eight_at_once_are_one_question_to_the_demos_legacy(
    database: Path, writer: Writer
) -> None:
    async with demo_legacy(database) as demo, aiohttp.ClientSession() as client:
        route = [{**ROUTE, "methods": ("GET",)}]
        async with serving(database, legacy_url=str(demo), cached_routes=route) as running:
            replies = await asyncio.gather(*(ask(running.url, get(JUNE)) for _ in range(8)))
            assert len({reply.body for reply in replies}) == 1
            assert await requests_to(client, demo) == 1

            writer.run(LATER)
            fresh = await ask(running.url, get(JUNE))
            assert status_of(fresh) == "fwd=stale; stored"
            assert fresh.body != replies[0].body
            assert await requests_to(client, demo) == 2


async def test_a_run_of_the_pipeline_makes_stale_what_names_its_dates_and_nothing_else(
    database: Path, legacy: ChartLegacy, writer: Writer
) -> None:
    async with keeping(database, legacy) as running:
        for target in (JUNE, EARLY, PATH):
            await ask(running.url, get(target))
        writer.run(LATER)
        june = await ask(running.url, get(JUNE))
        early = await ask(running.url, get(EARLY))
        without_dates = await ask(running.url, get(PATH))

    assert (status_of(june), number_in(june)) == ("fwd=stale; stored", 4)
    assert (status_of(early), number_in(early)) == ("hit", 2)
    assert (status_of(without_dates), number_in(without_dates)) == ("fwd=stale; stored", 5)


async def test_a_commit_that_writes_no_rows_leaves_everything_fresh(
    database: Path, legacy: ChartLegacy, writer: Writer
) -> None:
    async with keeping(database, legacy) as running:
        await ask(running.url, get(JUNE))
        await ask(running.url, get(PATH))
        # A commit of another connection, that our tables know nothing of.
        writer.sql("UPDATE id_name_mapping SET frequency_count = frequency_count + 1")
        writer.sql("PRAGMA wal_checkpoint(TRUNCATE)")
        assert status_of(await ask(running.url, get(JUNE))) == "hit"
        assert status_of(await ask(running.url, get(PATH))) == "hit"


@pytest.mark.parametrize("dates", ["start_date=2024-02-30&end_date=2024-06-30", "start_date=x"])
async def test_dates_that_are_none_stand_for_all_there_are(
    database: Path, legacy: ChartLegacy, writer: Writer, dates: str
) -> None:
    async with keeping(database, legacy) as running:
        await ask(running.url, get(f"{PATH}?{dates}"))
        assert status_of(await ask(running.url, get(f"{PATH}?{dates}"))) == "hit"
        writer.run(LATER)
        assert status_of(await ask(running.url, get(f"{PATH}?{dates}"))).startswith("fwd=stale")


async def test_a_deleted_day_makes_an_answer_without_dates_stale_at_once(
    database: Path, legacy: ChartLegacy, writer: Writer
) -> None:
    async with keeping(database, legacy) as running:
        await ask(running.url, get(PATH))
        writer.sql("DELETE FROM daily_mixpanel_metrics WHERE date = '2024-06-25'")
        reply = await ask(running.url, get(PATH))

    # A date that went missing is waited for: what was kept goes on and says so.
    assert (number_in(reply), reply.headers["x-dashboard-warning"]) == (1, "rebuilding")


async def test_with_a_time_it_is_kept_so_long_whatever_the_pipeline_does(
    database: Path, legacy: ChartLegacy, writer: Writer
) -> None:
    clock = HandClock()
    async with keeping(database, legacy, clock, ttl_s=60) as running:
        await ask(running.url, get(JUNE))
        writer.run(LATER)
        clock.pass_s(59)
        held = await ask(running.url, get(JUNE))
        clock.pass_s(2)
        expired = await ask(running.url, get(JUNE))

    assert (status_of(held), number_in(held), held.headers["age"]) == ("hit", 1, "59")
    assert (status_of(expired), number_in(expired)) == ("fwd=stale; stored", 2)


JSON = "application/json"
NEVER: dict[str, tuple[int, bytes, dict[str, str], str]] = {
    "an error": (500, chart(1), {"Content-Type": JSON}, "status"),
    "not found": (404, chart(1), {"Content-Type": JSON}, "status"),
    "no success": (200, b'{"success": false, "data": [1]}', {"Content-Type": JSON}, "no-success"),
    "no data": (200, b'{"success": true, "data": []}', {"Content-Type": JSON}, "empty"),
    "nothing": (200, b'{"success": true}', {"Content-Type": JSON}, "empty"),
    "a page": (200, b"<html>", {"Content-Type": "text/html"}, "no-json"),
    "a cut document": (200, b'{"success": true, "da', {"Content-Type": JSON}, "no-json"),
    "a cookie": (200, chart(1), {"Content-Type": JSON, "Set-Cookie": "a=b"}, "set-cookie"),
    "no-store": (200, chart(1), {"Content-Type": JSON, "Cache-Control": "no-store"}, "no-store"),
    "private": (200, chart(1), {"Content-Type": JSON, "Cache-Control": "private"}, "private"),
    "a Vary": (200, chart(1), {"Content-Type": JSON, "Vary": "X-Tenant"}, "vary"),
    "a coding": (200, chart(1), {"Content-Type": JSON, "Content-Encoding": "br"}, "encoding"),
}


@pytest.mark.parametrize("case", NEVER)
async def test_what_is_not_worth_keeping_is_answered_as_it_came(
    database: Path, legacy: ChartLegacy, case: str
) -> None:
    legacy.status, legacy.body, legacy.headers, reason = NEVER[case]
    async with keeping(database, legacy) as running:
        replies = [await ask(running.url, get(JUNE)) for _ in range(2)]

    assert len(legacy.asked) == 2
    for reply in replies:
        assert (reply.status, reply.body) == (legacy.status, legacy.body)
        assert status_of(reply) == f"fwd=miss; detail={reason}"
        assert reply.headers["x-dashboard-source"] == "legacy"
        for name, value in legacy.headers.items():
            assert reply.headers[name.lower()] == value


PAST = {
    "Authorization": (get(JUNE, "Authorization: Basic YTpi"), "credentials"),
    "Cookie": (get(JUNE, "Cookie: session=1"), "credentials"),
    "a header of a gateway": (get(JUNE, "X-User-Id: 7"), "credentials"),
    "an empty cookie": (get(JUNE, "Cookie:"), "credentials"),
    "Range": (get(JUNE, "Range: bytes=0-1"), "conditional"),
    "a condition": (get(JUNE, "If-Modified-Since: Sun, 30 Jun 2024 00:00:00 GMT"), "conditional"),
    "another parameter": (get(f"{JUNE}&campaign=1"), "parameter"),
    "a doubled parameter": (get(f"{JUNE}&end_date=2024-06-30"), "doubled"),
    "a broken escape": (get(f"{JUNE}&breakdown=%zz"), "parameter"),
    "a body on GET": (message("GET", JUNE, "Content-Length: 2", body=b"{}"), "body"),
    "a query on POST": (post(JUNE, b"{}"), "parameter"),
    "another field": (post(PATH, b'{"campaign": 1}'), "parameter"),
    "no object": (post(PATH, b"[1]"), "body"),
    "no JSON": (post(PATH, b"a=1", "Content-Type: application/x-www-form-urlencoded"), "body"),
    "a chunked body": (
        message("POST", PATH, "Transfer-Encoding: chunked", body=b"2\r\n{}\r\n0\r\n\r\n"),
        "body",
    ),
}


@pytest.mark.parametrize("case", PAST)
async def test_what_is_no_question_for_the_cache_goes_past_it(
    database: Path, legacy: ChartLegacy, case: str
) -> None:
    data, reason = PAST[case]
    async with keeping(database, legacy) as running:
        # What is kept for others must not be given to this one.
        await ask(running.url, get(JUNE))
        await ask(running.url, post(PATH, b"{}"))
        replies = [await ask(running.url, data) for _ in range(2)]
        assert counted(running, "cached", "legacy", "bypass") == 2

    assert [number_in(reply) for reply in replies] == [3, 4]
    assert {status_of(reply) for reply in replies} == {f"fwd=bypass; detail={reason}"}


async def test_a_body_that_goes_past_arrives_as_it_was_sent(
    database: Path, legacy: ChartLegacy
) -> None:
    async with keeping(database, legacy) as running:
        await ask(running.url, post(PATH, b'{"campaign":  1}'))

    assert legacy.asked == [f'POST {PATH} {{"campaign":  1}}']


async def test_a_method_that_is_not_configured_is_only_passed_through(
    database: Path, legacy: ChartLegacy
) -> None:
    async with keeping(database, legacy, methods=("GET",)) as running:
        replies = [await ask(running.url, post(PATH, b"{}")) for _ in range(2)]

    assert len(legacy.asked) == 2
    assert all("cache-status" not in reply.headers for reply in replies)


async def test_without_configuration_nothing_is_kept(database: Path, legacy: ChartLegacy) -> None:
    async with keeping(database, legacy, cached_routes=[]) as running:
        replies = [await ask(running.url, get(JUNE)) for _ in range(2)]
        assert counted(running, "passthrough", "legacy", "bypass") == 2

    assert [number_in(reply) for reply in replies] == [1, 2]
    assert all("cache-status" not in reply.headers for reply in replies)


async def test_parameters_in_another_order_or_spelling_are_the_same_question(
    database: Path, legacy: ChartLegacy
) -> None:
    async with keeping(database, legacy) as running:
        for query in (
            "start_date=2024-06-28&end_date=2024-06-30",
            "end_date=2024-06-30&start_date=2024-06-28",
            "end_date=2024%2D06-30&&start_date=2024-06-28",
        ):
            await ask(running.url, get(f"{PATH}?{query}"))
        assert len(legacy.asked) == 1
        for query in ("start_date=2024-06-28", "start_date=2024-06-28&end_date="):
            await ask(running.url, get(f"{PATH}?{query}"))
        assert len(legacy.asked) == 3


async def test_a_posted_object_is_its_meaning_not_its_bytes(
    database: Path, legacy: ChartLegacy
) -> None:
    same = (
        b'{"start_date": "2024-06-28", "breakdown": {"a": 1, "b": [2]}}',
        b'{"breakdown":{"b":[2],"a":1},\n"start_date":"2024-06-28"}',
    )
    async with keeping(database, legacy) as running:
        for body in same:
            await ask(running.url, post(PATH, body))
        assert len(legacy.asked) == 1
        for value in (b"1", b"1.0", b"true", b'"1"', b"null", b"9" * 30, b"9" * 29 + b"8"):
            await ask(running.url, post(PATH, b'{"breakdown": ' + value + b"}"))
        assert len(legacy.asked) == 8
        await ask(running.url, get(f"{PATH}?breakdown=1"))
        assert len(legacy.asked) == 9


async def test_a_route_shared_between_users_has_one_answer_for_all_of_them(
    database: Path, legacy: ChartLegacy
) -> None:
    async with keeping(database, legacy, shared_between_users=True) as running:
        replies = [
            await ask(running.url, get(JUNE, header))
            for header in ("Authorization: Basic YTpi", "Cookie: session=1", "X-User-Id: 7")
        ]

    assert [number_in(reply) for reply in replies] == [1, 1, 1]
    assert legacy.seen[0]["authorization"] == "Basic YTpi"


async def test_a_refusal_of_one_user_is_not_kept_for_the_next(
    database: Path, legacy: ChartLegacy
) -> None:
    legacy.status, legacy.body = 401, b'{"success": false, "error": "who are you?"}'
    async with keeping(database, legacy, shared_between_users=True) as running:
        refused = await ask(running.url, get(JUNE, "Authorization: Basic wrong"))
        legacy.status, legacy.body = 200, None
        let_in = await ask(running.url, get(JUNE, "Authorization: Basic right"))

    assert (refused.status, let_in.status) == (401, 200)


async def test_each_origin_has_the_answer_that_names_it(
    database: Path, legacy: ChartLegacy
) -> None:
    legacy.headers |= {"Vary": "Origin, Accept-Encoding", "X-Rows": "1", "ETag": '"its own"'}
    async with keeping(database, legacy) as running:
        for origin in ("https://a.example", "https://b.example"):
            legacy.headers["Access-Control-Allow-Origin"] = origin
            for number in range(2):
                reply = await ask(running.url, get(JUNE, f"Origin: {origin}"))
                assert reply.headers["access-control-allow-origin"] == origin
                assert reply.headers["vary"] == "Accept-Encoding, Origin"
                assert reply.headers["x-rows"] == "1"
                assert reply.headers["etag"] != '"its own"'
                assert status_of(reply) == ("hit" if number else "fwd=miss; stored")

    assert len(legacy.asked) == 2


async def test_a_caller_that_has_the_answer_is_told_so(database: Path, legacy: ChartLegacy) -> None:
    async with keeping(database, legacy) as running:
        first = await ask(running.url, get(JUNE))
        again = await ask(running.url, get(JUNE, f"If-None-Match: {first.headers['etag']}"))
        other = await ask(running.url, get(EARLY, f"If-None-Match: {first.headers['etag']}"))

    assert (again.status, again.body, status_of(again)) == (304, b"", "hit")
    assert (other.status, number_in(other)) == (200, 2)
    assert "if-none-match" not in legacy.seen[1]


async def test_we_compress_what_we_asked_for_uncompressed(
    database: Path, legacy: ChartLegacy
) -> None:
    legacy.body = orjson.dumps({"success": True, "data": ["spring campaign"] * 200})
    async with keeping(database, legacy) as running:
        for _ in range(2):
            reply = await ask(running.url, get(JUNE, "Accept-Encoding: zstd"))
            assert reply.headers["content-encoding"] == "zstd"
            assert zstandard.ZstdDecompressor().decompress(reply.body) == legacy.body


async def test_what_one_proxy_has_asked_another_finds_in_redis(
    database: Path, legacy: ChartLegacy
) -> None:
    async with RedisServer() as redis, keeping(database, legacy, redis_url=redis.url) as one:
        await ask(one.url, get(JUNE))
        await is_written(redis)
        async with keeping(database, legacy, redis_url=redis.url) as other:
            reply = await ask(other.url, get(JUNE))
            again = await ask(other.url, get(JUNE))

    assert (status_of(reply), number_in(reply)) == ("hit; detail=redis", 1)
    assert status_of(again) == "hit"
    assert len(legacy.asked) == 1


@pytest.mark.parametrize("failing", ["an error", "no data", "a page", "no success"])
async def test_while_the_legacy_fails_the_last_known_answer_goes_on(
    database: Path, legacy: ChartLegacy, writer: Writer, failing: str
) -> None:
    async with keeping(database, legacy) as running:
        before = await ask(running.url, get(JUNE))
        writer.run(LATER)
        legacy.status, legacy.body, legacy.headers, reason = NEVER[failing]
        reply = await ask(running.url, get(JUNE))

    assert (reply.status, reply.body) == (200, before.body)
    assert reply.headers["x-dashboard-source"] == "stale"
    assert reply.headers["x-dashboard-warning"] == "stale"
    assert status_of(reply) == f"fwd=stale; detail={reason}"


async def test_a_legacy_that_is_gone_is_a_502_or_the_last_known_answer(
    database: Path, writer: Writer
) -> None:
    async with AsyncExitStack() as stack:
        legacy = await stack.enter_async_context(chart_legacy())
        async with keeping(database, legacy) as running:
            await ask(running.url, get(JUNE))
            writer.run(LATER)
            await stack.aclose()
            known = await ask(running.url, get(JUNE))
            new = await ask(running.url, get(EARLY))

    assert (known.status, known.headers["x-dashboard-source"]) == (200, "stale")
    assert status_of(known) == "fwd=stale; detail=unreachable"
    assert (new.status, orjson.loads(new.body)["success"]) == (502, False)


async def test_a_legacy_that_hangs_is_a_504_when_its_time_is_over(
    database: Path, legacy: ChartLegacy
) -> None:
    legacy.before = asyncio.Event().wait  # type: ignore[assignment]
    async with keeping(database, legacy, legacy_timeout_s=0.2) as running:
        replies = await asyncio.gather(*(ask(running.url, get(JUNE)) for _ in range(3)))
        assert counted(running, "cached", "none", "error") == 3

    assert [reply.status for reply in replies] == [504, 504, 504]
    assert all(reply.headers["cache-control"] == "no-store" for reply in replies)


async def test_a_caller_that_leaves_disturbs_nobody(database: Path, legacy: ChartLegacy) -> None:
    gate = asyncio.Event()
    legacy.before = gate.wait  # type: ignore[assignment]
    async with keeping(database, legacy) as running:
        async with calling(running.url) as leader:
            leader.send(get(JUNE))
            await legacy.has_come.wait()
        async with calling(running.url) as follower:
            follower.send(get(JUNE))
            gate.set()
            reply = await follower.reply()

    assert (number_in(reply), len(legacy.asked)) == (1, 1)


async def test_while_the_tables_are_rebuilt_nothing_new_is_kept(
    database: Path, legacy: ChartLegacy, writer: Writer
) -> None:
    async with keeping(database, legacy) as running:
        await ask(running.url, get(JUNE))
        await ask(running.url, get(PATH))
        writer.empty()
        june, all_dates = [await ask(running.url, get(target)) for target in (JUNE, PATH)]
        new = [await ask(running.url, get(f"{JUNE}&breakdown=country")) for _ in range(2)]

    assert [number_in(june), number_in(all_dates)] == [1, 2]
    assert [number_in(reply) for reply in new] == [3, 4]
    assert status_of(june) == "hit; detail=rebuilding"
    assert status_of(new[1]) == "fwd=miss; detail=rebuilding"
    for reply in (june, all_dates, *new):
        assert reply.headers["x-dashboard-warning"] == "rebuilding"
        assert reply.headers["x-dashboard-source"] == "legacy"


async def test_a_day_deleted_while_the_legacy_answers_poisons_nothing(
    database: Path, legacy: ChartLegacy, writer: Writer
) -> None:
    async def delete() -> None:
        writer.sql("DELETE FROM daily_mixpanel_metrics WHERE date = '2024-06-29'")

    async with keeping(database, legacy) as running:
        # Its dates are known before, so that the deletion is a change to them.
        await ask(running.url, get(JUNE))
        legacy.before = delete
        reply = await ask(running.url, get(f"{JUNE}&breakdown=country"))

    assert (number_in(reply), status_of(reply)) == (2, "fwd=miss; detail=unsettled")


async def test_without_its_database_it_gives_what_it_has_and_says_so(
    database: Path, legacy: ChartLegacy
) -> None:
    async with keeping(database, legacy) as running:
        await ask(running.url, get(JUNE))
        move_away(database)
        held = await ask(running.url, get(JUNE))
        new = await ask(running.url, get(EARLY))

    assert (number_in(held), held.headers["x-dashboard-source"]) == (1, "stale")
    assert held.headers["x-dashboard-warning"] == "unverified"
    assert (number_in(new), status_of(new)) == (2, "fwd=miss; detail=unverified")


async def test_an_answer_too_long_to_be_held_is_passed_through(
    database: Path, legacy: ChartLegacy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.handlers.whole_reply.LARGEST_REPLY", 10)
    async with keeping(database, legacy) as running:
        reply = await ask(running.url, get(JUNE))

    assert (reply.status, status_of(reply)) == (200, "fwd=bypass; detail=too-long")


@pytest.mark.parametrize(
    ("routes", "text"),
    [
        ([{"path": "/api/dashboard/data"}], r"cached_routes\[0\].path is .*: the proxy answers it"),
        ([{"path": "/x"}, {"path": "/x"}], r"cached_routes\[1\].path is '/x': another table has"),
    ],
)
async def test_routes_that_cannot_be_stop_the_start(
    database: Path, legacy: ChartLegacy, routes: list[dict[str, str]], text: str
) -> None:
    with pytest.raises(SettingsError, match=text):
        async with keeping(database, legacy, cached_routes=routes):
            pass


@asynccontextmanager
async def demo_legacy(database: Path) -> AsyncIterator[URL]:
    """The demo's legacy as a process of its own: it reads with another SQLite."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start_demo_legacy(database, port)
    url = URL.build(scheme="http", host="127.0.0.1", port=port)
    try:
        async with aiohttp.ClientSession() as client:
            while True:
                try:
                    async with client.get(url / "__demo/requests"):
                        break
                except aiohttp.ClientConnectorError:
                    assert process.poll() is None
        yield url
    finally:
        process.terminate()
        process.wait()


def start_demo_legacy(database: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "proxy.demo.legacy"]
    return subprocess.Popen([*command, "--database", str(database), "--port", str(port)])


def move_away(database: Path) -> None:
    for path in list(database.parent.glob(f"{database.name}*")):
        path.rename(f"{path}.away")


async def is_written(redis: RedisServer) -> None:
    """Wait until the write behind the caller's back has come to Redis."""
    async with Redis.from_url(redis.url) as client:
        while not await client.dbsize():
            pass


async def requests_to(client: aiohttp.ClientSession, demo: URL) -> int:
    async with client.get(demo / "__demo/requests") as response:
        counts: dict[str, int] = await response.json()
        return counts[PATH]
