"""What of a request is recorded, below what, and what never is."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from opentelemetry.trace import SpanKind, StatusCode

from proxy.background import Background
from proxy.clock import SystemClock
from proxy.handlers.dashboard import Dashboard
from proxy.single_flight import SingleFlight
from tests.chart_legacy import JUNE, ROUTE, ChartLegacy, chart_legacy
from tests.clocks import HandClock
from tests.public_port import ask, calling, echo_legacy, get, make_database, message, post
from tests.redis_server import RedisServer
from tests.spans import Spans, id_of, parent_of, place_of, said, trace_of
from tests.waiting import until

QUESTION = orjson.dumps({"start_date": "2024-06-21", "end_date": "2024-06-30"})
SPLIT = "/api/dashboard/analytics/data"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"traceparent: 00-{TRACE}-{PARENT}-01"
UNSAMPLED = f"traceparent: 00-{TRACE}-{PARENT}-00"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "data.db")


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
async def legacy() -> AsyncIterator[ChartLegacy]:
    async with chart_legacy() as legacy:
        yield legacy


@pytest.fixture
async def redis_server() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


async def test_a_miss_is_one_trace_from_the_request_to_the_statement(
    database: Path, spans: Spans
) -> None:
    async with spans.serving(database) as running:
        await ask(running.url, post("/api/dashboard/data", QUESTION, "X-Request-ID: mine"))
        request = spans.only("POST /api/dashboard/data")
    assert request.kind is SpanKind.SERVER
    assert request.parent is None
    assert said(request) == {
        "http.request.method": "POST",
        "http.route": "/api/dashboard/data",
        "http.response.status_code": 200,
        "proxy.route": "data",
        "proxy.source": "optimized",
        "proxy.cache": "miss",
        "proxy.request_id": "mine",
    }
    load, statement = spans.only("load"), spans.only("SELECT")
    assert parent_of(load) == id_of(request)
    assert parent_of(statement) == id_of(load)
    assert (
        said(statement).items()
        >= {
            "db.system.name": "sqlite",
            "db.operation.name": "SELECT",
            "proxy.shape": "dashboard",
            "proxy.days": 10,
        }.items()
    )
    assert said(statement)["db.response.returned_rows"] > 0
    looks = spans.named("watermark look")
    assert {parent_of(look) for look in looks} <= {id_of(request)}
    assert {trace_of(span) for span in spans.all()} == {trace_of(request)}


async def test_a_look_that_a_question_waits_for_stands_below_it(
    database: Path, spans: Spans
) -> None:
    async with spans.serving(database) as running:
        before_history = orjson.dumps({"start_date": "2023-01-01", "end_date": "2023-01-02"})
        await ask(running.url, post("/data", before_history))
    look = spans.named("watermark look")[0]
    assert parent_of(look) == id_of(spans.only("POST /data"))
    assert said(look)["proxy.look"] in ("states", "changes")


async def test_a_hit_is_one_span_whichever_way_it_was_answered(
    database: Path, spans: Spans
) -> None:
    clock = HandClock()
    async with spans.serving(database, clock) as running, calling(running.url) as caller:
        await caller.ask(post("/data", QUESTION))
        spans.clear()
        by_lane = await caller.ask(post("/data", QUESTION))
        by_parser = await ask(running.url, post("/data", QUESTION, "X-Request-ID: mine"))
    assert ("server" in by_lane.headers, "server" in by_parser.headers) == (False, True)
    first, second = spans.all()
    assert said(first) == {
        "http.request.method": "POST",
        "http.route": "/data",
        "http.response.status_code": 200,
        "proxy.route": "data",
        "proxy.source": "optimized",
        "proxy.cache": "hit",
        "proxy.lane": True,
    }
    assert first.kind is SpanKind.SERVER
    assert (first.start_time, first.end_time) == 2 * (int(clock.now() * 1e9),)
    assert said(second).items() >= {"proxy.cache": "hit", "proxy.request_id": "mine"}.items()
    assert "proxy.lane" not in said(second)


async def test_a_hit_of_the_lane_that_the_caller_has_is_a_304(database: Path, spans: Spans) -> None:
    async with spans.serving(database) as running, calling(running.url) as caller:
        etag = (await caller.ask(post("/data", QUESTION))).headers["etag"]
        known = post("/data", QUESTION, f"If-None-Match: {etag}")
        assert [(await caller.ask(known)).status for _ in range(2)] == [304, 304]
    assert said(spans.all()[-1])["proxy.lane"] is True
    assert said(spans.all()[-1])["http.response.status_code"] == 304


async def test_a_lane_hit_lasts_as_long_as_was_measured(database: Path, spans: Spans) -> None:
    clock = SystemClock()
    async with spans.serving(database, clock) as running, calling(running.url) as caller:
        await caller.ask(post("/data", QUESTION))
        began = clock.now()
        await caller.ask(post("/data", QUESTION))
        ended = clock.now()
    span = spans.all()[-1]
    assert said(span)["proxy.lane"] is True
    assert span.start_time is not None
    assert span.end_time is not None
    assert began - 0.001 <= span.start_time / 1e9 <= span.end_time / 1e9 <= ended + 0.001


async def test_a_callers_trace_goes_on_and_its_requests_stay_out_of_the_lane(
    database: Path, spans: Spans
) -> None:
    async with spans.serving(database) as running, calling(running.url) as caller:
        for _ in range(3):
            await caller.ask(post("/data", QUESTION, SAMPLED, "tracestate: congo=t61"))
    requests = spans.named("POST /data")
    assert len(requests) == 3
    for request in requests:
        assert f"{trace_of(request):032x}" == TRACE
        assert f"{parent_of(request):016x}" == PARENT
        assert request.context is not None
        assert request.context.trace_state.to_header() == "congo=t61"
        assert "proxy.lane" not in said(request)


async def test_what_the_caller_does_not_record_is_not_recorded(
    database: Path, spans: Spans, legacy: ChartLegacy
) -> None:
    async with spans.serving(database, legacy_url=str(legacy.url)) as running:
        await ask(running.url, post("/data", QUESTION, UNSAMPLED, "tracestate: congo=t61"))
        await ask(running.url, get("/other", UNSAMPLED, "tracestate: congo=t61"))
    assert spans.all() == []
    assert legacy.seen[0]["traceparent"] == f"00-{TRACE}-{PARENT}-00"
    assert legacy.seen[0]["tracestate"] == "congo=t61"


async def test_a_share_of_nothing_records_nothing_and_says_so_behind(
    database: Path, monkeypatch: pytest.MonkeyPatch, legacy: ChartLegacy
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    spans = Spans()
    async with spans.serving(database, legacy_url=str(legacy.url)) as running:
        async with calling(running.url) as caller:
            for _ in range(3):
                await caller.ask(post("/data", QUESTION))
        await ask(running.url, get("/other"))
        await ask(running.url, get("/other", "traceparent: broken"))
        assert spans.all() == []
        await ask(running.url, get("/other", SAMPLED))
        assert len(spans.named("GET")) == 2
    # A trace that begins here and is not recorded: nobody behind begins one of his own.
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", legacy.seen[0]["traceparent"])
    assert legacy.seen[1]["traceparent"] == "broken"


async def test_of_the_lanes_hits_as_many_are_recorded_as_of_all_requests(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn once: a second draw would leave a quarter of them."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    spans = Spans()
    async with spans.serving(database) as running, calling(running.url) as caller:
        for _ in range(600):
            await caller.ask(post("/data", QUESTION))
    hits = [span for span in spans.named("POST /data") if "proxy.lane" in said(span)]
    # Seven standard deviations of 12: one run in a million millions is beyond them.
    assert 214 < len(hits) < 386
    assert len({trace_of(hit) for hit in hits}) == len(hits)


async def test_who_waits_for_anothers_load_is_linked_to_it(spans: Spans) -> None:
    may_land = asyncio.Event()

    async def load() -> str:
        await may_land.wait()
        return "value"

    async with Background() as background:
        flights: SingleFlight[str, str] = SingleFlight(background, spans.tracer)

        async def call(number: int) -> None:
            with spans.tracer.serve(f"caller {number}", None, {}):
                await flights.run("key", load)

        callers = [background.spawn(call(number), name="caller") for number in range(4)]
        await until(lambda: repr(flights) == "<SingleFlight {'key': 4}>")
        callers[3].cancel()
        may_land.set()
        await asyncio.wait(callers)
    led = spans.only("load")
    waits = spans.named("wait for another's load")
    assert [parent_of(wait) for wait in waits] == [
        id_of(spans.only(f"caller {number}")) for number in (3, 1, 2)
    ]
    assert [said(wait).get("proxy.cancelled", False) for wait in waits] == [True, False, False]
    for wait in waits:
        assert [link.context for link in wait.links] == [led.context]
        assert trace_of(wait) != trace_of(led)
    assert parent_of(led) == id_of(spans.only("caller 0"))


async def test_a_load_that_outlives_its_caller_stands_below_it_and_the_caller_left(
    database: Path, spans: Spans, legacy: ChartLegacy
) -> None:
    may_answer = asyncio.Event()

    async def wait() -> None:
        await may_answer.wait()

    legacy.before = wait
    async with spans.serving(
        database, legacy_url=str(legacy.url), cached_routes=[ROUTE]
    ) as running:
        async with calling(running.url) as caller:
            caller.send(get(JUNE))
            await legacy.has_come.wait()
        await until(lambda: bool(spans.named(f"GET {ROUTE['path']}")))
        may_answer.set()
        await until(lambda: bool(spans.named("load")))
    request = spans.only(f"GET {ROUTE['path']}")
    assert said(request)["proxy.cancelled"] is True
    assert request.status.status_code is StatusCode.UNSET
    assert parent_of(spans.only("load")) == id_of(request)
    assert spans.only("load").status.status_code is StatusCode.UNSET


async def test_redis_is_seen_where_a_question_waits_for_it_and_where_it_is_written(
    database: Path, spans: Spans, redis_server: RedisServer
) -> None:
    async with spans.serving(database, redis_url=redis_server.url) as running:
        await ask(running.url, post("/data", QUESTION))
        await running.background.drained()
    request = spans.only("POST /data")
    read = spans.only("GET")
    assert said(read).items() >= {"db.system.name": "redis", "proxy.found": False}.items()
    steps = {said(step)["proxy.lease"]: step for step in spans.named("EVALSHA")}
    assert steps.keys() >= {"take", "put"}
    assert said(steps["take"])["proxy.lease.taken"] == "granted"
    for span in (read, *steps.values()):
        assert trace_of(span) == trace_of(request)
        assert span.kind is SpanKind.CLIENT


async def test_an_entry_is_written_in_the_trace_of_who_asked_for_it(
    database: Path, spans: Spans, redis_server: RedisServer, legacy: ChartLegacy
) -> None:
    """One task writes for all: the second entry must not be put down to the first request."""
    targets = [f"{JUNE}&breakdown={word}" for word in ("all", "country", "device")]
    async with spans.serving(
        database,
        redis_url=redis_server.url,
        legacy_url=str(legacy.url),
        cached_routes=[ROUTE],
    ) as running:
        await asyncio.gather(*(ask(running.url, get(target)) for target in targets))
        await running.background.drained()
    requests = {trace_of(span) for span in spans.named(f"GET {ROUTE['path']}")}
    assert len(requests) == 3
    assert {trace_of(span) for span in spans.named("SET")} == requests


async def test_a_redis_that_is_gone_is_an_error_of_that_span_alone(
    database: Path, spans: Spans, redis_server: RedisServer
) -> None:
    async with spans.serving(database, redis_url=redis_server.url) as running:
        redis_server.kill()
        reply = await ask(running.url, post("/data", QUESTION))
    assert reply.status == 200
    assert said(spans.only("GET"))["error.type"] == "StoreError"
    assert spans.only("POST /data").status.status_code is StatusCode.UNSET


async def test_the_legacy_is_a_client_span_and_hears_where_it_stands(
    database: Path, spans: Spans
) -> None:
    empty = orjson.dumps({"start_date": "2020-01-01", "end_date": "2020-01-02"})
    async with chart_legacy() as legacy:
        async with spans.serving(
            database, legacy_url=str(legacy.url), cached_routes=[ROUTE]
        ) as running:
            await ask(running.url, post("/data", empty, "tracestate: congo=t61"))
            await ask(running.url, get("/other/path", SAMPLED, "tracestate: congo=t61"))
            await ask(running.url, get(JUNE, SAMPLED))
        calls = [span for span in spans.all() if span.kind is SpanKind.CLIENT]
        assert [span.name for span in calls] == ["POST", "GET", "GET"]
        for span, head in zip(calls, legacy.seen, strict=True):
            assert head["traceparent"] == f"00-{place_of(span)}-{head['traceparent'][-2:]}"
            assert (
                said(span).items()
                >= {
                    "server.address": "127.0.0.1",
                    "server.port": legacy.url.port,
                    "http.response.status_code": 200,
                }.items()
            )
        # Somebody's state without a parent is nobody's.
        assert [head.get("tracestate") for head in legacy.seen] == [None, "congo=t61", None]
        assert [f"{trace_of(span):032x}" == TRACE for span in calls] == [False, True, True]


async def test_a_passed_through_request_tells_nothing_of_itself(
    database: Path, spans: Spans
) -> None:
    async with (
        echo_legacy() as legacy,
        spans.serving(database, legacy_url=str(legacy.url)) as running,
    ):
        target = "/coffee/anna?pot=secret-1"
        reply = await ask(running.url, message("PROPFIND", target, "Cookie: a=secret-2"))
        assert reply.status == 200, reply
    asked, served = spans.named("HTTP")
    assert (asked.kind, served.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    assert parent_of(asked) == id_of(served)
    told = said(served)
    # One is made for whoever logs; whether anybody does is not this test's.
    told.pop("proxy.request_id", None)
    assert told == {
        "http.request.method": "_OTHER",
        "http.response.status_code": 200,
        "proxy.route": "passthrough",
    }
    everything = " ".join(span.to_json() for span in spans.all())
    for word in ("PROPFIND", "coffee", "anna", "secret"):
        assert word not in everything


async def test_no_value_of_a_caller_is_in_any_span(
    database: Path, spans: Spans, legacy: ChartLegacy
) -> None:
    pair = base64.b64encode(b"anna:hush").decode()
    own = (f"Authorization: Basic {pair}", "Cookie: session=hush", "User-Agent: hush", "X-A: hush")
    odd = orjson.dumps({"start_date": "2024-06-21", "end_date": "hush"})
    async with spans.serving(
        database, legacy_url=str(legacy.url), cached_routes=[ROUTE], auth="forward"
    ) as running:
        for data in (
            post("/data", QUESTION, *own),
            post("/data?hush=1", QUESTION, *own),
            post("/data", odd, *own),
            post(SPLIT, odd, *own),
            get(JUNE, *own),
            get("/hush?hush", *own),
        ):
            await ask(running.url, data)
    assert spans.all()
    everything = " ".join(span.to_json() for span in spans.all())
    for word in ("hush", pair, "2024-06", "anna"):
        assert word not in everything


async def test_an_auth_question_stands_below_the_request_that_asked_it(
    database: Path, spans: Spans, legacy: ChartLegacy
) -> None:
    async with spans.serving(database, legacy_url=str(legacy.url), auth="forward") as running:
        await ask(running.url, post("/data", QUESTION, SAMPLED, "Cookie: a=b"))
    asked = spans.only("GET")
    assert asked.kind is SpanKind.CLIENT
    assert trace_of(asked) == trace_of(spans.only("POST /data"))
    assert legacy.seen[0]["traceparent"] == f"00-{place_of(asked)}-01"


async def test_a_refused_caller_is_no_failure(database: Path, spans: Spans) -> None:
    async with (
        chart_legacy(status=401) as legacy,
        spans.serving(database, legacy_url=str(legacy.url), auth="forward") as running,
    ):
        assert (await ask(running.url, post("/data", QUESTION))).status == 401
    assert {span.status.status_code for span in spans.all()} == {StatusCode.UNSET}


async def test_the_shadow_has_a_trace_of_its_own_linked_to_its_cause(
    database: Path, monkeypatch: pytest.MonkeyPatch, legacy: ChartLegacy
) -> None:
    """Recorded because its cause is, whatever share of requests that begin a trace is."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    spans = Spans()
    async with spans.serving(
        database, legacy_url=str(legacy.url), shadow_rate=1, split_percent=100
    ) as running:
        await ask(running.url, post(SPLIT, QUESTION, SAMPLED))
        await until(lambda: bool(spans.named("shadow")))
        cause, shadow = spans.only(f"POST {SPLIT}"), spans.only("shadow")
        asked = [span for span in spans.named("POST") if parent_of(span) == id_of(shadow)]
        # An unrecorded cause has an unrecorded shadow.
        spans.clear()
        await ask(running.url, post(SPLIT, QUESTION))
        await until(lambda: len(legacy.seen) >= 3)
        assert spans.all() == []
    assert [link.context for link in shadow.links] == [cause.context]
    assert (shadow.parent, trace_of(shadow) == trace_of(cause)) == (None, False)
    assert asked
    assert legacy.seen[0]["traceparent"].startswith(f"00-{place_of(asked[0])}-")
    assert said(cause)["proxy.variant"] == "optimized"


