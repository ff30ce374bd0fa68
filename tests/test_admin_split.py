"""/admin/split, /admin/rollback and /admin/shadow over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from tests.split_room import SplitRoom, split_room
from tests.waiting import until

AT = "2023-11-14T22:13:20.000Z"


@dataclass(frozen=True, slots=True)
class Operator:
    """Asks the room. `body` is sent as it stands when it is bytes, else as JSON."""

    room: SplitRoom
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        given = {"data": body} if isinstance(body, bytes) else {"json": body}
        url = f"{self.room.url}/admin{path}"
        async with self.session.request(
            method,
            url,
            **({} if body is None else given),
        ) as response:
            return response.status, await response.json()

    async def told(self, method: str, path: str, body: object = None) -> Any:
        status, told = await self.ask(method, path, body)
        assert status == 200, told
        return told


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    async with split_room() as room, aiohttp.ClientSession() as session:
        yield Operator(room, session)


async def test_a_split_that_was_never_changed_is_that_of_the_settings(operator: Operator) -> None:
    assert await operator.told("GET", "/split") == {
        "percent": 100,
        "rolled_back": False,
        "changed_at": None,
        "author": "",
        "reason": "",
        "is_kept": True,
        "history": [],
    }
    assert (await operator.told("GET", "/shadow"))["rate"] == 0.25


async def test_a_percent_is_in_force_and_kept_when_it_is_answered(operator: Operator) -> None:
    body = {"percent": 25, "reason": "second step", "author": "ann"}
    told = await operator.told("POST", "/split", body)
    line = {"at": AT, "author": "ann", "action": "split", "percent": 25, "reason": "second step"}
    assert told == {
        "percent": 25,
        "rolled_back": False,
        "changed_at": AT,
        "author": "ann",
        "reason": "second step",
        "is_kept": True,
        "history": [line],
    }
    assert await operator.told("GET", "/split") == told
    assert operator.room.steering.split.percent == 25
    assert operator.room.file.kept is not None
    assert operator.room.file.kept.percent == 25


async def test_history_has_the_newest_first(operator: Operator) -> None:
    for percent in (1, 0, 99.5, 100):
        await operator.told("POST", "/split", {"percent": percent})
    told = await operator.told("GET", "/split")
    assert [line["percent"] for line in told["history"]] == [100, 99.5, 0, 1]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"percent": None},
        {"percent": True},
        {"percent": "25"},
        {"percent": [25]},
        {"percent": -0.001},
        {"percent": 100.001},
        {"percent": 10**30},
        {"reason": "no percent"},
        b'{"percent": NaN}',
        b'{"percent": 1e999}',
        b'{"percent": 25',
        b"[25]",
        {"percent": 25, "reason": 7},
        {"percent": 25, "reason": "x" * 501},
        {"percent": 25, "author": ["ann"]},
        {"percent": 25, "percents": 3},
    ],
)
async def test_what_is_no_percent_is_400_and_nothing_changes(
    operator: Operator, body: object
) -> None:
    before = operator.room.steering.state
    status, told = await operator.ask("POST", "/split", body)
    assert (status, told["success"]) == (400, False)
    assert operator.room.steering.state is before
    assert (len(operator.room.audit), operator.room.file.writes) == (0, 0)


@pytest.mark.parametrize("rate", [None, True, "0.1", -0.1, 1.5])
async def test_what_is_no_rate_is_400_and_nothing_changes(operator: Operator, rate: object) -> None:
    status, told = await operator.ask("POST", "/shadow", {"rate": rate})
    assert (status, told["error"]) == (400, "Invalid rate field. Must be a number, 0 to 1")
    assert operator.room.steering.state.shadow_rate == 0.25


async def test_a_bad_percent_is_named(operator: Operator) -> None:
    _, told = await operator.ask("POST", "/split", {"percent": "half"})
    assert told["error"] == "Invalid percent field. Must be a number, 0 to 100"


async def test_a_shadow_rate_counts_from_its_answer_on(operator: Operator) -> None:
    told = await operator.told("POST", "/shadow", {"rate": 0.5, "author": "ann", "reason": "more"})
    assert told == {
        "rate": 0.5,
        "changed_at": AT,
        "author": "ann",
        "reason": "more",
        "is_kept": True,
    }
    assert operator.room.steering.state.shadow_rate == 0.5
    assert (await operator.told("GET", "/split"))["history"] == []


async def test_a_rollback_stays_until_it_is_lifted_and_then_it_is_0(operator: Operator) -> None:
    await operator.told("POST", "/split", {"percent": 25})
    told = await operator.told("POST", "/rollback", {"reason": "spend", "author": "ann"})
    assert (told["percent"], told["rolled_back"], told["reason"]) == (0, True, "spend")
    for body in ({"percent": 25}, {"percent": 0}):
        status, refused = await operator.ask("POST", "/split", body)
        assert status == 409
        assert "DELETE /admin/rollback" in refused["error"]
    assert await operator.told("GET", "/split") == told
    assert (await operator.told("POST", "/rollback"))["rolled_back"]
    lifted = await operator.told("DELETE", "/rollback", {"reason": "fixed"})
    assert (lifted["percent"], lifted["rolled_back"], lifted["reason"]) == (0, False, "fixed")
    assert [line["action"] for line in lifted["history"]] == [
        "lift", "rollback", "rollback", "split",
    ]  # fmt: skip
    assert (await operator.told("POST", "/split", {"percent": 5}))["percent"] == 5


async def test_lifting_what_is_not_there_is_409(operator: Operator) -> None:
    status, told = await operator.ask("DELETE", "/rollback")
    assert (status, told["error"]) == (
        409, "the migration is not rolled back: there is nothing to lift",
    )  # fmt: skip


async def test_a_rollback_with_a_wrong_field_is_400(operator: Operator) -> None:
    assert (await operator.ask("POST", "/rollback", {"resaon": "typo"}))[0] == 400
    assert not operator.room.steering.state.rolled_back


async def test_a_full_disk_refuses_a_percent_but_no_rollback(operator: Operator) -> None:
    operator.room.file.is_full = True
    status, told = await operator.ask("POST", "/split", {"percent": 25})
    assert (status, told["error"]) == (503, "the disk is full")
    assert (await operator.told("GET", "/split"))["percent"] == 100
    assert len(operator.room.audit) == 0
    told = await operator.told("POST", "/rollback", {"reason": "spend"})
    assert (told["rolled_back"], told["is_kept"]) == (True, False)
    assert (await operator.told("GET", "/split"))["is_kept"] is False
    operator.room.file.is_full = False
    await until(lambda: operator.room.steering.is_kept)
    assert (await operator.told("GET", "/split"))["is_kept"] is True


async def test_each_change_is_in_the_audit_list_with_before_and_after(operator: Operator) -> None:
    await operator.told("POST", "/split", {"percent": 25, "author": "ann", "reason": "a"})
    await operator.told("POST", "/rollback", {"author": "bob", "reason": "b"})
    await operator.ask("POST", "/split", {"percent": 30})
    await operator.told("DELETE", "/rollback", {"author": "cy", "reason": "c"})
    await operator.told("POST", "/shadow", {"rate": 0.5})
    records = [
        (one.action, one.author, one.reason, one.before, one.after)
        for one in operator.room.audit.latest()
    ]
    at_all, at_25 = {"percent": 100, "rolled_back": False}, {"percent": 25, "rolled_back": False}
    back, at_none = {"percent": 0, "rolled_back": True}, {"percent": 0, "rolled_back": False}
    assert records == [
        ("shadow", "127.0.0.1", "", {"rate": 0.25}, {"rate": 0.5}),
        ("lift", "cy", "c", back, at_none),
        ("rollback", "bob", "b", at_25, back),
        ("split", "ann", "a", at_all, at_25),
    ]


async def test_rollbacks_are_counted(operator: Operator) -> None:
    await operator.told("POST", "/rollback")
    registry = operator.room.telemetry.registry
    assert registry.get_sample_value("proxy_rollbacks_total", {"by": "operator"}) == 1


async def test_a_rollback_and_its_end_are_told_once_each_with_who_did_it(
    operator: Operator,
) -> None:
    await operator.told("POST", "/split", {"percent": 25, "author": "ann"})
    await operator.told("POST", "/rollback", {"author": "bob", "reason": "odd numbers"})
    await operator.told("POST", "/rollback", {"author": "cy", "reason": "me too"})
    await operator.told("DELETE", "/rollback", {"author": "dora", "reason": "mended"})
    assert [(one.event, one.percent, one.author, one.reason) for one in operator.room.told] == [
        ("rollback", 0, "bob", "odd numbers"),
        ("lift", 0, "dora", "mended"),
    ]


async def test_a_caller_who_hangs_up_has_changed_what_is_in_the_audit_list(
    operator: Operator,
) -> None:
    room = operator.room
    room.file.gate.clear()
    asked = asyncio.ensure_future(operator.ask("POST", "/split", {"percent": 25}))
    await until(lambda: room.file.waiting > 0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    room.file.gate.set()
    await until(lambda: room.steering.split.percent == 25)
    assert [record.action for record in room.audit.latest()] == ["split"]
