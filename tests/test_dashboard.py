"""Our own routes from outside: what is answered, what is refused, what goes on untouched."""

import asyncio
import gzip
from pathlib import Path

import orjson
import pytest
import zstandard

from proxy.handlers import dashboard, questions
from proxy.handlers.bypass import printable
from proxy.handlers.dashboard import LARGEST_BODY
from tests.public_port import (
    Reply,
    ask,
    calling,
    counted,
    echo_legacy,
    get,
    make_database,
    message,
    post,
    serving,
)
from tests.waiting import until

RANGE = {"start_date": "2024-06-21", "end_date": "2024-06-30"}
QUESTION = orjson.dumps(RANGE)
AS_QUERY = "start_date=2024-06-21&end_date=2024-06-30"
ORIGIN = "https://app.example"
HIT = "dashboard-proxy; hit"
STORED = "dashboard-proxy; fwd=miss; stored"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "tables.db")


def error_in(reply: Reply) -> str:
    refusal = orjson.loads(reply.body)
    assert set(refusal) == {"success", "error"}
    assert refusal["success"] is False
    return str(refusal["error"])


async def test_requests_that_mean_the_same_share_one_entry(database: Path) -> None:
    spelled = [
        post("/data", QUESTION),
        post("/api/dashboard/data", b' {"end_date": "2024-06-30", "start_date":"2024-06-21"}\n'),
        post("/data", orjson.dumps({**RANGE, "hierarchy": "campaign", "depth": 3})),
        post("/data", b'{"start_date":1,' + QUESTION[1:]),
        get(f"/data?{AS_QUERY}"),
        get("/data?end_date=2024-06%2D30&start_date=2024-06-21&include_sparkline=FALSE"),
        get(f"/api/dashboard/data?{AS_QUERY}&depth=3&breakdown=all"),
        message("HEAD", f"/data?{AS_QUERY}"),
    ]
    async with serving(database) as running:
        replies = [await ask(running.url, data) for data in spelled]
    assert [reply.headers["cache-status"] for reply in replies] == [STORED] + 7 * [HIT]
    assert len({reply.headers["etag"] for reply in replies}) == 1
    assert {reply.body for reply in replies} == {replies[0].body, b""}


async def test_the_two_analytics_routes_are_one(database: Path) -> None:
    async with serving(database) as running:
        first = await ask(running.url, post("/analytics/data", QUESTION))
        second = await ask(running.url, post("/analytics/data/optimized", QUESTION))
    assert second.headers["cache-status"] == HIT
    assert second.body == first.body
    assert first.headers["x-dashboard-variant"] == "optimized"
    assert "x-dashboard-variant" not in second.headers


async def test_a_reload_key_held_down_is_no_load_test(database: Path) -> None:
    pressed = post("/data", QUESTION, "Cache-Control: no-cache", "Pragma: no-cache")
    async with serving(database) as running:
        statuses = [(await ask(running.url, pressed)).headers["cache-status"] for _ in range(3)]
    assert statuses == [STORED, HIT, HIT]


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_the_body_comes_in_the_coding_that_the_caller_takes(
    database: Path, coding: str
) -> None:
    async with serving(database) as running:
        plain = await ask(running.url, post("/data", QUESTION))
        packed = await ask(running.url, post("/data", QUESTION, f"Accept-Encoding: {coding}"))
    assert packed.headers["content-encoding"] == coding
    unpacked = (
        gzip.decompress(packed.body) if coding == "gzip" else zstandard.decompress(packed.body)
    )
    assert unpacked == plain.body
    assert packed.headers["etag"] == f'{plain.headers["etag"][:-1]}-{coding}"'
    assert packed.headers["vary"] == "Accept-Encoding"


