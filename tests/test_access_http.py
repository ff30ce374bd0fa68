"""A whole proxy whose answers go only to those whom the legacy lets in."""

import asyncio
import base64
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from yarl import URL

from proxy.app import Running, run_proxy
from proxy.errors import SettingsError
from proxy.handlers.dashboard import ROUTES
from proxy.handlers.fast_lane import Lane
from proxy.settings import Settings
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
from tests.waiting import until
from tests.writer import Writer

TTL_S = 30.0
RANGE = {"start_date": "2024-06-21", "end_date": "2024-06-30"}
QUESTION = orjson.dumps(RANGE)
QUERY = "?start_date=2024-06-21&end_date=2024-06-30"
CHART = "/api/dashboard/analytics/overview-roas-chart"
ORIGIN = "https://app.example"


def basic(user: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{user}:key".encode()).decode()


ANNA, BERT = basic("anna"), basic("bert")


@dataclass
class StrictLegacy:
    """Lets in who is in `members`, on its page and on `/guarded`; counts whom it was asked about.

    `status` is what it answers on its page instead, if set.
    """

    url: URL = field(default_factory=URL)
    members: set[str] = field(default_factory=lambda: {ANNA.partition(": ")[2]})
    status: int | None = None
    sick_of: set[str] = field(default_factory=set)
    asked: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_answer.set()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        await request.content.read()
        shown = request.headers.get("Authorization") or request.headers.get("Cookie")
        if request.path == "/":
            self.asked.append(shown)
            await self.may_answer.wait()
            if shown in self.sick_of:
                return web.Response(status=503)
            if self.status is not None:
                return web.Response(status=self.status)
        else:
            self.paths.append(f"{request.method} {request.path}")
        if request.path in ("/", "/guarded") and shown not in self.members:
            headers = {"WWW-Authenticate": "Basic realm=legacy", "Set-Cookie": "a=b"}
            return web.Response(status=401, headers=headers, text="not you")
        return web.Response(body=b'{"success":true,"data":[1]}', content_type="application/json")


@asynccontextmanager
async def strict_legacy() -> AsyncIterator[StrictLegacy]:
    legacy = StrictLegacy()
    runner = web.ServerRunner(web.Server(legacy, access_log=None), shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        legacy.url = URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1])
        yield legacy
    finally:
        await runner.cleanup()


@dataclass
class Scene:
    legacy: StrictLegacy
    running: Running
    clock: HandClock

    async def ask(self, data: bytes) -> Reply:
        return await ask(self.running.url, data)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "tables.db")


@asynccontextmanager
async def guarded(database: Path, **settings: Any) -> AsyncIterator[Scene]:
    clock = HandClock()
    given: dict[str, Any] = {"auth": "forward", "auth_ttl_s": TTL_S, **settings}
    async with (
        strict_legacy() as legacy,
        serving(database, clock, legacy_url=str(legacy.url), **given) as running,
    ):
        yield Scene(legacy, running, clock)


@pytest.fixture
async def scene(database: Path) -> AsyncIterator[Scene]:
    routes = [{"path": CHART, "key": ["x"], "ttl_s": 1000.0, "shared_between_users": True}]
    async with guarded(database, cached_routes=routes) as scene:
        yield scene


def by_lane(reply: Reply) -> bool:
    return "server" not in reply.headers


def assert_refused(reply: Reply, *, is_head: bool = False) -> None:
    assert (reply.status, reply.body) == (401, b"" if is_head else b"not you")
    assert reply.headers["www-authenticate"] == "Basic realm=legacy"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-dashboard-source"] == "legacy"
    assert "set-cookie" not in reply.headers
    assert "etag" not in reply.headers


