"""The fast lane on a whole proxy, on both event loops: its answers carry no Server header."""

import asyncio
import gc
import inspect
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import closing, suppress
from datetime import date
from pathlib import Path
from random import Random
from typing import Any, cast

import orjson
import pytest
import uvloop
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from proxy.app import Running
from proxy.cache.entry import Entry
from proxy.cache.tiered import TieredStore
from proxy.freshness import Watermark
from proxy.handlers import fast_lane
from proxy.handlers.fast_lane import Lane, Question
from proxy.handlers.lane_protocol import LaneProtocol, is_one_request
from proxy.handlers.lane_server import LaneServer
from proxy.handlers.responses import Wanted
from proxy.payload import Payload
from proxy.query import Key, Query
from proxy.read_through import ReadThrough
from proxy.telemetry import Telemetry
from tests.clocks import HandClock
from tests.intermediary import RawLegacy, raw_legacy
from tests.public_port import (
    Caller,
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

RANGE = {"start_date": "2024-06-21", "end_date": "2024-06-30"}
QUESTION = orjson.dumps(RANGE)
LARGE = orjson.dumps({**RANGE, "breakdown": "country", "include_sparkline": True})
ASK = post("/data", QUESTION)
ASK_ADSETS = get("/data?start_date=2024-06-21&end_date=2024-06-30&hierarchy=adset")
ASK_LARGE = post("/analytics/data/optimized", LARGE)
ORIGIN = "https://app.example"


Test = Callable[..., Coroutine[Any, Any, None]]


def on_both_loops(test: Test) -> Callable[..., None]:
    """`test` as two tests: on asyncio's own loop and on uvloop's."""

    def run(loop: Callable[[], asyncio.AbstractEventLoop], **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(test(**fixtures))

    signature = inspect.signature(test)
    loop = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)
    fixtures = [given.replace(kind=loop.kind) for given in signature.parameters.values()]
    run.__name__, run.__module__ = test.__name__, test.__module__
    run.__signature__ = signature.replace(parameters=[loop, *fixtures])  # type: ignore[attr-defined]
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    twice: Callable[..., None] = pytest.mark.parametrize("loop", loops, ids=["asyncio", "uvloop"])(
        run
    )
    return twice


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "tables.db")


def by_lane(reply: Reply) -> bool:
    return "server" not in reply.headers


