"""The overview and the stream of events: who gets what, who pays for it, and how it ends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs
from yarl import URL

from proxy.background import Background
from proxy.errors import BackendUnavailable
from proxy.handlers.admin import make_admin
from proxy.handlers.admin_live import AdminLive
from tests.admin_port import operating
from tests.event_stream import Event, watching
from tests.gates import Gates
from tests.public_port import calling, get, make_database, serving
from tests.waiting import until
from tests.writer import Writer


@dataclass
class State:
    """What there is to tell; a test changes it."""

    gates: Gates = field(default_factory=Gates)
    overview: dict[str, Any] = field(default_factory=lambda: {"at": 0, "number": 1, "history": []})
    pipeline: dict[str, Any] = field(
        default_factory=lambda: {"at": "2024-01-01T00:00:00Z", "dates": [], "held": []}
    )
    audit: dict[str, Any] | None = None
    failure: BaseException | None = None

    async def tell(self) -> dict[str, Any]:
        self.overview["at"] += 1
        await self.gates.come_to("overview")
        if self.failure is not None:
            raise self.failure
        return dict(self.overview)

    async def tell_pipeline(self) -> dict[str, Any]:
        return dict(self.pipeline)

    async def newest_record(self) -> dict[str, Any] | None:
        return self.audit

    def collected(self) -> int:
        return self.gates.steps.count("overview")


@dataclass
class Room:
    state: State
    live: AdminLive
    background: Background
    url: URL

    @property
    def events(self) -> URL:
        return self.url / "admin/events"


@asynccontextmanager
async def a_room(**options: Any) -> AsyncIterator[Room]:
    state = State()
    async with AsyncExitStack() as stack:
        background = await stack.enter_async_context(Background())
        live = AdminLive(
            state.tell,
            background,
            pipeline=state.tell_pipeline,
            audit=state.newest_record,
            **{"every_s": 0.001, **options},
        )
        app = web.Application()
        app.add_subapp("/admin", make_admin([live], None, 2**20))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        stack.callback(live.close)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1])
        yield Room(state, live, background, url)


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    async with a_room() as room:
        yield room


def points(*at: int) -> list[dict[str, int]]:
    return [{"at": one} for one in at]


async def test_the_overview_is_told_to_whoever_asks(room: Room) -> None:
    async with aiohttp.ClientSession() as session, session.get(room.url / "admin/overview") as got:
        assert (got.status, (await got.json())["number"]) == (200, 1)


async def test_the_stream_is_one_of_events_that_nobody_keeps(room: Room) -> None:
    async with watching(room.events) as stream:
        headers = stream.response.headers
        assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Accel-Buffering"] == "no"


async def test_all_is_told_at_once(room: Room) -> None:
    room.state.overview["history"] = points(5, 10, 15)
    async with watching(room.events) as stream:
        overview, pipeline = await stream.next(), await stream.next()
        assert overview is not None
        assert (overview.name, overview.data["history"]) == ("overview", points(5, 10, 15))
        assert pipeline == Event("pipeline", room.state.pipeline)


async def test_after_that_the_newest_point_is_told(room: Room) -> None:
    room.state.overview["history"] = points(5, 10)
    async with watching(room.events) as stream:
        await stream.next_of("overview")
        room.state.overview["number"] = 2
        assert (await stream.next_of("overview"))["history"] == points(10)
        room.state.overview["history"] = points(5, 10, 15)
        assert (await stream.next_of("overview"))["history"] == points(15)


async def test_what_a_reader_has_missed_of_the_history_is_told(room: Room) -> None:
    room.state.overview["history"] = points(5)
    async with watching(room.events) as stream:
        await stream.next_of("overview")
        room.state.overview["history"] = points(5, 10, 15, 20)
        assert (await stream.next_of("overview"))["history"] == points(10, 15, 20)


async def test_nothing_is_told_when_only_time_has_passed(room: Room) -> None:
    async with watching(room.events) as stream:
        await stream.next_of("overview")
        await stream.next_of("pipeline")
        before = room.state.collected()
        await until(lambda: room.state.collected() > before + 20)
        room.state.audit = {"action": "purge"}
        assert await stream.next() == Event("audit", {"action": "purge"})


async def test_a_reader_hears_that_the_stream_lives() -> None:
    async with a_room(beat_s=0.01) as room, watching(room.events) as stream:
        await stream.next_of("pipeline")
        assert [await stream.next() for _ in range(3)] == [Event("", None)] * 3


async def test_a_collecting_that_hangs_does_not_silence_the_stream() -> None:
    async with a_room(beat_s=0.01) as room:
        room.state.gates.shut("overview")
        async with watching(room.events) as stream:
            assert await stream.next() == Event("", None)
            room.state.gates.open("overview")
            assert (await stream.next_of("overview"))["number"] == 1


async def test_the_calendar_is_told_when_it_changes_but_not_for_getting_older(room: Room) -> None:
    day = {"date": "2024-01-01", "computed_at": "x", "rows": 1, "breakdown_rows": 0}
    room.state.pipeline["dates"] = [{**day, "state": "settled", "age_s": 1.0}]
    async with watching(room.events) as stream:
        await stream.next_of("pipeline")
        before = room.state.collected()
        room.state.pipeline["dates"] = [{**day, "state": "settled", "age_s": 2.0}]
        await until(lambda: room.state.collected() > before + 5)
        room.state.pipeline["dates"] = [{**day, "state": "rebuilding", "age_s": 3.0}]
        told = await stream.next_of("pipeline")
        assert told["dates"][0]["state"] == "rebuilding"


async def test_ages_are_told_once_a_minute(room: Room) -> None:
    async with watching(room.events) as stream:
        await stream.next_of("pipeline")
        room.state.pipeline["at"] = "2024-01-01T00:01:00Z"
        assert (await stream.next_of("pipeline"))["at"] == "2024-01-01T00:01:00Z"


async def test_what_operators_did_before_is_no_news(room: Room) -> None:
    room.state.audit = {"action": "split"}
    async with watching(room.events) as first:
        await first.next_of("pipeline")
        before = room.state.collected()
        await until(lambda: room.state.collected() > before + 2)
        async with watching(room.events) as second:
            await second.next_of("pipeline")
            room.state.audit = {"action": "rollback"}
            for stream in (first, second):
                assert await stream.next() == Event("audit", {"action": "rollback"})
            async with watching(room.events) as third:
                await third.next_of("pipeline")
                room.state.audit = {"action": "lift"}
                for stream in (first, second, third):
                    assert await stream.next() == Event("audit", {"action": "lift"})


async def test_one_collecting_serves_all_who_watch(room: Room) -> None:
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(watching(room.events)) for _ in range(5)]
        for stream in streams:
            await stream.next_of("overview")
        room.state.gates.shut("overview")
        await until(lambda: room.state.gates.waiting["overview"] == 1)
        room.state.overview["number"] = 2
        room.state.gates.open("overview")
        assert [(await one.next_of("overview"))["number"] for one in streams] == [2] * 5
        assert len(room.background) == 1


async def test_nothing_is_collected_while_nobody_watches(room: Room) -> None:
    assert (room.state.collected(), len(room.background)) == (0, 0)
    async with watching(room.events) as stream:
        await stream.next_of("overview")
    await until(lambda: len(room.background) == 0)
    collected = room.state.collected()
    async with aiohttp.ClientSession() as session, session.get(room.url / "admin/overview"):
        pass
    assert room.state.collected() == collected + 1


async def test_a_reader_who_goes_frees_everything_though_there_is_no_news(room: Room) -> None:
    async with watching(room.events) as stream:
        await stream.next_of("pipeline")
        assert repr(room.live) == "<AdminLive streams=1>"
    await until(lambda: repr(room.live) == "<AdminLive streams=0>")
    await until(lambda: len(room.background) == 0)


async def test_a_reader_who_goes_during_the_collecting_ends_it() -> None:
    async with a_room(beat_s=0.01) as room:
        room.state.gates.shut("overview")
        async with watching(room.events):
            await until(lambda: room.state.gates.waiting["overview"] == 1)
        await until(lambda: len(room.background) == 0)
        assert room.state.gates.waiting["overview"] == 0


async def test_who_comes_when_the_last_has_just_gone_gets_the_present_state(room: Room) -> None:
    for number in (1, 2, 3):
        room.state.overview["number"] = number
        async with watching(room.events) as stream:
            assert (await stream.next_of("overview"))["number"] == number
        await until(lambda: repr(room.live) == "<AdminLive streams=0>")


async def test_streams_are_bounded_in_number() -> None:
    async with a_room(most_streams=2) as room, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(watching(room.events)) for _ in range(2)]
        async with watching(room.events) as refused:
            assert refused.response.status == 503
            assert await refused.response.json() == {
                "success": False,
                "error": "2 event streams are open already: close one of them",
            }
        streams[0].response.close()
        await until(lambda: repr(room.live) == "<AdminLive streams=1>")
        async with watching(room.events) as third:
            assert third.response.status == 200


async def test_what_cannot_be_collected_keeps_its_last_news(room: Room) -> None:
    async with watching(room.events) as stream:
        await stream.next_of("pipeline")
        room.state.failure = BackendUnavailable("gone", reason="no_database")
        room.state.pipeline["held"] = ["2024-01-01"]
        assert (await stream.next_of("pipeline"))["held"] == ["2024-01-01"]
        room.state.failure, room.state.overview["number"] = None, 2
        assert (await stream.next_of("overview"))["number"] == 2


@pytest.mark.parametrize("error", [ValueError("no such thing"), asyncio.CancelledError()])
async def test_a_collecting_that_breaks_is_logged_once_and_news_come_again(
    room: Room, error: BaseException
) -> None:
    with capture_logs() as logs:
        async with watching(room.events) as stream:
            await stream.next_of("pipeline")
            room.state.failure = error
            room.state.overview["number"] = 2
            before = room.state.collected()
            await until(lambda: room.state.collected() > before + 20)
            # What others collect is told meanwhile.
            room.state.pipeline["held"] = ["2024-01-01"]
            assert (await stream.next_of("pipeline"))["held"] == ["2024-01-01"]
            room.state.failure = None
            assert (await stream.next_of("overview"))["number"] == 2
    [line] = [line for line in logs if line["log_level"] == "error"]
    assert (line["event"], line["topic"]) == ("not_collected", "overview")
    assert type(error).__name__ in line["error"]


def has_collected(room: Room, times: int) -> bool:
    return room.state.collected() >= times


async def test_each_kind_of_breaking_is_logged(room: Room) -> None:
    with capture_logs() as logs:
        async with watching(room.events) as stream:
            await stream.next_of("pipeline")
            for error in (ValueError("one"), ValueError("two"), KeyError("three"), ValueError("4")):
                room.state.failure = error
                enough = room.state.collected() + 3
                await until(partial(has_collected, room, enough))
    errors = [line["error"] for line in logs if line["log_level"] == "error"]
    assert errors == ["ValueError('one')", "KeyError('three')"]


async def test_what_cannot_be_compared_with_the_last_news_ends_nothing(room: Room) -> None:
    async with watching(room.events) as stream:
        await stream.next_of("pipeline")
        dates = room.state.pipeline.pop("dates")
        before = room.state.collected()
        await until(lambda: room.state.collected() > before + 5)
        room.state.pipeline |= {"dates": dates, "held": ["2024-01-01"]}
        assert (await stream.next_of("pipeline"))["held"] == ["2024-01-01"]


async def test_a_collecting_that_never_ends_is_given_up() -> None:
    async with a_room(longest_s=0.05) as room, watching(room.events) as stream:
        await stream.next_of("pipeline")
        room.state.gates.shut("overview")
        room.state.pipeline["held"] = ["2024-01-01"]
        assert (await stream.next_of("pipeline"))["held"] == ["2024-01-01"]
        room.state.overview["number"] = 2
        room.state.gates.open("overview")
        assert (await stream.next_of("overview"))["number"] == 2


async def test_for_a_reader_who_falls_behind_nothing_queues_up(room: Room) -> None:
    state = room.state
    state.overview["ballast"] = "x" * 200_000
    async with calling(room.url, buffer_bytes=4096) as slow, watching(room.events) as quick:
        slow.send(get("/admin/events", "Host: 127.0.0.1").replace(b"Host: dash\r\n", b""))
        for number in range(2, 202):
            state.overview["number"] = number
            await until_told(quick, number)
        head = await slow.reader.readuntil(b"\r\n\r\n")
        assert b" 200 OK" in head
        told = 0
        while (number := await next_number(slow.reader)) != 201:
            told += 1
        # 200 states of 200 KB came; only those that fitted into the sockets are still told.
        assert told < 50


async def until_told(stream: Any, number: int) -> None:
    while (await stream.next_of("overview"))["number"] != number:
        pass


async def next_number(reader: asyncio.StreamReader) -> int:
    """`number` of the next overview, from the bytes alone."""
    mark = b'"number":'
    while True:
        try:
            await reader.readuntil(mark)
            break
        except asyncio.LimitOverrunError as error:
            await reader.readexactly(error.consumed)
    return int((await reader.readuntil(b","))[:-1])


async def test_a_reader_who_never_reads_is_given_up() -> None:
    async with a_room(patience_s=0.05) as room, calling(room.url, buffer_bytes=4096) as deaf:
        room.state.overview["ballast"] = "x" * 20_000_000
        deaf.send(get("/admin/events", "Host: 127.0.0.1").replace(b"Host: dash\r\n", b""))
        await until(lambda: repr(room.live) == "<AdminLive streams=1>")
        await until(lambda: repr(room.live) == "<AdminLive streams=0>")
        await until(lambda: len(room.background) == 0)


async def test_closing_ends_the_streams_in_good_order(room: Room) -> None:
    async with watching(room.events) as stream:
        await stream.next_of("pipeline")
        room.live.close()
        assert await stream.ends()
        async with watching(room.events) as late:
            assert late.response.status == 503
            assert "is begun any more" in (await late.response.json())["error"]


async def test_closing_ends_a_stream_whose_reader_does_not_read(room: Room) -> None:
    async with calling(room.url, buffer_bytes=4096) as deaf:
        room.state.overview["ballast"] = "x" * 20_000_000
        deaf.send(get("/admin/events", "Host: 127.0.0.1").replace(b"Host: dash\r\n", b""))
        await until(lambda: room.state.collected() > 5)
        room.live.close()
        await until(lambda: repr(room.live) == "<AdminLive streams=0>")


async def test_the_head_of_the_stream_is_not_to_be_had(room: Room) -> None:
    async with aiohttp.ClientSession() as session, session.head(room.events) as got:
        assert got.status == 405


# The same within a whole proxy.


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "daily.db")


async def test_watchers_do_not_hold_up_the_leaving(database: Path) -> None:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        async with serving(database) as running:
            events = running.admin_url / "admin/events"
            stream = await stack.enter_async_context(watching(events))
            await stream.next_of("pipeline")
            began = loop.time()
        # A tenth of what requests that are under way are given.
        assert loop.time() - began < 1.0
        assert await stream.ends()


async def test_the_stream_needs_the_token_as_all_of_admin(database: Path) -> None:
    async with operating(database, admin_token="secret-token-of-32-characters-xx") as operator:
        events = operator.running.admin_url / "admin/events"
        async with watching(events) as refused:
            assert refused.response.status == 401
        async with watching(
            events, {"Authorization": "Bearer secret-token-of-32-characters-xx"}
        ) as stream:
            assert (await stream.next_of("overview"))["freshness"]["state"] == "settled"


async def test_the_stream_has_an_id_as_every_answer_on_the_admin_port(database: Path) -> None:
    async with serving(database) as running:
        events = running.admin_url / "admin/events"
        async with watching(events, {"X-Request-ID": "mine"}) as stream:
            assert stream.response.headers.getall("X-Request-ID") == ["mine"]
        async with watching(events) as one, watching(events) as other:
            made = {stream.response.headers["X-Request-ID"] for stream in (one, other)}
            assert len(made) == 2
        async with aiohttp.ClientSession() as session:
            for path in ("admin/overview", "admin/nothing", "console", "health/live"):
                async with session.get(running.admin_url / path) as got:
                    assert len(got.headers.getall("X-Request-ID")) == 1


async def test_what_is_answered_and_done_is_told(database: Path) -> None:
    async with (
        operating(database) as operator,
        watching(operator.running.admin_url / "admin/events") as stream,
    ):
        first = await stream.next_of("overview")
        await stream.next_of("pipeline")
        await operator.post("/purge", {"all": True, "author": "ann", "reason": "in doubt"})
        record = await stream.next_of("audit")
        assert (record["action"], record["author"]) == ("purge", "ann")
        told = (await operator.get("/overview")).body
        assert told["cache"]["max_bytes"] == 256 * 2**20
        assert told.keys() == first.keys() | {"history"}


async def test_a_run_is_told_while_somebody_watches(database: Path) -> None:
    async with (
        operating(database) as operator,
        watching(operator.running.admin_url / "admin/events") as stream,
    ):
        assert (await stream.next_of("pipeline"))["last_run"] is None
        with Writer(database) as writer:
            writer.run("2024-07-01T11:00:00")
        is_told: Callable[[Any], bool] = lambda told: (  # noqa: E731
            told["last_run"] is not None and len(told["last_run"]["changed"]) == 3
        )
        while not is_told(await stream.next_of("pipeline")):
            pass