def asking(path: str, method: str, *headers: str) -> bytes:
    if method == "POST":
        return post(path, QUESTION, *headers)
    return message(method, path + QUERY, *headers)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_each_of_our_routes_is_for_those_whom_the_legacy_lets_in(
    scene: Scene, path: str, method: str
) -> None:
    is_head = method == "HEAD"
    # Kept, and in the lane, before anybody else asks.
    for _ in range(3):
        assert (await scene.ask(asking(path, method, ANNA))).status == 200
    for other in (BERT, "X-Nothing: 1", f"{BERT}\r\nIf-None-Match: *"):
        for _ in range(2):
            refused = await scene.ask(asking(path, method, other))
            assert_refused(refused, is_head=is_head)
            variant = "optimized" if path.endswith("/analytics/data") else None
            assert refused.headers.get("x-dashboard-variant") == variant
    assert (await scene.ask(asking(path, method, ANNA, "If-None-Match: *"))).status == 304
    assert scene.legacy.paths == []


async def test_a_cached_route_is_for_those_whom_the_legacy_lets_in(scene: Scene) -> None:
    for cache in ("fwd=miss; stored", "hit"):
        reply = await scene.ask(get(f"{CHART}?x=1", ANNA))
        assert (reply.status, reply.headers["cache-status"]) == (200, f"dashboard-proxy; {cache}")
    for target in (f"{CHART}?x=1", f"{CHART}?x=2"):
        for other in (BERT, "X-Nothing: 1"):
            assert_refused(await scene.ask(get(target, other)))
    assert scene.legacy.paths == [f"GET {CHART}"]
    assert counted(scene.running, "cached", "legacy", "refused") == 4


async def test_the_legacy_is_asked_once_for_all_that_one_caller_asks(scene: Scene) -> None:
    for path in ("/data", "/analytics/data", CHART):
        for _ in range(3):
            await scene.ask(get(f"{path}{QUERY if path != CHART else ''}", ANNA))
    assert len(scene.legacy.asked) == 1


async def test_remembered_bytes_are_answered_while_the_word_lasts_and_asked_about_after(
    scene: Scene,
) -> None:
    data = post("/data", QUESTION, ANNA)
    async with calling(scene.running.url) as caller:
        await caller.ask(data)
        assert by_lane(await caller.ask(data))
        scene.legacy.members.clear()
        scene.clock.pass_s(TTL_S - 1)
        assert by_lane(await caller.ask(data))
        scene.clock.pass_s(1)
        assert_refused(await caller.ask(data))
        assert_refused(await caller.ask(data))
        scene.legacy.members.add(ANNA.partition(": ")[2])
        assert (await caller.ask(data)).status == 200
        assert by_lane(await caller.ask(data))


@pytest.mark.parametrize("target", ["/guarded", f"/guarded{QUERY}"])
async def test_a_refusal_on_any_path_ends_the_word_at_once(scene: Scene, target: str) -> None:
    data = post("/data", QUESTION, ANNA)
    async with calling(scene.running.url) as caller:
        await caller.ask(data)
        assert by_lane(await caller.ask(data))
        scene.legacy.members.clear()
        assert by_lane(await caller.ask(data))
        assert (await scene.ask(get(target, ANNA))).status == 401
        assert_refused(await caller.ask(data))


async def test_with_no_time_every_answer_is_asked_about(database: Path) -> None:
    async with guarded(database, auth_ttl_s=0) as scene:
        data = post("/data", QUESTION, ANNA)
        async with calling(scene.running.url) as caller:
            for _ in range(3):
                reply = await caller.ask(data)
                assert (reply.status, by_lane(reply)) == (200, False)
            scene.legacy.members.clear()
            assert_refused(await caller.ask(data))
        assert len(scene.legacy.asked) == 4


async def test_one_load_for_two_callers_answers_only_the_one_who_is_let_in(scene: Scene) -> None:
    data = [post("/data", QUESTION, who) for who in (ANNA, BERT, ANNA, BERT)]
    replies = await asyncio.gather(*map(scene.ask, data))
    assert [reply.status for reply in replies] == [200, 401, 200, 401]
    assert len(scene.legacy.asked) == 2


async def test_callers_with_one_credential_wait_for_one_question(scene: Scene) -> None:
    scene.legacy.may_answer.clear()
    tasks = [asyncio.create_task(scene.ask(post("/data", QUESTION, ANNA))) for _ in range(20)]
    await until(lambda: len(scene.legacy.asked) == 1)
    tasks.pop(0).cancel()
    scene.legacy.may_answer.set()
    assert {reply.status for reply in await asyncio.gather(*tasks)} == {200}
    assert len(scene.legacy.asked) == 1


