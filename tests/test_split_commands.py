"""`split`, `rollback` and `shadow` against a room of /admin: pages to read, JSON, exit codes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from socket import socket

import pytest
from structlog.testing import capture_logs

from tests.command_line import Ran, forget_variables, run
from tests.split_room import SplitRoom, split_room

Cli = Callable[..., Awaitable[Ran]]


@pytest.fixture
async def room() -> AsyncIterator[SplitRoom]:
    # The proxy logs in the command's own process here, on the same stdout.
    with capture_logs():
        async with split_room() as room:
            yield room


@pytest.fixture
def cli(room: SplitRoom, monkeypatch: pytest.MonkeyPatch) -> Cli:
    forget_variables(monkeypatch)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: asyncio.to_thread(run, monkeypatch, *words, "--url", room.url)


async def test_split_without_a_percent_shows_and_changes_nothing(cli: Cli, room: SplitRoom) -> None:
    ran = await cli("split")
    assert (ran.code, ran.err) == (0, "")
    assert "100 % of the callers get the optimized answer." in ran.out
    assert "never changed" in ran.out
    assert room.file.writes == 0


async def test_split_with_a_percent_sets_it_and_shows_the_history(
    cli: Cli, room: SplitRoom
) -> None:
    await cli("split", "12.5", "--author", "ann", "--reason", "first [step]")
    ran = await cli("split", "25")
    assert ran.code == 0
    assert "25 % of the callers" in ran.out
    first, second = [line for line in ran.out.splitlines() if " split " in line]
    assert "25" in first
    assert "12.5" in second
    assert "ann" in second
    assert "first [step]" in second
    assert room.steering.split.percent == 25


async def test_a_long_history_is_cut(cli: Cli, room: SplitRoom) -> None:
    for percent in range(25):
        await cli("split", str(percent), "--json")
    ran = await cli("split")
    assert "5 older changes: see --json" in ran.out
    told = json.loads((await cli("split", "--json")).out)
    assert len(told["history"]) == 25


async def test_json_is_what_the_proxy_said(cli: Cli) -> None:
    ran = await cli("split", "25", "--json")
    told = json.loads(ran.out)
    assert (ran.code, told["percent"], told["rolled_back"]) == (0, 25, False)
    told = json.loads((await cli("rollback", "--reason", "x", "--json")).out)
    assert (told["percent"], told["rolled_back"], told["reason"]) == (0, True, "x")
    assert json.loads((await cli("shadow", "0.5", "--json")).out)["rate"] == 0.5


async def test_rollback_is_in_force_and_says_so(cli: Cli, room: SplitRoom) -> None:
    ran = await cli("rollback", "--reason", "spend looks wrong", "--author", "ann")
    assert ran.code == 0
    assert "Rolled back: every caller gets the legacy's answer." in ran.out
    assert "by ann: spend looks wrong" in ran.out
    assert room.steering.split.percent == 0


async def test_a_lift_leaves_the_percent_at_0(cli: Cli, room: SplitRoom) -> None:
    await cli("rollback", "--reason", "x")
    ran = await cli("rollback", "--lift", "--reason", "fixed")
    assert ran.code == 0
    assert "0 % of the callers" in ran.out
    assert not room.steering.state.rolled_back


async def test_what_the_proxy_refuses_is_3_and_says_what_to_do(cli: Cli, room: SplitRoom) -> None:
    assert (await cli("rollback", "--lift")).code == 3
    await cli("rollback", "--reason", "x")
    ran = await cli("split", "25")
    assert (ran.code, ran.out) == (3, "")
    assert "rollback --lift" in ran.err
    room.file.is_full = True
    ran = await cli("shadow", "0.5")
    assert ran.code == 3
    assert "full" in ran.err


async def test_a_rollback_that_is_not_on_disk_yet_is_1(cli: Cli, room: SplitRoom) -> None:
    room.file.is_full = True
    ran = await cli("rollback", "--reason", "x")
    assert ran.code == 1
    assert "Rolled back" in ran.out
    assert "not on the proxy's disk yet" in ran.err
    ran = await cli("rollback", "--reason", "x", "--json")
    assert (ran.code, ran.err, json.loads(ran.out)["is_kept"]) == (1, "", False)


async def test_shadow_shows_and_sets_the_rate(cli: Cli, room: SplitRoom) -> None:
    ran = await cli("shadow")
    assert (ran.code, ran.err) == (0, "")
    assert "0.25 (25%) of the questions" in ran.out
    ran = await cli("shadow", "0.001", "--author", "ann", "--reason", "less")
    assert ran.code == 0
    assert "0.001 (0.1%) of the questions" in ran.out
    assert "by ann: less" in ran.out
    assert room.steering.state.shadow_rate == 0.001


@pytest.mark.parametrize(
    "words",
    [
        ["split", "101"],
        ["split", "half"],
        ["split", "nan"],
        ["split", "-1"],
        ["split", "--reason", "nothing to change"],
        ["split", "--author", "ann"],
        ["shadow", "1.1"],
        ["shadow", "nan"],
        ["shadow", "--reason", "nothing to change"],
        ["rollback", "25"],
    ],
)
async def test_bad_usage_is_2_and_changes_nothing(
    cli: Cli, room: SplitRoom, words: list[str]
) -> None:
    ran = await cli(*words)
    assert ran.code == 2
    assert ran.err
    assert room.file.writes == 0


@pytest.mark.parametrize("words", [["split"], ["rollback", "--reason", "x"], ["shadow", "0.1"]])
def test_no_proxy_there_is_3(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    forget_variables(monkeypatch)
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    ran = run(monkeypatch, *words, "--url", url)
    assert (ran.code, ran.out) == (3, "")
    assert "no proxy answers" in ran.err


@pytest.mark.parametrize("command", ["split", "rollback", "shadow"])
def test_help_says_what_it_does(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ran = run(monkeypatch, command, "--help")
    assert ran.code == 0
    for word in ("--json", "--url", "--config", "--author", "--reason"):
        assert word in ran.out