async def test_a_short_body_is_not_packed(database: Path) -> None:
    empty = orjson.dumps({"start_date": "2020-01-01", "end_date": "2020-01-01"})
    async with serving(database) as running:
        reply = await ask(running.url, post("/data", empty, "Accept-Encoding: gzip"))
    assert "content-encoding" not in reply.headers
    assert orjson.loads(reply.body)["data"] == []


async def test_a_caller_that_has_the_answer_gets_304_whatever_its_coding(database: Path) -> None:
    async with serving(database) as running:
        plain = await ask(running.url, post("/data", QUESTION))
        known = f"If-None-Match: {plain.headers['etag']}"
        for headers in ([known], [known, "Accept-Encoding: zstd"]):
            reply = await ask(running.url, post("/data", QUESTION, *headers))
            assert (reply.status, reply.body) == (304, b"")
            assert reply.headers["cache-status"] == HIT


@pytest.mark.parametrize(
    ("sent", "on_miss", "on_hit"),
    [
        ("X-Request-ID: mine-1", "mine-1", "mine-1"),
        ("X-Request-ID: \xff", None, ""),
        ("X-Request-ID: a\tb", None, ""),
        ("X-Request-ID: " + "x" * 201, None, ""),
        ("X-Other: 1", None, ""),
    ],
)
async def test_a_request_id_is_the_callers_or_ours_but_for_hits(
    database: Path, sent: str, on_miss: str | None, on_hit: str
) -> None:
    async with serving(database) as running:
        miss, hit = [await ask(running.url, post("/data", QUESTION, sent)) for _ in range(2)]
    if on_miss is None:
        assert len(miss.headers["x-request-id"]) == 32
    else:
        assert miss.headers["x-request-id"] == on_miss
    assert hit.headers.get("x-request-id", "") == on_hit


@pytest.mark.parametrize(
    ("text", "kept"),
    [("a b-1", True), ("", True), ("x" * 200, True), ("é", False), ("a\r\nb", False)],
)
def test_only_what_may_stand_in_a_header_is_kept_of_a_request_id(text: str, kept: bool) -> None:
    assert printable(text) == (text if kept else "")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (post("/data", b""), "No data provided in request"),
        (post("/data", b"{}"), "No data provided in request"),
        (get("/data"), "No data provided in request"),
        (get("/data?"), "No data provided in request"),
        (post("/data", b"[]"), "Invalid request body. Must be a JSON object"),
        (post("/data", b'{"start_date"'), "Invalid request body. Must be a JSON object"),
        (post("/data", b'{"end_date":"2024-06-30"}'), "Missing required parameter: start_date"),
        (get("/data?start_date=2024-06-01"), "Missing required parameter: end_date"),
        (
            get(f"/data?{AS_QUERY}&breakdown=x"),
            "Invalid breakdown parameter. Must be one of: ['all', 'country', 'region', 'device']",
        ),
        (
            get(f"/analytics/data/optimized?{AS_QUERY}&group_by="),
            "Invalid group_by parameter. Must be one of: ['campaign', 'adset', 'ad']",
        ),
        (
            get(f"/data?{AS_QUERY}&end_date=2024-06-30"),
            "Invalid end_date parameter. Must be given only once",
        ),
        (
            get(f"/data?{AS_QUERY}&%ff=1"),
            "Invalid query string. Must be UTF-8 with at most 64 fields",
        ),
        (
            post("/data?a=1", QUESTION),
            "Unknown query string on POST. Parameters must stand in the body",
        ),
        (
            message("GET", f"/data?{AS_QUERY}", "Content-Length: 1", body=b"x"),
            "Unknown body on GET. Parameters must stand in the query string",
        ),
        (
            post("/data", gzip.compress(QUESTION), "Content-Encoding: gzip"),
            "Invalid request body. Must not be compressed",
        ),
    ],
)
async def test_what_is_no_question_is_refused_with_the_reason(
    database: Path, data: bytes, error: str
) -> None:
    async with serving(database) as running, calling(running.url) as caller:
        for _ in range(2):
            reply = await caller.ask(data)
            assert (reply.status, error_in(reply)) == (400, error)
            assert reply.headers["cache-control"] == "no-store"
            assert len(reply.headers["x-request-id"]) == 32
            assert reply.headers["cache-status"] == "dashboard-proxy; detail=refused"
            assert reply.headers["x-dashboard-source"] == "optimized"
        words = ("data", "optimized")
        assert sum(counted(running, word, "none", "error") for word in words) == 2
        assert (await caller.ask(post("/data", QUESTION))).status == 200