async def test_what_goes_to_the_legacy_is_for_the_legacy_to_judge(scene: Scene) -> None:
    for data in (
        get("/other", BERT),
        message("OPTIONS", "/data", BERT),
        post("/data", b'{"unknown": 1}', BERT),
        message("PUT", "/data", BERT, "Content-Length: 0"),
    ):
        assert (await scene.ask(data)).status == 200
    assert scene.legacy.asked == []


async def test_the_legacys_share_of_the_split_is_for_the_legacy_to_judge(database: Path) -> None:
    async with guarded(database, split_percent=0) as scene:
        reply = await scene.ask(post("/analytics/data", QUESTION, BERT))
        assert (reply.status, reply.headers["x-dashboard-variant"]) == (200, "legacy")
        assert scene.legacy.asked == []


async def test_a_preflight_of_ours_needs_no_credentials_and_a_refusal_can_be_read(
    database: Path,
) -> None:
    async with guarded(database, cors_origins=[ORIGIN]) as scene:
        origin = f"Origin: {ORIGIN}"
        preflight = message("OPTIONS", "/data", origin, "Access-Control-Request-Method: POST")
        assert (await scene.ask(preflight)).status == 204
        refused = await scene.ask(post("/data", QUESTION, BERT, origin))
        assert_refused(refused)
        assert refused.headers["access-control-allow-origin"] == ORIGIN


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_without_a_verdict_there_is_no_answer(scene: Scene, status: int) -> None:
    await scene.ask(post("/data", QUESTION, ANNA))
    scene.legacy.status = status
    for path in ("/data", f"{CHART}?x=1"):
        data = get(path, BERT) if path != "/data" else post(path, QUESTION, BERT)
        reply = await scene.ask(data)
        assert reply.status in (502, 503)
        assert f"it answered {status}".encode() in reply.body
    # Anna's word goes on.
    assert (await scene.ask(post("/data", QUESTION, ANNA))).status == 200


async def test_who_could_not_be_asked_about_is_told_so_as_json(scene: Scene) -> None:
    scene.legacy.status = 302
    reply = await scene.ask(post("/data", QUESTION, ANNA, "X-Request-ID: mine"))
    assert (reply.status, reply.headers["content-type"]) == (503, "application/json")
    assert reply.headers["x-request-id"] == "mine"
    assert counted(scene.running, "data", "none", "error") == 1


async def test_a_legacy_that_does_not_say_in_time_gets_nobody_an_answer(database: Path) -> None:
    async with guarded(database, legacy_timeout_s=0.2) as scene:
        scene.legacy.may_answer.clear()
        assert (await scene.ask(post("/data", QUESTION, ANNA))).status == 504
        scene.legacy.may_answer.set()


async def test_a_legacy_that_hangs_keeps_nobody_waiting_for_long_and_lets_nobody_in(
    database: Path,
) -> None:
    routes = [{"path": CHART, "key": ["x"], "ttl_s": 1000.0, "shared_between_users": True}]
    async with guarded(
        database, legacy_timeout_s=0.2, auth_ttl_s=1.5, cached_routes=routes
    ) as scene:
        legacy = scene.legacy
        question = post("/data", QUESTION, ANNA)
        assert (await scene.ask(question)).status == 200
        legacy.may_answer.clear()
        for n in range(3):
            reply = await scene.ask(post("/data", QUESTION, basic(f"caller {n}")))
            assert (reply.status, "retry-after" in reply.headers) == (504, False)
        # Until it has not said either what becomes of a caller who shows nothing.
        await scene.running.background.drained()
        asked = len(legacy.asked)
        assert legacy.asked[-1] is None

        # Nobody is asked about, and so nobody is let in: neither here nor on the cached route.
        for data in (post("/data", QUESTION, BERT), get(f"{CHART}?x=1", BERT)):
            reply = await scene.ask(data)
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert reply.headers["cache-control"] == "no-store"
            assert "left alone for a moment" in orjson.loads(reply.body)["error"]
        assert len(legacy.asked) == asked
        # A word that counts goes on, until its time is over.
        assert (await scene.ask(question)).status == 200
        scene.clock.pass_s(1.5)

        legacy.may_answer.set()
        assert (await scene.ask(question)).status == 200
        assert_refused(await scene.ask(post("/data", QUESTION, BERT)))