async def test_the_shadow_of_a_lane_hit_is_linked_to_it(
    database: Path, spans: Spans, legacy: ChartLegacy
) -> None:
    async with spans.serving(
        database, legacy_url=str(legacy.url), shadow_rate=1, split_percent=100
    ) as running:
        async with calling(running.url) as caller:
            for _ in range(2):
                await caller.ask(post(SPLIT, QUESTION))
        await until(lambda: len(spans.named("shadow")) == 2)
    causes = spans.named(f"POST {SPLIT}")
    assert said(causes[1])["proxy.lane"] is True
    linked = {link.context.span_id for shadow in spans.named("shadow") for link in shadow.links}
    assert linked == {id_of(cause) for cause in causes}


async def test_an_answer_that_nobody_can_give_is_an_error_with_its_word_only(
    database: Path, spans: Spans
) -> None:
    async with spans.serving(database, legacy_url="http://127.0.0.1:1") as running:
        await asyncio.to_thread(database.unlink)
        assert (await ask(running.url, post("/data", QUESTION, "X-Request-ID: a"))).status == 503
    request, asked = spans.only("POST /data"), spans.only("POST")
    assert request.status.status_code is StatusCode.ERROR
    assert said(request)["error.type"] == "503"
    assert said(asked)["error.type"] == "unreachable"
    for span in spans.all():
        assert not span.events
        assert span.status.description is None


async def test_a_handler_that_fails_is_an_error_of_its_kind(
    database: Path, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise KeyError("hush")

    monkeypatch.setattr(Dashboard, "handle", fail)
    async with spans.serving(database) as running:
        assert (await ask(running.url, post("/data", QUESTION))).status == 500
    request = spans.only("POST /data")
    assert said(request)["error.type"] == "KeyError"
    assert request.status.status_code is StatusCode.ERROR
    assert "hush" not in request.to_json()


async def test_what_no_request_asked_for_is_not_traced(
    database: Path, spans: Spans, redis_server: RedisServer
) -> None:
    async with spans.serving(database, redis_url=redis_server.url) as running:
        job = running.warmup.ask("usual")
        await until(lambda: job.finished_at is not None)
    assert spans.all() == []
