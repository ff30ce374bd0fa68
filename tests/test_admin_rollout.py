"""/admin/rollout over HTTP: what operators see and what they may ask."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from proxy.rollout.state import rolled_back
from tests.guarding import BY_ANN
from tests.rollout_room import RolloutRoom, rollout_room


@pytest.fixture
async def room() -> AsyncIterator[RolloutRoom]:
    async with rollout_room() as room:
        yield room


async def read(room: RolloutRoom) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{room.url}/admin/rollout") as response,
    ):
        assert response.status == 200
        told: dict[str, Any] = await response.json()
        return told


async def ask(room: RolloutRoom, **body: object) -> tuple[int, dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{room.url}/admin/rollout", json=body) as response,
    ):
        return response.status, await response.json()


async def test_before_the_start_it_is_idle(room: RolloutRoom) -> None:
    told = await read(room)
    assert (told["state"], told["percent"], told["steps"]) == ("idle", 0, [5, 50, 100])
    assert (told["verdict"], told["history"], told["thresholds"]) == ("insufficient", [], [])


async def test_each_action_answers_like_a_look_and_lands_in_the_audit_list(
    room: RolloutRoom,
) -> None:
    seen = []
    for action in ("start", "pause", "resume", "promote", "abort"):
        status, told = await ask(room, action=action, reason=f"to {action}", author="ann")
        assert (status, told) == (200, await read(room))
        seen.append((told["state"], told["step"], told["percent"]))
    assert seen == [
        ("running", 0, 5),
        ("paused", 0, 5),
        ("running", 0, 5),
        ("running", 1, 50),
        ("idle", 0, 0),
    ]
    records = room.audit.latest()
    assert [record.action for record in records][::-1] == [
        f"rollout {action}" for action in ("start", "pause", "resume", "promote", "abort")
    ]
    newest = records[0]
    assert (newest.author, newest.reason) == ("ann", "to abort")
    assert (newest.before, newest.after) != (None, None)
    told = await read(room)
    assert [change["action"] for change in told["history"]][:2] == ["abort", "promote"]
    assert told["history"][-1] == {
        "at": "2023-11-14T22:13:20.000Z",
        "author": "ann",
        "action": "start",
        "percent": 5,
        "reason": "to start",
    }
    assert told["reason"] == "to abort"


async def test_it_tells_why_it_holds(room: RolloutRoom) -> None:
    await ask(room, action="start")
    room.world.compare(40)
    room.world.answer(3)
    told = await read(room)
    assert (told["verdict"], told["state"]) == ("insufficient", "running")
    assert "3 of 20 answers" in told["reason"]
    assert (told["evidence"]["compared"], told["evidence"]["answers"]) == (40, 3)
    assert (told["evidence"]["noise_compared"], told["evidence"]["p95_ms"]) == (4, 4.875)
    mismatch = told["thresholds"][1]
    assert (mismatch["name"], mismatch["verdict"]) == ("mismatch_rate", "pass")
    assert (mismatch["samples"], mismatch["needed"], mismatch["allowed"]) == (40, 20, 0.01)
    assert (mismatch["observed"], mismatch["lower"]) == (0, 0)
    assert told["since"] == "2023-11-14T22:13:20.000Z"


async def test_the_status_has_the_short_form(room: RolloutRoom) -> None:
    assert room.room.section().keys() == {
        "state", "percent", "step", "steps", "verdict", "reason",
    }  # fmt: skip


@pytest.mark.parametrize("action", ["pause", "resume", "promote", "abort"])
async def test_what_is_not_possible_is_409_with_what_is(room: RolloutRoom, action: str) -> None:
    status, told = await ask(room, action=action)
    assert (status, told["success"]) == (409, False)
    assert told["error"] == f"the rollout is idle: {action} is not possible, only start"
    assert len(room.audit) == 0


async def test_rolled_back_it_cannot_be_started(room: RolloutRoom) -> None:
    await ask(room, action="start")
    await room.world.steering.change(lambda state: rolled_back(state, BY_ANN))
    told = await read(room)
    assert (told["state"], told["percent"], told["reason"]) == ("rolled_back", 0, "because")
    status, told = await ask(room, action="start")
    assert status == 409
    assert "rollback --lift" in told["error"]


async def test_without_a_table_there_is_nothing_to_steer() -> None:
    async with rollout_room(has_plan=False) as room:
        told = await read(room)
        assert (told["state"], told["steps"], told["history"]) == ("idle", [], [])
        status, told = await ask(room, action="start")
        assert status == 409
        assert "[rollout]" in told["error"]


@pytest.mark.parametrize(
    "body", [{}, {"action": "go"}, {"action": 1}, {"action": None}, {"action": ["start"]},
             {"action": "start", "step": 2}],
)  # fmt: skip
async def test_another_action_is_400_and_nothing_changes(
    room: RolloutRoom, body: dict[str, object]
) -> None:
    status, told = await ask(room, **body)
    assert (status, told["success"]) == (400, False)
    assert room.world.rollout.state == "idle"


async def test_what_cannot_be_kept_is_503_and_nothing_has_changed(room: RolloutRoom) -> None:
    room.world.file.is_full = True
    status, _ = await ask(room, action="start")
    assert status == 503
    assert room.world.rollout.state == "idle"
    assert len(room.audit) == 0


async def test_a_ledger_that_is_down_is_told_and_no_error(room: RolloutRoom) -> None:
    await ask(room, action="start")
    room.world.ledger.is_down = True
    told = await read(room)
    assert (told["state"], told["verdict"]) == ("running", "insufficient")
    assert "ledger" in told["reason"]