async def test_who_shows_what_the_legacy_cannot_bear_shuts_out_nobody_else(scene: Scene) -> None:
    bad = [f"session={number}" for number in range(9)]
    scene.legacy.sick_of = set(bad)
    for shown in bad:
        reply = await scene.ask(post("/data", QUESTION, f"Cookie: {shown}"))
        assert (reply.status, "retry-after" in reply.headers) == (503, False)
        await scene.running.background.drained()
    assert set(bad) < set(scene.legacy.asked)
    assert (await scene.ask(post("/data", QUESTION, ANNA))).status == 200


async def test_the_configured_page_is_asked_about_the_configured_cookies(database: Path) -> None:
    async with guarded(database, auth_cookies=["session"]) as scene:
        scene.legacy.members = {"session=1"}
        for noise in range(5):
            cookie = f"Cookie: _ga={noise}; session=1"
            assert (await scene.ask(post("/data", QUESTION, cookie))).status == 200
        assert_refused(await scene.ask(post("/data", QUESTION, "Cookie: session=2")))
        assert scene.legacy.asked == ["session=1", "session=2"]


async def test_with_no_cookies_configured_all_count(database: Path) -> None:
    async with guarded(database) as scene:
        scene.legacy.members = {"a=1; session=1"}
        assert (await scene.ask(post("/data", QUESTION, "Cookie: a=1; session=1"))).status == 200
        assert_refused(await scene.ask(post("/data", QUESTION, "Cookie: a=2; session=1")))


async def test_switched_off_nobody_is_asked_about(database: Path) -> None:
    async with guarded(database, auth="off") as scene:
        assert (await scene.ask(post("/data", QUESTION, BERT))).status == 200
        assert scene.legacy.asked == []


def lanes() -> list[Lane]:
    return [found for found in gc.get_objects() if type(found) is Lane]


async def test_no_credentials_are_remembered(scene: Scene) -> None:
    data = post("/data", QUESTION, ANNA)
    for _ in range(3):
        await scene.ask(data)
    kept = [raw for lane in lanes() for raw in lane._remembered]
    assert kept
    assert all(ANNA.encode() not in raw for raw in kept)


async def test_an_answer_is_not_given_when_its_caller_was_refused_while_it_was_made(
    database: Path,
) -> None:
    cold = post("/data", orjson.dumps({**RANGE, "hierarchy": "adset"}), ANNA)
    with Writer(database) as writer:
        writer.sql("PRAGMA journal_mode = DELETE")
        async with guarded(database) as scene, calling(scene.running.url) as caller:
            await scene.ask(post("/data", QUESTION, ANNA))
            writer.sql("BEGIN EXCLUSIVE")
            caller.send(cold)
            scene.legacy.members.clear()
            assert (await scene.ask(get("/guarded", ANNA))).status == 401
            writer.sql("ROLLBACK")
            assert_refused(await caller.reply())


async def test_a_user_in_the_url_to_ask_stops_the_start() -> None:
    with pytest.raises(ValueError, match="PROXY_AUTH_URL has a user in it"):
        Settings(auth="forward", auth_url="http://u:hush@legacy/")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "admin.example"])
async def test_an_admin_port_that_others_reach_needs_a_token(database: Path, host: str) -> None:
    settings = Settings(database=str(database), admin_host=host, admin_port=0, port=0)
    with pytest.raises(SettingsError, match=r"PROXY_ADMIN_HOST.*PROXY_ADMIN_TOKEN"):
        async with run_proxy(settings):
            pass


@pytest.mark.parametrize(
    ("host", "token"), [("127.0.0.1", None), ("localhost", None), ("0.0.0.0", "hush")]
)
async def test_an_admin_port_of_this_machine_or_with_a_token_opens(
    database: Path, host: str, token: str | None
) -> None:
    async with serving(database, admin_host=host, admin_token=token) as running:
        assert running.admin_url.port
