"""A caller's place in its trace reaches the legacy, whichever way its request is answered.

Nothing here is traced by us: this holds without the extra, too.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from yarl import URL

from tests.chart_legacy import JUNE, ROUTE
from tests.public_port import ask, calling, get, make_database, message, post, serving
from tests.waiting import until

QUESTION = orjson.dumps({"start_date": "2024-06-21", "end_date": "2024-06-30"})
EMPTY = orjson.dumps({"start_date": "2020-01-01", "end_date": "2020-01-02"})
SPLIT = "/api/dashboard/analytics/data"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
OTHER = f"00-{TRACE}-00f067aa0ba902b8-00"
IN_TRACE = (f"traceparent: {PARENT}", "tracestate: congo=t61rcWkgMzE,rojo=1")
BODY = orjson.dumps({"success": True, "data": [{"date": "2024-06-30", "roas": 1}]})


@dataclass
class RawLegacy:
    """Reads requests as bytes, so that a test sees them as they were sent.

    `may_answer` holds its answers back.
    """

    url: URL = field(default_factory=URL)
    heads: list[str] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def lines(self, name: str) -> list[list[str]]:
        """Of each request, the lines with that header, as they came but for the name's case."""
        return [in_lower_case(name, head.split("\r\n")) for head in self.heads]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lengths = [line for line in head.split("\r\n") if line.startswith("Content-Length:")]
            await reader.readexactly(int(lengths[0].split(":")[1]) if lengths else 0)
            self.heads.append(head)
            await self.may_answer.wait()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
                + f"Content-Length: {len(BODY)}\r\n\r\n".encode()
                + BODY
            )
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def in_lower_case(name: str, lines: Sequence[str]) -> list[str]:
    return [name + line[len(name) :] for line in lines if line.lower().startswith(f"{name}:")]


@pytest.fixture
async def legacy() -> AsyncIterator[RawLegacy]:
    async with raw_legacy() as legacy:
        yield legacy


@asynccontextmanager
async def raw_legacy() -> AsyncIterator[RawLegacy]:
    legacy = RawLegacy()
    legacy.may_answer.set()
    server = await asyncio.start_server(legacy.answer, "127.0.0.1", 0)
    legacy.url = URL.build(scheme="http", host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    async with server:
        yield legacy


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "data.db")


@pytest.mark.parametrize(
    "headers",
    [
        IN_TRACE,
        (f"TraceParent: {PARENT}", "TRACESTATE: a=1", "tracestate: b=2"),
        ("traceparent: not a parent", "tracestate: ???"),
        (f"traceparent: {PARENT}", f"traceparent: {OTHER}"),
        ("traceparent: 00-00000000000000000000000000000000-0000000000000000-00",),
        ("baggage: userId=alice,serverNode=DF%2028", f"traceparent: {PARENT}"),
    ],
)
async def test_a_request_that_passes_through_keeps_its_headers_as_they_come(
    database: Path, legacy: RawLegacy, headers: tuple[str, ...]
) -> None:
    split = orjson.dumps({"start_date": "2024-06-21", "end_date": "2024-06-30", "unknown": 1})
    async with serving(database, legacy_url=str(legacy.url)) as running:
        await ask(running.url, get("/other", *headers))
        await ask(running.url, message("PUT", "/x", "Content-Length: 1", *headers, body=b"1"))
        await ask(running.url, post(SPLIT, split, *headers))
    names = {header.split(":")[0].lower() for header in headers}
    for name in names:
        sent = in_lower_case(name, headers)
        assert legacy.lines(name) == [sent, sent, sent]


async def test_what_we_ask_in_a_callers_name_carries_its_place(
    database: Path, legacy: RawLegacy
) -> None:
    async with serving(
        database, legacy_url=str(legacy.url), cached_routes=[ROUTE], auth="forward"
    ) as running:
        await ask(running.url, post("/data", EMPTY, *IN_TRACE))
        assert [head.split(" HTTP")[0] for head in legacy.heads] == ["GET /", f"POST {SPLIT}"]
        await ask(running.url, get(JUNE, "tracestate: congo=t61rcWkgMzE,rojo=1", IN_TRACE[0]))
        assert f"GET {JUNE}" in legacy.heads[-1]
    assert set(map(tuple, legacy.lines("traceparent"))) == {(f"traceparent: {PARENT}",)}
    assert set(map(tuple, legacy.lines("tracestate"))) == {(IN_TRACE[1],)}


async def test_a_broken_place_is_not_told_where_we_ask_for_ourselves(
    database: Path, legacy: RawLegacy
) -> None:
    broken = (f"traceparent: {PARENT}0", "tracestate: congo=t61rcWkgMzE")
    async with serving(database, legacy_url=str(legacy.url)) as running:
        await ask(running.url, post("/data", EMPTY, *broken))
        await ask(running.url, post("/data", EMPTY + b" "))
    assert legacy.lines("traceparent") == [[], []]
    assert legacy.lines("tracestate") == [[], []]


async def test_a_shared_load_carries_the_place_of_who_began_it(
    database: Path, legacy: RawLegacy
) -> None:
    legacy.may_answer.clear()
    async with (
        serving(database, legacy_url=str(legacy.url)) as running,
        calling(running.url) as first,
        calling(running.url) as second,
    ):
        first.send(post("/data", EMPTY, f"traceparent: {PARENT}"))
        await until(lambda: len(legacy.heads) == 1)
        second.send(post("/data", EMPTY, f"traceparent: {OTHER}"))
        await until(lambda: "flights=1" in repr(running.read_through))
        legacy.may_answer.set()
        await first.reply()
        await second.reply()
    assert legacy.lines("traceparent")[0] == [f"traceparent: {PARENT}"]


async def test_the_shadow_carries_the_place_of_its_sample(
    database: Path, legacy: RawLegacy
) -> None:
    async with serving(
        database, legacy_url=str(legacy.url), split_percent=100, shadow_rate=1
    ) as running:
        await ask(running.url, post(SPLIT, QUESTION, *IN_TRACE))
        await until(lambda: len(legacy.heads) == 2)
        assert set(map(tuple, legacy.lines("traceparent"))) == {(f"traceparent: {PARENT}",)}
        # The next one has none, and must not inherit it from the worker.
        await ask(running.url, post(SPLIT, QUESTION))
        await until(lambda: len(legacy.heads) == 3)
    assert legacy.lines("traceparent")[2] == []


async def test_one_request_on_a_connection_does_not_hand_its_place_to_the_next(
    database: Path, legacy: RawLegacy
) -> None:
    async with (
        serving(database, legacy_url=str(legacy.url)) as running,
        calling(running.url) as caller,
    ):
        await caller.ask(post("/data", EMPTY, *IN_TRACE))
        await caller.ask(post("/data", EMPTY))
    assert [len(lines) for lines in legacy.lines("traceparent")] == [1, 0]


async def test_requests_of_a_trace_leave_the_lane_to_those_who_repeat_themselves(
    database: Path,
) -> None:
    async with serving(database) as running, calling(running.url) as caller:
        for _ in range(3):
            reply = await caller.ask(post("/data", QUESTION, f"traceparent: {PARENT}"))
            assert "server" in reply.headers
        await caller.ask(post("/data", QUESTION))
        assert "server" not in (await caller.ask(post("/data", QUESTION))).headers
