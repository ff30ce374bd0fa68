"""Testers who force a side, and a split that moves while requests are on their way."""

import asyncio
from collections.abc import Mapping

import pytest
from multidict import CIMultiDict

from proxy.errors import BackendError
from proxy.handlers.variants import Variants
from proxy.rollout.split import Split
from tests.public_port import ask, calling, echo_legacy, get, message, post
from tests.split_port import ORIGIN, PATH, QUESTION, split_port
from tests.waiting import until

TOKEN = "X-Dashboard-Token: s3cret"
ASK = post(PATH, QUESTION)


def forced(side: str, *headers: str) -> bytes:
    return post(PATH, QUESTION, f"X-Dashboard-Variant: {side}", *headers)


def variants(
    percent: float,
    *,
    is_rolled_back: bool = False,
    has_legacy: bool = True,
    allow_override: bool = False,
    admin_token: str | None = "s3cret",
) -> Variants:
    return Variants(
        lambda: Split(percent),
        lambda: is_rolled_back,
        has_legacy=has_legacy,
        allow_override=allow_override,
        admin_token=admin_token,
    )


def headers(**named: str) -> Mapping[str, str]:
    return CIMultiDict(
        (f"X-Dashboard-{name.title()}", value) for name, value in named.items() if value
    )


@pytest.mark.parametrize(
    ("percent", "sent", "settings", "side"),
    [
        (0, headers(variant="optimized"), {}, "legacy"),
        (0, headers(variant="optimized", token="wrong"), {}, "legacy"),
        (0, headers(variant="optimized", token="s3cret\udcff"), {}, "legacy"),
        (0, headers(variant="optimized", token="s3cret"), {}, "optimized"),
        (100, headers(variant=" Legacy ", token="s3cret"), {}, "legacy"),
        (100, headers(variant="legacy"), {"allow_override": True}, "legacy"),
        (0, headers(variant="optimized"), {"allow_override": True}, "optimized"),
        (0, headers(variant="optimized", token="wrong"), {"allow_override": True}, "optimized"),
        (100, headers(variant="both", token="s3cret"), {}, "optimized"),
        (0, headers(variant="both", token="s3cret"), {}, "legacy"),
        (100, headers(token="s3cret"), {}, "optimized"),
        (0, headers(variant="optimized", token="None"), {"admin_token": None}, "legacy"),
        (
            0,
            headers(variant="optimized"),
            {"allow_override": True, "is_rolled_back": True},
            "legacy",
        ),
        (0, headers(variant="optimized", token="s3cret"), {"is_rolled_back": True}, "optimized"),
        (0, headers(), {"has_legacy": False}, "optimized"),
        (
            0,
            headers(variant="legacy", token="s3cret"),
            {"has_legacy": False, "allow_override": True},
            "optimized",
        ),
    ],
)
def test_a_side_is_given_to_who_may_ask_for_it(
    percent: float, sent: Mapping[str, str], settings: dict[str, bool], side: str
) -> None:
    assert variants(percent, **settings).side(sent, "10.0.0.1") == side  # type: ignore[arg-type]


def test_only_what_all_requests_with_the_same_headers_get_is_told_by_the_bytes() -> None:
    assert variants(100).is_ours_by_its_bytes({}, "")
    assert not variants(50).is_ours_by_its_bytes({}, "")
    assert not variants(0).is_ours_by_its_bytes({}, "")
    assert not variants(100).is_ours_by_its_bytes(headers(variant="x"), "")
    assert variants(0, has_legacy=False).is_ours_by_its_bytes({}, "")


def test_no_token_is_in_the_repr() -> None:
    assert "s3cret" not in repr(variants(50))