@pytest.mark.parametrize("coding", ["", "chunked"])
async def test_a_body_longer_than_any_question_is_not_read_to_its_end(
    database: Path, coding: str
) -> None:
    async with serving(database) as running, calling(running.url) as caller:
        if coding:
            caller.send(message("POST", "/data", f"Transfer-Encoding: {coding}"))
            caller.send(f"{LARGEST_BODY + 1:x}\r\n".encode() + b"x" * (LARGEST_BODY + 1))
        else:
            caller.send(message("POST", "/data", f"Content-Length: {LARGEST_BODY + 1}"))
        reply = await caller.reply()
        assert (reply.status, reply.headers["connection"]) == (413, "close")
        assert error_in(reply) == f"Request body too large. Must be at most {LARGEST_BODY} bytes"


async def test_a_body_as_long_as_may_be_is_read(database: Path) -> None:
    body = QUESTION + b" " * (LARGEST_BODY - len(QUESTION))
    async with serving(database) as running:
        assert (await ask(running.url, post("/data", body))).status == 200


async def test_a_body_that_does_not_come_is_not_waited_for_for_ever(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "BODY_TIMEOUT_S", 0.01)
    async with serving(database) as running, calling(running.url) as caller:
        reply = await caller.ask(message("POST", "/data", "Content-Length: 60", body=QUESTION))
        assert (reply.status, reply.headers["connection"]) == (408, "close")
        assert error_in(reply) == "Request body incomplete. Must arrive within 0.01 s"


async def test_a_caller_that_leaves_in_the_middle_of_its_body_leaves_nothing_behind(
    database: Path,
) -> None:
    async with serving(database) as running:
        tasks = len(asyncio.all_tasks())
        async with calling(running.url) as caller:
            await caller.ask(post("/data", QUESTION))
            caller.send(message("POST", "/data", "Content-Length: 60", body=QUESTION))
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        assert (await ask(running.url, post("/data", QUESTION))).status == 200


@pytest.mark.parametrize(
    ("data", "route", "detail"),
    [
        (message("PUT", "/data", "Content-Length: 2", body=b"{}"), "data", "method"),
        (message("DELETE", "/analytics/data"), "analytics", "method"),
        (message("PROPFIND", "/data?a=%zz"), "data", "method"),
        (message("OPTIONS", "/data", "Origin: https://x"), "data", "method"),
        (post("/data", b'{ "unknown" : "\\u00e9" , "depth": 99}'), "data", "not-understood"),
        (post("/analytics/data", b"no json \xff"), "analytics", "not-understood"),
        (post("/analytics/data", b""), "analytics", "not-understood"),
        (post("/analytics/data", b'{"start_date":"2024-06-30"}'), "analytics", "not-understood"),
        (get("/analytics/data?start_date=%zz&&x=+"), "analytics", "not-understood"),
        (post("/data?", QUESTION + b" ", "Content-Encoding: br"), "data", "not-understood"),
        (post("/data?a=1", QUESTION), "data", "not-understood"),
        (
            message("GET", f"/data?{AS_QUERY}", "Content-Length: 2", body=b"{}"),
            "data",
            "not-understood",
        ),
    ],
)
async def test_what_the_legacy_may_know_better_goes_to_it_byte_for_byte(
    database: Path, data: bytes, route: str, detail: str
) -> None:
    head, _, body = data.partition(b"\r\n\r\n")
    method, target, _ = head.split(b"\r\n")[0].split(b" ")
    async with echo_legacy() as legacy, serving(database, legacy_url=str(legacy.url)) as running:
        reply = await ask(running.url, data)
        assert legacy.asked == [method + b" " + target + b"\n" + body]
        assert (reply.status, reply.body) == (200, legacy.asked[0])
        assert reply.headers["cache-status"] == f"dashboard-proxy; fwd=bypass; detail={detail}"
        assert reply.headers["x-dashboard-source"] == "legacy"
        assert reply.headers["x-dashboard-variant"] == "legacy"
        assert len(reply.headers["x-request-id"]) == 32
        assert "etag" not in reply.headers
        words = [
            labels["route"]
            for metric in running.telemetry.requests.collect()
            for _, labels, value, *_ in metric.samples
            if labels.get("result") == "bypass" and value == 1
        ]
        assert words[0] == route


