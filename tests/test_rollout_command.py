"""`dashboard-proxy rollout` against a room of /admin: a page to read, JSON, and exit codes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from proxy.rollout.state import rolled_back
from tests.command_line import Ran, forget_variables, run
from tests.guarding import BY_ANN
from tests.rollout_room import RolloutRoom, rollout_room

Cli = Callable[..., Awaitable[Ran]]


@pytest.fixture
async def room() -> AsyncIterator[RolloutRoom]:
    # The proxy's log lines would land among what the command says.
    with capture_logs():
        async with rollout_room() as room:
            yield room


@pytest.fixture
def cli(room: RolloutRoom, monkeypatch: pytest.MonkeyPatch) -> Cli:
    forget_variables(monkeypatch)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: asyncio.to_thread(run, monkeypatch, "rollout", *words, "--url", room.url)


async def test_without_an_action_it_shows_where_it_is(cli: Cli) -> None:
    ran = await cli()
    assert (ran.code, ran.err) == (0, "")
    assert "idle, 0 % optimized" in ran.out
    assert "5 50 100" in ran.out


async def test_a_page_to_read(cli: Cli, room: RolloutRoom) -> None:
    assert (await cli("start", "--reason", "spring [1]", "--author", "ann")).code == 0
    await cli("promote")
    room.world.compare(40, mismatched=True)
    room.world.answer(20)
    ran = await cli()
    assert "running, 50 % optimized" in ran.out
    assert "5 >50< 100" in ran.out
    assert "40 of 20" in ran.out
    assert "100.00%" in ran.out
    assert "4.9 ms" in ran.out
    assert "50.0 ms" in ran.out
    assert "spring [1]" in ran.out
    assert ran.out.index("promote") < ran.out.index("start")


async def test_json_is_what_the_proxy_tells(cli: Cli, room: RolloutRoom) -> None:
    told = json.loads((await cli("start", "--json", "--author", "ann")).out)
    assert (told["state"], told["history"][0]["author"]) == ("running", "ann")
    assert json.loads((await cli("--json")).out) == told


async def test_what_is_not_possible_is_3_and_says_what_is(cli: Cli, room: RolloutRoom) -> None:
    ran = await cli("resume")
    assert (ran.code, ran.out) == (3, "")
    assert "only start" in " ".join(ran.err.split())
    await room.world.steering.change(lambda state: rolled_back(state, BY_ANN))
    assert (await cli("start")).code == 3


@pytest.mark.parametrize("words", [["go"], ["--reason", "why"], ["--author", "ann"]])
async def test_bad_usage_is_2(cli: Cli, words: list[str]) -> None:
    ran = await cli(*words)
    assert ran.code == 2


async def test_without_a_plan_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_variables(monkeypatch)
    async with rollout_room(has_plan=False) as room:
        ran = await asyncio.to_thread(run, monkeypatch, "rollout", "--url", room.url)
        assert ran.code == 0
        assert "no [rollout] table" in " ".join(ran.out.split())