async def test_a_forced_side_answers_whatever_the_split_and_is_not_remembered() -> None:
    async with (
        echo_legacy() as legacy,
        split_port(legacy.url, split=Split(100), admin_token="s3cret") as port,
        calling(port.url) as caller,
    ):
        for side in 3 * ["legacy", "optimized"]:
            reply = await caller.ask(forced(side, TOKEN))
            assert reply.headers["x-dashboard-variant"] == side
            assert reply.headers["x-dashboard-source"] == side
        assert len(port.steered.lane) == 0
        # Not for those who do not know the token.
        reply = await caller.ask(forced("legacy"))
        assert reply.headers["x-dashboard-variant"] == "optimized"
        assert len(port.steered.lane) == 0


async def test_an_open_override_ends_with_a_rollback_and_the_token_does_not() -> None:
    async with (
        echo_legacy() as legacy,
        split_port(legacy.url, split=Split(100), allow_override=True, admin_token="s3cret") as port,
        calling(port.url) as caller,
    ):
        open_reply = await caller.ask(forced("optimized"))
        assert open_reply.headers["x-dashboard-variant"] == "optimized"
        port.steered.move(100, is_rolled_back=True)
        for data, side in (
            (forced("optimized"), "legacy"),
            (forced("optimized", TOKEN), "optimized"),
        ):
            assert (await caller.ask(data)).headers["x-dashboard-variant"] == side


async def test_the_token_goes_to_nobody_and_into_no_log(capsys: pytest.CaptureFixture[str]) -> None:
    async with (
        echo_legacy() as legacy,
        split_port(legacy.url, split=Split(0), admin_token="s3cret") as port,
    ):
        for data in (
            forced("legacy", TOKEN),
            forced("optimized", TOKEN),
            post("/other", b"{}", TOKEN, "x-dashboard-TOKEN: s3cret"),
            post("/data", b'{"unknown":1}', TOKEN),
            message("OPTIONS", PATH, TOKEN),
        ):
            assert b"s3cret" not in (await ask(port.url, data)).body
    assert len(legacy.heads) == 4
    assert "s3cret" not in "".join(legacy.heads)
    assert "X-Dashboard-Variant" in "".join(legacy.heads)
    said = capsys.readouterr()
    assert "s3cret" not in said.out + said.err


async def test_a_request_with_the_token_is_not_kept_in_memory_on_any_route() -> None:
    dashboard = post("/data", QUESTION.replace(b"group_by", b"hierarchy"), TOKEN)
    async with split_port(None, split=Split(100), admin_token="s3cret") as port:
        for data in (dashboard, ASK, post(PATH, QUESTION, TOKEN)):
            for _ in range(2):
                assert (await ask(port.url, data)).status == 200
        assert [b"s3cret" in raw for raw in port.steered.lane._remembered] == [False]


async def test_every_answer_of_the_split_route_tells_its_side() -> None:
    preflight = message("OPTIONS", PATH, f"Origin: {ORIGIN}", "Access-Control-Request-Method: POST")
    async with (
        echo_legacy() as legacy,
        split_port(legacy.url, split=Split(100)) as port,
    ):
        first = await ask(port.url, ASK)
        known = await ask(port.url, post(PATH, QUESTION, f"If-None-Match: {first.headers['etag']}"))
        cut = await ask(port.url, message("POST", PATH, f"Content-Length: {2**20 + 1}"))
        allowed = await ask(port.url, preflight)
        unknown = await ask(port.url, post(PATH, b'{"unknown":1}'))
        put = await ask(port.url, message("PUT", PATH))
        port.stage.path.looks.write(2)
        port.stage.path.backend.failure = BackendError("no", reason="sql_error")
        fallen_back = await ask(port.url, ASK)
        port.stage.path.legacy.failure = BackendError("no", reason="legacy_error")
        port.stage.path.store.memory.clear()
        failed = await ask(port.url, ASK)
        port.steered.move(0)
        dealt = await ask(port.url, ASK)
        allowed_there = await ask(port.url, preflight)
    told = [
        (reply.status, reply.headers["x-dashboard-variant"])
        for reply in (first, known, cut, allowed, unknown, put, fallen_back, failed, dealt)
    ]
    assert told == [
        (200, "optimized"),
        (304, "optimized"),
        (413, "optimized"),
        (204, "optimized"),
        (200, "legacy"),
        (200, "legacy"),
        (200, "optimized"),
        (503, "optimized"),
        (200, "legacy"),
    ]
    assert fallen_back.headers["x-dashboard-source"] == "legacy"
    assert (allowed_there.status, allowed_there.headers["x-dashboard-variant"]) == (204, "legacy")


