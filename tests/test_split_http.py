"""The traffic split as callers of `/analytics/data` see it."""

from pathlib import Path
from typing import Any

import pytest

from proxy.rollout.split import Split
from tests.public_port import ask, calling, echo_legacy, make_database, post, serving

PATH = "/api/dashboard/analytics/data"
QUESTION = b'{"start_date":"2024-06-21","end_date":"2024-06-30","group_by":"campaign"}'


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "tables.db")


async def test_each_caller_stays_on_the_side_it_is_dealt_to(database: Path) -> None:
    split = Split(50, "header:X-User-Id", "s")
    table = {"identity": "header:X-User-Id", "salt": "s"}
    async with (
        echo_legacy() as legacy,
        serving(database, legacy_url=str(legacy.url), split_percent=50, split=table) as running,
        calling(running.url) as caller,
    ):
        for _ in range(3):
            for user in range(12):
                reply = await caller.ask(post(PATH, QUESTION, f"X-User-Id: {user}"))
                side = split.variant_of(str(user))
                assert reply.headers["x-dashboard-variant"] == side
                assert reply.headers["x-dashboard-source"] == side
        asked = sum(split.variant_of(str(user)) == "legacy" for user in range(12))
        assert len(legacy.asked) == 3 * asked


async def test_at_zero_percent_the_legacy_answers_and_the_other_routes_stay_ours(
    database: Path,
) -> None:
    async with (
        echo_legacy() as legacy,
        serving(database, legacy_url=str(legacy.url), split_percent=0) as running,
    ):
        reply = await ask(running.url, post(PATH, QUESTION))
        assert reply.headers["x-dashboard-variant"] == "legacy"
        assert reply.headers["cache-status"] == "dashboard-proxy; fwd=bypass; detail=split"
        assert reply.body.endswith(QUESTION)
        ours = await ask(running.url, post(PATH + "/optimized", QUESTION))
        assert ours.headers["x-dashboard-source"] == "optimized"


async def test_a_side_told_by_the_address_is_not_remembered_from_the_bytes(
    database: Path,
) -> None:
    split = Split(50)
    async with (
        echo_legacy() as legacy,
        serving(database, legacy_url=str(legacy.url), split_percent=50) as running,
        calling(running.url) as caller,
    ):
        side = split.variant_of("127.0.0.1")
        for _ in range(3):
            reply = await caller.ask(post(PATH, QUESTION))
            assert reply.headers["x-dashboard-variant"] == side


async def test_without_a_legacy_all_questions_are_ours(database: Path) -> None:
    async with serving(database, split_percent=0) as running:
        reply = await ask(running.url, post(PATH, QUESTION))
        assert reply.headers["x-dashboard-variant"] == "optimized"
        assert reply.headers["x-dashboard-source"] == "optimized"


@pytest.mark.parametrize("has_guard", [False, True])
async def test_answers_are_written_down_only_for_a_guard_that_judges_them(
    database: Path, has_guard: bool
) -> None:
    settings: dict[str, Any] = {"rollout": {}} if has_guard else {}
    async with (
        echo_legacy() as legacy,
        serving(database, legacy_url=str(legacy.url), **settings) as running,
        calling(running.url) as caller,
    ):
        for _ in range(5):
            assert (await caller.ask(post(PATH, QUESTION))).status == 200
    assert database.with_name("state.db").exists() == has_guard