def said(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    """All of a reply but what names the server and the second."""
    own = {name: text for name, text in reply.headers.items() if name not in ("server", "date")}
    return reply.status, own, reply.body


def meant(reply: Reply) -> tuple[int, str | None, bytes]:
    """What does not depend on whether the answer was kept already."""
    return reply.status, reply.headers.get("etag"), reply.body


async def settled() -> None:
    """Let the other end read what was sent: both ends share one loop."""
    for _ in range(4):
        await asyncio.sleep(0)


async def in_two(url: URL, data: bytes) -> Reply:
    """The answer the usual way, which a split request always goes."""
    async with calling(url) as caller:
        caller.send(data[:20])
        await settled()
        caller.send(data[20:])
        return await caller.reply(is_head=data.startswith(b"HEAD"))


def connections() -> list[LaneProtocol]:
    held = [found for found in gc.get_objects() if type(found) is LaneProtocol]
    return [protocol for protocol in held if protocol.connected]


class SlowLegacy:
    """Answers each request once it may."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()

    async def __call__(
        self, legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            await legacy.head(reader)
            await self.may_answer.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")


def rewrite(database: Path) -> None:
    """One commit of the pipeline that changes every number."""
    with closing(sqlite3.connect(database)) as db, db:
        db.execute(
            "UPDATE daily_mixpanel_metrics SET adjusted_estimated_revenue_usd ="
            " adjusted_estimated_revenue_usd + 1, computed_at = '2024-07-02 03:00:00'"
        )


@pytest.mark.parametrize(
    "request_bytes",
    [
        ASK,
        post("/api/dashboard/data", QUESTION, "Accept-Encoding: gzip, deflate, br"),
        post("/data", QUESTION, "Accept-Encoding: br, zstd", "Connection: keep-alive"),
        post("/data", QUESTION, "Accept-Encoding: identity;q=1, gzip;q=0.5"),
        post("/analytics/data", QUESTION, "Content-Type: text/plain"),
        post("/data", QUESTION, f"Origin: {ORIGIN}"),
        post("/data", QUESTION, "Origin: https://other.example"),
        post("/data", QUESTION, "If-None-Match: *"),
        post("/data", QUESTION, "If-None-Match: *", "Accept-Encoding: gzip"),
        post("/data", QUESTION, 'If-None-Match: "other"'),
        ASK_ADSETS,
        ASK_LARGE,
        post("/analytics/data/optimized", LARGE, "Accept-Encoding: gzip"),
        message("HEAD", "/data?start_date=2024-06-21&end_date=2024-06-30"),
        message("HEAD", "/data?start_date=2024-06-21&end_date=2024-06-30", "If-None-Match: *"),
    ],
)
@on_both_loops
async def test_the_lane_answers_as_the_usual_way_does(database: Path, request_bytes: bytes) -> None:
    async with serving(database, HandClock(), cors_origins=(ORIGIN,)) as running:
        await ask(running.url, request_bytes)
        usual = await in_two(running.url, request_bytes)
        lane = await ask(running.url, request_bytes)
    assert (by_lane(usual), by_lane(lane)) == (False, True)
    assert usual.headers["cache-status"] == "dashboard-proxy; hit"
    assert said(lane) == said(usual)
    assert lane.headers["date"].endswith("GMT")


@on_both_loops
async def test_age_and_date_go_on_though_the_bytes_are_remembered(database: Path) -> None:
    clock = HandClock()
    async with serving(database, clock) as running, calling(running.url) as caller:
        seen = [await caller.ask(ASK)]
        for _ in range(3):
            clock.pass_s(0.7)
            seen.append(await caller.ask(ASK))
    assert [by_lane(reply) for reply in seen] == [False, True, True, True]
    assert [reply.headers["age"] for reply in seen] == ["0", "0", "1", "2"]
    assert len({reply.headers["date"] for reply in seen[1:]}) == 3


@on_both_loops
async def test_hits_of_the_lane_are_counted_as_hits(database: Path) -> None:
    async with serving(database) as running, calling(running.url) as caller:
        for _ in range(5):
            await caller.ask(ASK)
        assert counted(running, "data", "optimized", "miss") == 1
        assert counted(running, "data", "optimized", "hit") == 4
        seconds = running.telemetry.registry.get_sample_value(
            "proxy_request_seconds_count", {"route": "data", "source": "optimized"}
        )
        assert seconds == 5


@on_both_loops
async def test_pipelined_requests_are_answered_in_their_order(database: Path) -> None:
    asked = [ASK, ASK_ADSETS, ASK, get("/nowhere"), ASK_ADSETS, ASK]
    async with serving(database) as running, calling(running.url) as caller:
        apart = [meant(await ask(running.url, data)) for data in asked]
        await caller.ask(ASK)
        caller.send(b"".join(asked))
        assert [meant(await caller.reply()) for _ in asked] == apart
        assert meant(await caller.ask(ASK)) == apart[0]


@pytest.mark.parametrize(
    ("meanwhile", "then"),
    [
        (b"", ASK),
        (ASK, b""),
        (b"POST /other HTTP/1.1\r\nX: ", ASK),
        (message("POST", "/other", f"Content-Length: {len(ASK)}"), ASK),
    ],
)
@on_both_loops
async def test_what_is_sent_before_the_last_answer_waits_for_its_turn(
    database: Path, meanwhile: bytes, then: bytes
) -> None:
    slow = SlowLegacy()
    async with (
        raw_legacy(slow) as legacy,
        serving(database, legacy_url=str(legacy.url)) as running,
        calling(running.url) as caller,
    ):
        await caller.ask(ASK)
        assert by_lane(await caller.ask(ASK))
        caller.send(get("/slow"))
        await legacy.asked.wait()
        caller.send(meanwhile)
        await settled()
        slow.may_answer.set()
        assert (await caller.reply()).body == b"slow"
        await settled()
        caller.send(then)
        is_own = b"/other" not in meanwhile
        assert (await caller.reply()).body.startswith(b'{"success":true' if is_own else b"slow")


@on_both_loops
async def test_packets_may_be_split_at_every_byte(database: Path) -> None:
    both = ASK + ASK_ADSETS
    async with serving(database) as running:
        apart = [meant(await ask(running.url, data)) for data in (ASK, ASK_ADSETS)]
        for place in range(1, len(both)):
            async with calling(running.url) as caller:
                caller.send(both[:place])
                await settled()
                caller.send(both[place:])
                assert [meant(await caller.reply()), meant(await caller.reply())] == apart, place


@on_both_loops
async def test_a_connection_that_is_to_close_is_closed_after_the_answer(database: Path) -> None:
    async with serving(database) as running:
        for data in (
            post("/data", QUESTION, "Connection: close"),
            ASK.replace(b"HTTP/1.1", b"HTTP/1.0"),
        ):
            for _ in range(2):
                async with calling(running.url) as caller:
                    assert (await caller.ask(data)).status == 200
                    assert await caller.reader.read() == b""


@on_both_loops
async def test_an_older_client_is_told_that_its_connection_stays(database: Path) -> None:
    older = post("/data", QUESTION, "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")
    async with serving(database) as running, calling(running.url) as caller:
        for _ in range(3):
            reply = await caller.ask(older)
            assert (reply.version, reply.headers["connection"]) == ("HTTP/1.0", "keep-alive")


@on_both_loops
async def test_a_caller_that_does_not_read_is_not_written_to_without_bound(database: Path) -> None:
    async with serving(database) as running:
        body = (await ask(running.url, ASK_LARGE)).body
        async with calling(running.url, buffer_bytes=4096) as caller:
            assert by_lane(await caller.ask(ASK_LARGE))
            [protocol] = connections()
            asked, most = 300, 0
            for _ in range(asked):
                caller.send(ASK_LARGE)
                await settled()
                assert protocol.transport is not None
                most = max(most, protocol.transport.get_write_buffer_size())
            assert asked * len(body) > 10 * most, "the kernel took it all: ask for more"
            assert most <= 64 * 1024 + 2 * (len(body) + 1000)
            for _ in range(asked):
                assert (await caller.reply()).body == body


@on_both_loops
async def test_a_caller_that_waits_for_it_is_told_to_send_the_body(database: Path) -> None:
    async with (
        echo_legacy() as legacy,
        serving(database, legacy_url=str(legacy.url)) as running,
        calling(running.url) as caller,
    ):
        for path, start in (("/data", b'{"success":true'), ("/upload", b"POST /upload\n{")):
            length = f"Content-Length: {len(QUESTION)}"
            going_on = await caller.ask(message("POST", path, length, "Expect: 100-continue"))
            assert (going_on.status, going_on.headers) == (100, {})
            assert (await caller.ask(QUESTION)).body.startswith(start)


@on_both_loops
async def test_half_a_request_and_its_end_disturb_nobody(database: Path) -> None:
    async with serving(database) as running, calling(running.url) as other:
        await other.ask(ASK)
        for place in (5, len(ASK) - 5):
            async with calling(running.url) as caller:
                caller.send(ASK[:place])
                await settled()
        assert by_lane(await other.ask(ASK))


@pytest.mark.parametrize(
    ("before", "after", "answers"),
    [
        (message("POST", "/other", f"Content-Length: {len(ASK)}"), b"", [b"POST /other\n" + ASK]),
        (b"POST /other HTTP/1.1\r\nX: ", b"", [b"POST /other\n" + QUESTION]),
        (
            message("POST", "/other", "Transfer-Encoding: chunked") + f"{len(ASK):x}\r\n".encode(),
            b"\r\n0\r\n\r\n",
            [b"POST /other\n" + ASK],
        ),
        (
            message("POST", "/data", f"Content-Length: {len(ASK)}"),
            b"",
            [b'{"success":false,"error":"Invalid request body. Must be a JSON object"}'],
        ),
        (
            message("POST", "/data", "Content-Encoding: gzip", f"Content-Length: {len(ASK)}"),
            b"",
            [b"POST /data\n" + ASK],
        ),
    ],
)
@on_both_loops
async def test_remembered_bytes_inside_another_request_are_not_answered(
    database: Path, before: bytes, after: bytes, answers: list[bytes]
) -> None:
    async with echo_legacy() as legacy, serving(database, legacy_url=str(legacy.url)) as running:
        await ask(running.url, ASK)
        # Also on a connection that the lane has answered already.
        for asked in (0, 1):
            async with calling(running.url) as caller:
                for _ in range(asked):
                    assert by_lane(await caller.ask(ASK))
                hits = counted(running, "data", "optimized", "hit")
                for part in (before, ASK, after):
                    caller.send(part)
                    await settled()
                assert [(await caller.reply()).body for _ in answers] == answers
                assert counted(running, "data", "optimized", "hit") == hits
                assert (await caller.ask(ASK)).body.startswith(b'{"success":true')


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
@on_both_loops
async def test_after_a_refused_upgrade_requests_are_answered_in_order(
    database: Path, protocol: str
) -> None:
    upgrade = get("/other", "Connection: Upgrade", f"Upgrade: {protocol}")
    async with echo_legacy() as legacy, serving(database, legacy_url=str(legacy.url)) as running:
        usual = meant(await ask(running.url, ASK))
        async with calling(running.url) as caller:
            for part in (upgrade, ASK, ASK):
                caller.send(part)
                await settled()
            assert (await caller.reply()).body == b"GET /other\n"
            assert [meant(await caller.reply()) for _ in range(2)] == [usual, usual]


@on_both_loops
async def test_remembered_bytes_in_a_websocket_go_through_it(database: Path) -> None:
    async def echo(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        writer.write(b"HTTP/1.1 101 Up\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        writer.write(await reader.readexactly(len(ASK)))

    upgrade = get("/socket", "Connection: Upgrade", "Upgrade: websocket")
    async with raw_legacy(echo) as legacy, serving(database, legacy_url=str(legacy.url)) as running:
        await ask(running.url, ASK)
        async with calling(running.url) as caller:
            assert by_lane(await caller.ask(ASK))
            assert (await caller.ask(upgrade)).status == 101
            caller.send(ASK)
            assert await caller.reader.readexactly(len(ASK)) == ASK


@pytest.mark.parametrize("turns", range(8))
@on_both_loops
async def test_nothing_after_a_malformed_request_is_taken_for_a_request(
    database: Path, turns: int
) -> None:
    async with serving(database) as running:
        await ask(running.url, ASK)
        async with calling(running.url) as caller:
            caller.send(b"RUBBISH\r\n\r\n")
            for _ in range(turns):
                await asyncio.sleep(0)
            caller.send(ASK)
            refused = await caller.reply()
            assert refused.status == 400
            assert orjson.loads(refused.body)["success"] is False
            # What was sent after the refusal may be met by a reset.
            with suppress(ConnectionError):
                assert await caller.reader.read() == b""


@on_both_loops
async def test_a_question_that_turns_out_malformed_is_refused_at_once_and_once(
    database: Path,
) -> None:
    async with serving(database) as running, calling(running.url) as caller:
        caller.send(message("POST", "/data", "Transfer-Encoding: chunked"))
        await settled()
        caller.send(b"3\r\nabc\r\nno length\r\n")
        reply = await caller.reply()
        assert (reply.status, reply.headers["connection"]) == (400, "close")
        assert await caller.reader.read() == b""


@on_both_loops
async def test_an_upload_that_turns_out_malformed_is_refused_at_once_and_once(
    database: Path,
) -> None:
    async def swallow(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        await reader.read()
        legacy.gone.set()

    async with (
        raw_legacy(swallow) as legacy,
        serving(database, legacy_url=str(legacy.url)) as running,
        calling(running.url) as caller,
    ):
        caller.send(message("POST", "/other", "Transfer-Encoding: chunked"))
        await legacy.asked.wait()
        caller.send(b"3\r\nabc\r\nno length\r\n")
        reply = await caller.reply()
        assert (reply.status, reply.headers["connection"]) == (400, "close")
        assert await caller.reader.read() == b""
        await legacy.gone.wait()


@on_both_loops
async def test_a_busy_connection_is_not_closed_as_an_idle_one(database: Path) -> None:
    async with serving(database) as running, calling(running.url) as caller:
        await caller.ask(ASK)
        [protocol] = connections()
        protocol._next_keepalive_close_time = 0.0
        assert by_lane(await caller.ask(ASK))
        protocol._process_keepalive()
        assert by_lane(await caller.ask(ASK))
        protocol._next_keepalive_close_time = 0.0
        protocol._process_keepalive()
        assert await caller.reader.read() == b""


@on_both_loops
async def test_stopping_answers_what_was_begun_and_closes_the_rest(database: Path) -> None:
    slow = SlowLegacy()
    may_stop = asyncio.Event()
    started: asyncio.Queue[Running] = asyncio.Queue()

    async def serve(url: str) -> None:
        async with serving(database, legacy_url=url) as running:
            started.put_nowait(running)
            await may_stop.wait()

    async with raw_legacy(slow) as legacy:
        served = asyncio.create_task(serve(str(legacy.url)))
        running = await started.get()
        async with calling(running.url) as idle, calling(running.url) as busy:
            for caller in (idle, busy):
                await caller.ask(ASK)
                assert by_lane(await caller.ask(ASK))
            busy.send(get("/slow"))
            await legacy.asked.wait()
            idle.send(ASK)
            await settled()
            assert by_lane(await idle.reply())
            may_stop.set()
            assert await idle.reader.read() == b""
            slow.may_answer.set()
            assert (await busy.reply()).body == b"slow"
            assert await busy.reader.read() == b""
        await served


@on_both_loops
async def test_changed_data_are_seen_by_remembered_bytes(database: Path) -> None:
    async with serving(database) as running, calling(running.url) as caller:
        old = await caller.ask(ASK)
        conditional = post("/data", QUESTION, f"If-None-Match: {old.headers['etag']}")
        for _ in range(2):
            known = await caller.ask(conditional)
            assert (known.status, known.body) == (304, b"")
        assert by_lane(known)
        rewrite(database)
        new = await caller.ask(conditional)
        assert (new.status, by_lane(new)) == (200, False)
        assert new.body != old.body
        again = await caller.ask(ASK)
        assert by_lane(again)
        assert (again.body, again.headers["x-data-watermark"]) == (
            new.body,
            "2024-07-02 03:00:00",
        )


@on_both_loops
async def test_an_entry_that_was_evicted_is_made_again(database: Path) -> None:
    async with serving(database) as running, calling(running.url) as caller:
        await caller.ask(ASK)
        assert by_lane(await caller.ask(ASK))
        store = cast(TieredStore, running.read_through._store)
        [(_, key, _)] = running.read_through._vouched.values()
        assert await store.delete([key]) == 1
        again = await caller.ask(ASK)
        assert again.headers["cache-status"] == "dashboard-proxy; fwd=miss; stored"
        assert by_lane(await caller.ask(ASK))


@on_both_loops
async def test_an_encoding_that_is_not_held_is_made_the_usual_way(database: Path) -> None:
    packed = post("/data", orjson.dumps({**RANGE, "depth": 3}), "Accept-Encoding: zstd")
    async with serving(database) as running, calling(running.url) as caller:
        await caller.ask(packed)
        assert by_lane(await caller.ask(packed))
        rewrite(database)
        assert not by_lane(await caller.ask(ASK))
        first = await caller.ask(packed)
        assert not by_lane(first)
        assert first.headers["cache-status"] == "dashboard-proxy; hit"
        assert said(await caller.ask(packed)) == said(first)


@on_both_loops
async def test_only_so_many_requests_are_remembered(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_lane, "_MOST_REMEMBERED", 3)
    async with serving(database) as running, calling(running.url) as caller:
        await caller.ask(ASK)
        [protocol] = connections()
        for number in range(10):
            await caller.ask(post("/data", QUESTION, f"X-Number: {number}"))
            assert len(protocol._lane) <= 3
        assert not by_lane(await caller.ask(ASK))
        assert by_lane(await caller.ask(ASK))
        protocol._lane.forget()
        assert not by_lane(await caller.ask(ASK))


@pytest.mark.parametrize(
    "data",
    [
        post("/data", QUESTION, "X-Request-ID: one"),
        post("/data", QUESTION, "X-Long: " + "x" * 9000),
        post("/data", QUESTION, "Cookie: a", "Transfer-Encoding: chunked").replace(
            f"Content-Length: {len(QUESTION)}\r\n".encode(), b""
        )[: -len(QUESTION)]
        + f"{len(QUESTION):x}\r\n".encode()
        + QUESTION
        + b"\r\n0\r\n\r\n",
        post("/data", b"{}"),
        get("/other"),
    ],
)
@on_both_loops
async def test_what_is_no_ordinary_question_is_not_remembered(database: Path, data: bytes) -> None:
    async with serving(database) as running:
        for _ in range(3):
            assert not by_lane(await ask(running.url, data))


@pytest.mark.parametrize("seed", range(6))
@on_both_loops
async def test_any_sequence_in_any_packets_is_answered_as_on_connections_of_their_own(
    database: Path, seed: int
) -> None:
    random = Random(seed)
    async with echo_legacy() as legacy, serving(database, legacy_url=str(legacy.url)) as running:
        await ask(running.url, ASK)
        asked = [_some_request(random, number) for number in range(60)]
        async with calling(running.url) as caller:
            sending = asyncio.create_task(_send_in_pieces(caller, asked, random))
            together = [
                meant(await caller.reply(is_head=data.startswith(b"HEAD"))) for data in asked
            ]
            await sending
        apart = [meant(await ask(running.url, data)) for data in asked]
    assert together == apart


async def _send_in_pieces(caller: Caller, asked: list[bytes], random: Random) -> None:
    """A few whole requests first, as clients do; then packets that know no requests."""
    whole = random.randrange(20)
    for data in asked[:whole]:
        caller.send(data)
        for _ in range(random.randrange(8)):
            await asyncio.sleep(0)
    rest = b"".join(asked[whole:])
    while rest:
        length = random.choice([1, 10, 100, 400, 2000])
        caller.send(rest[:length])
        rest = rest[length:]
        for _ in range(random.randrange(6)):
            await asyncio.sleep(0)


def _some_request(random: Random, number: int) -> bytes:
    day = random.randrange(1, 10)
    cold = {**RANGE, "start_date": f"2024-06-{20 + day}"}
    return random.choice(
        [
            ASK,
            ASK,
            ASK_ADSETS,
            post("/data", QUESTION, "Accept-Encoding: zstd"),
            post("/data", orjson.dumps(cold)),
            get(f"/analytics/data?start_date=2024-06-{20 + day}&end_date=2024-06-30"),
            message("HEAD", f"/data?start_date=2024-06-{20 + day}&end_date=2024-06-30"),
            post("/data", b"{"),
            post("/data", orjson.dumps({**RANGE, "unknown": number})),
            get(f"/other?{number}"),
            post(f"/other/{number}", ASK),
            message("POST", "/data", "Transfer-Encoding: chunked")
            + b"5\r\n"
            + QUESTION[:5]
            + b"\r\n"
            + f"{len(QUESTION) - 5:X}\r\n".encode()
            + QUESTION[5:]
            + b"\r\n0\r\n\r\n",
        ]
    )


HEAD = b"POST /data HTTP/1.1\r\nHost: dash\r\n"


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"\r\n",
        HEAD + b"Content-Length: 2\r\n\r\n{}",
        HEAD + b"content-length:2 \r\nConnection: Keep-Alive\r\n\r\n{}",
        b"GET /data HTTP/1.1\r\n\r\n",
        HEAD + b"Content-Length: 4\r\n\r\n\r\n\r\n",
    ],
)
def test_one_whole_request_is_seen(data: bytes) -> None:
    assert is_one_request(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD,
        HEAD + b"\r\nx",
        HEAD + b"Content-Length: 2\r\n\r\n{",
        HEAD + b"Content-Length: 2\r\n\r\n{}x",
        HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Content-Length: +2\r\n\r\n{}",
        HEAD + b"Content-Length: 2,2\r\n\r\n{}",
        HEAD + b"Content-Length:\r\n\r\n",
        HEAD + b"Content-Length: " + b"0" * 5000 + b"2\r\n\r\n{}",
        HEAD + b"Content-Length : 2\r\n\r\n{}",
        HEAD + b"X: y\r\n Content-Length: 2\r\n\r\n",
        HEAD + b"X: y\nContent-Length: 2\r\n\r\n",
        HEAD + b"X: y\rContent-Length: 2\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Upgrade: websocket\r\n\r\n",
        HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Connection: close\r\n\r\n",
        HEAD + b"Connection: keep-alive, close\r\n\r\n",
        HEAD + b"no colon\r\n\r\n",
        b"CONNECT dash:80 HTTP/1.1\r\n\r\n",
        b"\r\n\r\n" + HEAD + b"\r\n",
        (HEAD + b"\r\n") * 2,
    ],
)
def test_what_may_be_more_or_less_than_one_request_is_not_taken_for_one(data: bytes) -> None:
    assert not is_one_request(data)


class Holding(ReadThrough):
    """Vouches for whatever `entry` is."""

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.looks = 0

    def entry_now(self, query: Query, *, has_looked: bool = False) -> tuple[Key, Entry] | None:
        self.looks += not has_looked
        return None if self.entry is None else (Key("k"), self.entry)


QUERY = Query("dashboard", date(2024, 6, 21), date(2024, 6, 30), "campaign")


@pytest.fixture
def holding() -> Holding:
    return Holding()


@pytest.fixture
def lane(holding: Holding) -> Lane:
    lane = Lane(holding, Telemetry(), HandClock(1000.0))
    lane.remember(b"raw", Question(QUERY, "data", Wanted(None, "", ""), {}), CIMultiDict())
    return lane


def at_once(work: Callable[[], None]) -> None:
    work()


def text_of(lane: Lane) -> str:
    pieces = lane.pieces(b"raw", at_once)
    assert pieces is not None
    return b"".join(pieces).decode()


def test_an_entry_that_took_the_place_of_another_is_told_apart_whatever_it_shares(
    lane: Lane, holding: Holding
) -> None:
    one, other = Watermark("1", "2024-07-01 03:00:00"), Watermark("2", "2024-07-02 03:00:00")
    assert lane.pieces(b"raw", at_once) is None
    holding.entry = Entry(QUERY, Payload.of(b"{1}"), one, 990.0)
    assert "Age: 10\r\n" in text_of(lane)
    assert text_of(lane).endswith("\r\n\r\n{1}")
    holding.entry = Entry(QUERY, Payload.of(b"{1}"), other, 995.0)
    assert "X-Data-Watermark: 2024-07-02 03:00:00\r\n" in text_of(lane)
    assert "Age: 5\r\n" in text_of(lane)
    holding.entry = Entry(QUERY, Payload.of(b"{22}"), other, 999.0)
    assert f"ETag: {holding.entry.payload.etag}\r\n" in text_of(lane)
    assert "Content-Length: 4\r\n" in text_of(lane)
    assert text_of(lane).endswith("\r\n\r\n{22}")


def test_what_is_remembered_keeps_no_payload_alive(lane: Lane, holding: Holding) -> None:
    holding.entry = Entry(QUERY, Payload.of(b"{%d}" % 1), Watermark("1"), 0.0)
    assert lane.pieces(b"raw", at_once) is not None
    holding.entry = None
    gc.collect()
    kept = [found for found in gc.get_objects() if type(found) is Payload]
    assert [payload for payload in kept if payload.body == b"{1}"] == []


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


async def whole_answer(lane: Lane, handler: Handler) -> bytes:
    runner = web.ServerRunner(LaneServer(handler, lane, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1])
        async with calling(url) as caller:
            caller.send(get("/"))
            return await caller.reader.read()
    finally:
        await runner.cleanup()


@on_both_loops
async def test_a_handler_that_fails_is_answered_for_in_the_proxys_own_words(lane: Lane) -> None:
    async def fails(request: web.BaseRequest) -> web.StreamResponse:
        raise LookupError("secret")

    answer = await whole_answer(lane, fails)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert answer.endswith(b'{"success":false,"error":"Internal error"}')
    assert b"secret" not in answer


@on_both_loops
async def test_a_handler_that_fails_in_the_middle_breaks_its_answer_off(lane: Lane) -> None:
    async def fails(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        raise LookupError("secret")

    answer = await whole_answer(lane, fails)
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b"\r\n\r\nhalf")


def test_requests_of_one_poll_share_a_look_and_the_next_poll_takes_its_own(
    lane: Lane, holding: Holding
) -> None:
    holding.entry = Entry(QUERY, Payload.of(b"{1}"), Watermark("1"), 990.0)
    later: list[Callable[[], None]] = []
    for _ in range(3):
        assert lane.pieces(b"raw", later.append) is not None
    assert holding.looks == 1
    assert len(later) == 1
    later.pop()()
    assert lane.pieces(b"raw", later.append) is not None
    assert holding.looks == 2


def test_a_look_that_vouches_for_nothing_is_not_shared(lane: Lane, holding: Holding) -> None:
    later: list[Callable[[], None]] = []
    assert lane.pieces(b"raw", later.append) is None
    assert lane.pieces(b"raw", later.append) is None
    assert holding.looks == 2
    assert later == []