async def test_a_legacy_that_is_gone_is_told_with_its_side() -> None:
    async with echo_legacy() as legacy:
        url = legacy.url
    async with split_port(url, split=Split(0)) as port:
        reply = await ask(port.url, ASK)
    assert (reply.status, reply.headers["x-dashboard-variant"]) == (502, "legacy")


async def test_a_change_counts_from_the_next_request_on_also_where_the_lane_had_it() -> None:
    async with (
        echo_legacy() as legacy,
        split_port(legacy.url, split=Split(100)) as port,
        calling(port.url) as caller,
    ):
        for _ in range(3):
            reply = await caller.ask(ASK)
        assert len(port.steered.lane) == 1
        assert "server" not in reply.headers
        port.steered.move(0)
        reply = await caller.ask(ASK)
        assert reply.headers["x-dashboard-variant"] == "legacy"
        port.steered.move(100)
        assert (await caller.ask(ASK)).headers["x-dashboard-variant"] == "optimized"


@pytest.mark.parametrize("step", ["fetch", "put", "get"])
@pytest.mark.parametrize("is_rolled_back", [True, False])
async def test_a_request_that_was_on_its_way_puts_nothing_back_into_the_lane(
    step: str, is_rolled_back: bool
) -> None:
    async with (
        echo_legacy() as legacy,
        split_port(legacy.url, split=Split(100)) as port,
        calling(port.url) as caller,
    ):
        gates = port.stage.path.gates
        gates.shut(step)
        before = asyncio.create_task(caller.ask(ASK))
        await until(lambda: gates.waiting[step] == 1)
        port.steered.move(0, is_rolled_back=is_rolled_back)
        gates.open(step)
        # It had begun before: its old side may answer it.
        assert (await before).headers["x-dashboard-variant"] == "optimized"
        assert len(port.steered.lane) == 0
        for _ in range(2):
            assert (await caller.ask(ASK)).headers["x-dashboard-variant"] == "legacy"
        assert len(legacy.asked) == 2


async def test_a_caller_that_a_lower_percent_moves_is_not_put_back_either() -> None:
    split = Split(100, "header:X-User-Id")
    lower = next(user for user in map(str, range(100)) if Split(50).variant_of(user) == "legacy")
    asks = post(PATH, QUESTION, f"X-User-Id: {lower}")
    async with (
        echo_legacy() as legacy,
        split_port(legacy.url, split=split) as port,
        calling(port.url) as caller,
    ):
        gates = port.stage.path.gates
        gates.shut("fetch")
        before = asyncio.create_task(caller.ask(asks))
        await until(lambda: gates.waiting["fetch"] == 1)
        port.steered.move(50)
        gates.open("fetch")
        await before
        assert len(port.steered.lane) == 0
        assert (await caller.ask(asks)).headers["x-dashboard-variant"] == "legacy"


async def test_a_get_is_dealt_like_a_post() -> None:
    target = f"{PATH}?start_date=2024-01-01&end_date=2024-01-01&group_by=campaign&depth=1"
    async with (
        echo_legacy() as legacy,
        split_port(legacy.url, split=Split(0), admin_token="s3cret") as port,
    ):
        assert (await ask(port.url, get(target))).headers["x-dashboard-variant"] == "legacy"
        reply = await ask(port.url, get(target, TOKEN, "X-Dashboard-Variant: optimized"))
        assert reply.headers["x-dashboard-variant"] == "optimized"
