"""What callers of the split route have to do with the shadow: nothing that they could notice."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from proxy.errors import BackendError
from proxy.handlers.dashboard import LARGEST_BODY
from proxy.rollout.split import Split
from tests.public_port import Reply, ask, calling, get, message, post
from tests.split_port import PATH, QUESTION, SplitPort, split_port
from tests.waiting import until

ASK = post(PATH, QUESTION)
BODY = b'{"success":true,"data":[{"number":1}]}'


@dataclass
class Legacy:
    """Answers every POST with `chunks`; holds each answer back while `may_answer` is not set."""

    chunks: tuple[bytes, ...] = (BODY,)
    status: int = 200
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    asked: list[bytes] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    breaks_off: bool = False
    url: URL = field(default_factory=URL)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(await request.content.read())
        response = web.StreamResponse(status=self.status, headers=self.headers)
        await response.prepare(request)
        for chunk in self.chunks:
            await response.write(chunk)
            await self.may_answer.wait()
        if self.breaks_off and request.transport is not None:
            request.transport.abort()
        return response


@asynccontextmanager
async def legacy_serving(**how: object) -> AsyncIterator[Legacy]:
    legacy = Legacy(**how)  # type: ignore[arg-type]
    legacy.may_answer.set()
    runner = web.ServerRunner(web.Server(legacy, access_log=None), shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        legacy.url = URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1])
        yield legacy
    finally:
        await runner.cleanup()


async def told(port: SplitPort, *lines: tuple[object, ...]) -> None:
    shadow = port.stage.shadow
    await until(lambda: len(port.stage.journal.samples()) >= len(lines))
    assert port.stage.journal.samples() == list(lines)
    await until(lambda: shadow._room.used_bytes == 0)
    assert shadow._free_places == 3


def by_lane(reply: Reply) -> bool:
    return "server" not in reply.headers


MISMATCH = ("compared", "mismatched")
MATCH = ("compared", "matched")


async def test_misses_hits_and_hits_of_the_lane_are_compared_as_they_were_sent() -> None:
    async with (
        legacy_serving() as legacy,
        split_port(legacy.url, split=Split(100)) as port,
        calling(port.url) as caller,
    ):
        replies = []
        for done in range(1, 4):
            replies.append(await caller.ask(ASK))
            await told(port, *done * [MISMATCH])
        other = await ask(port.url, post(PATH, QUESTION + b" "))
        await told(port, *4 * [MISMATCH])
        status = [reply.headers["cache-status"] for reply in [*replies, other]]
        assert status == [
            "dashboard-proxy; fwd=miss; stored",
            *3 * ["dashboard-proxy; hit"],
        ]
        assert [by_lane(reply) for reply in replies] == [False, True, True]
        comparisons = port.stage.journal.comparisons
        assert {comparison.control for comparison in comparisons} == {replies[0].body}
        assert port.stage.journal.told[0] == ("served", True)
        assert port.stage.journal.told.count(("served", True)) == 1


async def test_the_bytes_that_memory_holds_are_compared_not_a_copy() -> None:
    async with (
        legacy_serving() as legacy,
        split_port(legacy.url, split=Split(100), is_working=False) as port,
        calling(port.url) as caller,
    ):
        for _ in range(3):
            await caller.ask(ASK)
        [entry] = port.stage.path.store.memory.values()
        waiting = [port.stage.shadow._queue.get_nowait() for _ in range(3)]
        assert all(sampled.chunks[0] is entry.payload.body for sampled in waiting)
        assert {sampled.token for sampled in waiting} == {entry.watermark.token}


async def test_at_rate_0_nobody_hears_of_anything() -> None:
    async with (
        legacy_serving() as legacy,
        split_port(legacy.url, split=Split(100)) as port,
        calling(port.url) as caller,
    ):
        port.stage.shadow.rate = 0.0
        for _ in range(3):
            await caller.ask(ASK)
        port.steered.move(0)
        await caller.ask(ASK)
        assert port.stage.journal.samples() == []
        # Turned up, the lane's own questions are sampled too.
        port.steered.move(100)
        await caller.ask(ASK)
        port.stage.shadow.rate = 1.0
        assert by_lane(await caller.ask(ASK))
        await told(port, MISMATCH)


async def test_the_other_routes_and_what_passes_through_are_never_sampled() -> None:
    dashboard = QUESTION.replace(b"group_by", b"hierarchy")
    async with (
        legacy_serving() as legacy,
        split_port(legacy.url, split=Split(100)) as port,
        calling(port.url) as caller,
    ):
        for _ in range(3):
            await caller.ask(post(f"{PATH}/optimized", QUESTION))
            await caller.ask(post("/data", dashboard))
        await caller.ask(post(PATH, b'{"unknown":1}'))
        await caller.ask(post("/other", QUESTION))
        port.steered.move(0)
        for _ in range(2):
            await caller.ask(post(PATH, b'{"unknown":1}'))
            await caller.ask(post("/other", QUESTION))
            await caller.ask(message("PUT", PATH, "Content-Length: 2", body=b"{}"))
            await caller.ask(message("HEAD", f"{PATH}?start_date=2024-01-01&end_date=2024-01-01"))
        assert port.stage.journal.told == []


async def test_what_the_legacy_answers_is_compared_and_goes_on_byte_for_byte() -> None:
    spelled = (
        b' {"depth":1, "group_by":"campaign","end_date":"2024-01-01","start_date":"2024-01-01"}'
    )
    async with (
        legacy_serving() as legacy,
        split_port(legacy.url, split=Split(0)) as port,
    ):
        plain = await ask(port.url, post(PATH, spelled, "X-A: 1"))
        await told(port, MATCH)
        port.stage.shadow.rate = 0.0
        assert (await ask(port.url, post(PATH, spelled, "X-A: 1"))).body == plain.body
        assert legacy.asked == [spelled, spelled]
        assert plain.headers["cache-status"] == "dashboard-proxy; fwd=bypass; detail=split"
        [comparison] = port.stage.journal.comparisons
        assert (comparison.control, comparison.control_side) == (BODY, "legacy")
        assert ("tried", True) in port.stage.journal.told
        assert not [line for line in port.stage.journal.told if line[0] == "served"]


async def test_a_compressed_answer_is_relayed_as_it_is_and_unpacked_for_comparing() -> None:
    packed = gzip.compress(BODY)
    headers = CIMultiDict({"Content-Encoding": "gzip"})
    async with (
        legacy_serving(chunks=(packed[:10], packed[10:]), headers=headers) as legacy,
        split_port(legacy.url, split=Split(0)) as port,
    ):
        assert (await ask(port.url, ASK)).body == packed
        await told(port, MATCH)


async def test_a_caller_does_not_wait_for_what_is_kept_of_its_answer() -> None:
    async with (
        legacy_serving(chunks=(BODY[:9], BODY[9:])) as legacy,
        split_port(legacy.url, split=Split(0)) as port,
        calling(port.url) as caller,
    ):
        legacy.may_answer.clear()
        caller.send(ASK)
        await caller.reader.readuntil(b"\r\n\r\n")
        # The first chunk is here while the legacy still holds the rest.
        assert await caller.reader.readuntil(BODY[:9]) == b"9\r\n" + BODY[:9]
        legacy.may_answer.set()
        await told(port, MATCH)


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ({"status": 500}, ("error", "legacy_error")),
        ({"status": 401}, ("discard", "refused")),
        ({"breaks_off": True}, ("discard", "cut_off")),
        ({"chunks": (b"no json",)}, ("error", "malformed")),
        ({"headers": CIMultiDict({"Content-Encoding": "br"})}, ("discard", "unreadable")),
        ({"chunks": (b'{"success":true,"data":[]}',)}, ("error", "legacy_empty")),
    ],
)
async def test_an_answer_of_the_legacy_that_is_none_is_no_mismatch(
    how: dict[str, object], line: tuple[object, ...]
) -> None:
    async with (
        legacy_serving(**how) as legacy,
        split_port(legacy.url, split=Split(0)) as port,
        calling(port.url) as caller,
    ):
        caller.send(ASK)
        await caller.reader.readuntil(b"\r\n\r\n")
        await told(port, line)


async def test_a_caller_that_leaves_leaves_nothing_behind() -> None:
    async with (
        legacy_serving(chunks=(BODY[:9], BODY[9:])) as legacy,
        split_port(legacy.url, split=Split(0)) as port,
    ):
        legacy.may_answer.clear()
        async with calling(port.url) as caller:
            caller.send(ASK)
            await caller.reader.readuntil(b"\r\n\r\n")
            await until(lambda: port.stage.shadow._room.used_bytes == 9)
        await told(port, ("discard", "cut_off"))
        # Neither does one that leaves in the middle of its question.
        async with calling(port.url) as caller:
            caller.send(ASK[:-5])
            await asyncio.sleep(0)
        await until(lambda: len(legacy.asked) == 1)
        legacy.may_answer.set()
        await ask(port.url, ASK)
        await told(port, ("discard", "cut_off"), MATCH)


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_a_body_too_long_for_a_question_goes_on_unsampled(is_chunked: bool) -> None:
    body = QUESTION + b" " * LARGEST_BODY
    asked = post(PATH, body)
    if is_chunked:
        head = message("POST", PATH, "Transfer-Encoding: chunked")
        asked = head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    async with (
        legacy_serving() as legacy,
        split_port(legacy.url, split=Split(0)) as port,
    ):
        assert (await ask(port.url, asked)).status == 200
        assert legacy.asked == [body]
        assert port.stage.journal.told == []


async def test_a_body_that_comes_in_parts_is_sampled_and_so_is_a_get() -> None:
    async with (
        legacy_serving() as legacy,
        split_port(legacy.url, split=Split(0)) as port,
        calling(port.url) as caller,
    ):
        caller.send(ASK[:-9])
        for _ in range(20):
            await asyncio.sleep(0)
        reply = await caller.ask(ASK[-9:])
        assert (reply.status, legacy.asked) == (200, [QUESTION])
        await told(port, MATCH)
        get_reply = await caller.ask(
            get(f"{PATH}?start_date=2024-01-01&end_date=2024-01-01&group_by=campaign&depth=1")
        )
        assert get_reply.body == BODY
        await told(port, MATCH, MATCH)


async def test_a_full_queue_costs_the_caller_nothing_but_is_counted() -> None:
    async with (
        legacy_serving() as legacy,
        split_port(legacy.url, split=Split(100), is_working=False) as port,
        calling(port.url) as caller,
    ):
        for _ in range(5):
            assert (await caller.ask(ASK)).status == 200
        assert port.stage.journal.samples() == [("drop",), ("drop",)]
        port.steered.move(0)
        assert (await caller.ask(ASK)).body == BODY
        assert port.stage.journal.samples() == 3 * [("drop",)]


async def test_only_what_the_tables_answered_is_offered() -> None:
    async with (
        legacy_serving() as legacy,
        split_port(legacy.url, split=Split(100)) as port,
        calling(port.url) as caller,
    ):
        port.stage.path.backend.failure = BackendError("no", reason="sql_error")
        assert (await caller.ask(ASK)).headers["x-dashboard-source"] == "legacy"
        port.stage.path.legacy.failure = BackendError("no", reason="legacy_error")
        assert (await caller.ask(ASK)).status == 503
        assert port.stage.journal.told == [("served", False), ("served", False)]


async def test_without_a_shadow_all_is_as_ever() -> None:
    async with (
        legacy_serving() as legacy,
        split_port(legacy.url, split=Split(100), is_shadowed=False) as port,
        calling(port.url) as caller,
    ):
        replies = [await caller.ask(ASK) for _ in range(2)]
        port.steered.move(0)
        assert (await caller.ask(ASK)).body == BODY
        port.steered.move(100)
        port.stage.path.store.memory.clear()
        port.stage.path.backend.failure = BackendError("no", reason="sql_error")
        port.stage.path.legacy.failure = BackendError("no", reason="legacy_error")
        assert (await caller.ask(ASK)).status == 503
        assert [by_lane(reply) for reply in replies] == [False, True]
        assert port.stage.journal.told == []