async def test_an_invalid_value_is_refused_by_us_where_the_legacy_knows_no_such_route(
    database: Path,
) -> None:
    async with echo_legacy() as legacy, serving(database, legacy_url=str(legacy.url)) as running:
        reply = await ask(running.url, post("/data", orjson.dumps({**RANGE, "depth": True})))
        assert (reply.status, legacy.asked) == (400, [])


async def test_without_a_legacy_every_route_refuses_by_itself(database: Path) -> None:
    async with serving(database) as running:
        unknown = await ask(running.url, post("/analytics/data", b'{"unknown":1}'))
        put = await ask(running.url, message("PUT", "/data"))
    assert unknown.status == 400
    assert error_in(unknown).startswith("Unknown parameter unknown. Known are: ['breakdown', ")
    assert put.status == 502


async def test_a_preflight_of_a_named_origin_is_answered_by_us(database: Path) -> None:
    asked = ["Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x-a"]
    async with (
        echo_legacy() as legacy,
        serving(database, legacy_url=str(legacy.url), cors_origins=(ORIGIN,)) as running,
    ):
        ours = await ask(running.url, message("OPTIONS", "/data", f"Origin: {ORIGIN}", *asked))
        assert (ours.status, legacy.asked) == (204, [])
        assert ours.headers["access-control-allow-origin"] == ORIGIN
        assert ours.headers["access-control-allow-headers"] == "x-a"
        for headers in ([f"Origin: {ORIGIN}"], ["Origin: https://other", *asked], asked):
            theirs = await ask(running.url, message("OPTIONS", "/data", *headers))
            assert theirs.body == b"OPTIONS /data\n"


async def test_answers_and_refusals_may_be_read_by_a_named_origin(database: Path) -> None:
    async with serving(database, cors_origins=(ORIGIN,)) as running:
        for body, status in ((QUESTION, 200), (b"{}", 400)):
            for origin, allowed in ((ORIGIN, ORIGIN), ("https://other", None), ("\xff", None)):
                reply = await ask(running.url, post("/data", body, f"Origin: {origin}"))
                assert reply.status == status
                assert reply.headers.get("access-control-allow-origin") == allowed
                assert "Origin" in reply.headers["vary"]


async def test_the_same_text_as_body_and_as_query_is_not_the_same_question(database: Path) -> None:
    async with serving(database) as running:
        assert (await ask(running.url, get(f"/data?{AS_QUERY}"))).status == 200
        assert (await ask(running.url, post("/data", AS_QUERY.encode()))).status == 400
        # Also once both texts have been seen and are remembered.
        assert (await ask(running.url, get(f"/data?{AS_QUERY}"))).status == 200
        assert (await ask(running.url, post("/data", AS_QUERY.encode()))).status == 400


async def test_only_so_many_texts_are_remembered(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "_MOST_PARSED", 2)
    async with serving(database) as running:
        for spaces in range(6):
            reply = await ask(running.url, post("/data", b" " * spaces + QUESTION))
            assert reply.status == 200
