"""/admin/diffs and /admin/contract over HTTP."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from proxy.rollout.sample_codec import DAMAGED, TOO_LARGE
from tests.comparisons import AT, DAY_S, a_comparison, a_difference, a_query, a_result
from tests.diffs_room import DiffsRoom, diffs_room

LINE = {
    "field": "spend",
    "level": "campaign",
    "kind": "value",
    "count": 3,
    "decided": 3,
    "rows": 12,
    "rate": 0.75,
    "noise_rate": 0.5,
    "max_relative_error": 0.07,
}


@pytest.fixture
async def room() -> AsyncIterator[DiffsRoom]:
    async with diffs_room() as room:
        yield room


async def ask(room: DiffsRoom, path: str) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{room.url}/admin{path}") as response,
    ):
        return response.status, await response.json()


async def told(room: DiffsRoom, path: str = "/diffs") -> Any:
    status, body = await ask(room, path)
    assert status == 200, body
    return body


async def test_before_anything_was_compared_all_is_zero(room: DiffsRoom) -> None:
    body = await told(room)
    assert set(body["totals"].values()) == {0}
    names = {"compared", "matched", "ignored", "mismatched", "discarded", "dropped", "errors"}
    assert names <= set(body["totals"])
    assert [body[name] for name in ("fields", "samples", "by_level", "by_day")] == [[], [], [], []]
    contract = await told(room, "/contract")
    assert contract == {"samples": 0, "toml": "", "rate_modes": []}


async def test_totals_count_what_was_noted_a_moment_ago(room: DiffsRoom) -> None:
    room.journal.note(a_comparison(a_difference()))
    room.journal.note(a_comparison(a_difference("roas", is_deciding=False)))
    room.journal.note(a_comparison())
    room.journal.noted_discard("moved")
    room.journal.noted_error("timeout")
    room.journal.noted_error("timeout")
    room.journal.noted_drop()
    body = await told(room)
    assert body["totals"] == {
        "compared": 3,
        "matched": 1,
        "ignored": 1,
        "mismatched": 1,
        "discarded": 1,
        "dropped": 1,
        "errors": 2,
        "structural": 0,
        "noise": 0,
        "noise_mismatched": 0,
        "noise_structural": 0,
    }
    assert body["reasons"] == {"discarded": {"moved": 1}, "errors": {"timeout": 2}}


async def test_a_line_tells_how_often_a_difference_is_beside_the_legacys_own(
    room: DiffsRoom,
) -> None:
    noisy, quiet = a_result(a_difference()), a_result()
    for noise in (noisy, quiet, None):
        room.journal.note(a_comparison(a_difference(error=0.07, count=4), noise=noise))
    room.journal.note(a_comparison())
    (line,) = (await told(room))["fields"]
    assert isinstance(line.pop("excess_rate_lower"), float)
    assert line == LINE


async def test_what_is_in_excess_of_the_noise_stands_first(room: DiffsRoom) -> None:
    roas = a_difference("roas", is_deciding=False)
    for _ in range(200):
        # Our roas differs as often as the legacy's does from itself, our profit by our fault.
        differences = [a_difference("profit"), roas]
        room.journal.note(a_comparison(*differences, noise=a_result(roas)))
    for _ in range(50):
        room.journal.note(a_comparison(roas, noise=a_result(roas)))
    lines = (await told(room))["fields"]
    assert [(line["field"], line["decided"]) for line in lines] == [("profit", 200), ("roas", 0)]
    assert lines[0]["excess_rate_lower"] > 0.7
    assert lines[1]["excess_rate_lower"] <= 0


async def test_levels_breakdowns_and_days_are_told_apart(room: DiffsRoom) -> None:
    country = a_query("adset", "country")
    room.journal.note(a_comparison())
    room.journal.note(a_comparison(query=country))
    room.journal.note(a_comparison(a_difference(), query=country, at=AT + DAY_S))
    body = await told(room)
    rows = [(one["level"], one["breakdown"], one["compared"]) for one in body["by_level"]]
    assert rows == [("campaign", "all", 1), ("adset", "country", 2)]
    assert body["by_level"][1]["mismatched"] == 1
    days = [(one["day"], one["compared"], one["mismatched"]) for one in body["by_day"]]
    assert days == [("2023-11-15", 1, 1), ("2023-11-14", 2, 0)]


async def test_samples_stand_newest_first_and_lead_to_the_bodies(room: DiffsRoom) -> None:
    difference = a_difference(control=100, candidate=None, error=None, kind="missing_key")
    room.journal.note(a_comparison())
    room.journal.note(
        a_comparison(
            difference,
            at=AT + 1,
            side="optimized",
            query=a_query("ad", "device"),
            control={"ours": [1]},
            candidate={"theirs": [2]},
        )
    )
    newest, oldest = (await told(room))["samples"]
    assert newest == {
        "id": newest["id"],
        "at": "2023-11-14T22:13:21.000Z",
        "query": a_query("ad", "device").as_parameters(),
        "outcome": "mismatched",
        "control_side": "optimized",
        "differences": 1,
    }
    assert (oldest["outcome"], oldest["differences"]) == ("matched", 0)
    one = await told(room, f"/diffs/{newest['id']}")
    assert (one["control"], one["candidate"]) == ({"ours": [1]}, {"theirs": [2]})
    assert (one["control_side"], one["note"]) == ("optimized", "")
    assert one["query"] == newest["query"]
    assert one["differences"] == [
        {
            "path": "data.*.spend",
            "field": "spend",
            "level": "campaign",
            "kind": "missing_key",
            "control": 100,
            "candidate": None,
            "relative_error": None,
            "count": 1,
            "is_deciding": True,
        }
    ]


async def test_field_and_level_narrow_lines_and_samples_but_not_totals(room: DiffsRoom) -> None:
    room.journal.note(a_comparison(a_difference(), a_difference("profit", level="ad")))
    room.journal.note(a_comparison(a_difference("profit")))
    room.journal.note(a_comparison())

    async def found(parameters: str) -> tuple[set[tuple[str, str]], int]:
        body = await told(room, f"/diffs?{parameters}")
        assert body["totals"]["compared"] == 3
        return {(one["field"], one["level"]) for one in body["fields"]}, len(body["samples"])

    assert await found("field=profit") == ({("profit", "ad"), ("profit", "campaign")}, 2)
    assert await found("level=ad") == ({("profit", "ad")}, 1)
    assert await found("field=spend&level=ad") == (set(), 0)
    assert await found("field=spend&level=campaign") == ({("spend", "campaign")}, 1)
    assert await found("limit=2") == (
        {("profit", "ad"), ("profit", "campaign"), ("spend", "campaign")},
        2,
    )


async def test_since_leaves_out_the_days_before(room: DiffsRoom) -> None:
    room.journal.note(a_comparison(a_difference()))
    room.journal.note(a_comparison(at=AT + DAY_S))
    body = await told(room, "/diffs?since=2023-11-15")
    assert (body["since"], body["totals"]["compared"]) == ("2023-11-15", 1)
    assert body["fields"] == []
    assert [one["outcome"] for one in body["samples"]] == ["matched"]
    assert len(body["by_day"]) == 1


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("field=", "field"),
        (f"field={'x' * 101}", "field"),
        ("level=all", "level"),
        ("since=2023-02-30", "since"),
        ("since=20230101", "since"),
        ("since=2023-01-01T00:00:00", "since"),
        ("since=yesterday", "since"),
        ("day=2023-01-01", "day"),
    ],
)
async def test_bad_parameters_are_400_and_named(
    room: DiffsRoom, parameters: str, named: str
) -> None:
    status, body = await ask(room, f"/diffs?{parameters}")
    assert (status, body["success"]) == (400, False)
    assert named in body["error"]


async def test_an_unknown_sample_is_404(room: DiffsRoom) -> None:
    status, body = await ask(room, "/diffs/nobody")
    assert (status, body["success"]) == (404, False)


async def test_bodies_that_were_not_kept_are_null_and_the_note_says_why(room: DiffsRoom) -> None:
    room.journal.note(a_comparison(a_difference(), control=b'"' + b"x" * 2**23 + b'"'))
    (sample,) = (await told(room))["samples"]
    one = await told(room, f"/diffs/{sample['id']}")
    assert (one["control"], one["candidate"], one["note"]) == (None, None, TOO_LARGE)
    assert len(one["differences"]) == 1


async def test_damaged_bodies_are_null_and_the_note_says_so(room: DiffsRoom) -> None:
    room.journal.note(a_comparison())
    (head,) = (await told(room))["samples"]
    kept = room.ledger.kept[head["id"]]
    for frame in (b"rubbish", kept.control[:-3]):
        room.ledger.kept[head["id"]] = replace(kept, control=frame)
        one = await told(room, f"/diffs/{head['id']}")
        assert (one["control"], one["candidate"], one["note"]) == (None, None, DAMAGED)
        assert (await told(room, "/contract"))["toml"] == ""


async def test_a_ledger_that_cannot_be_read_is_503(room: DiffsRoom) -> None:
    room.ledger.is_down = True
    for path in ("/diffs", "/diffs/x", "/contract"):
        status, body = await ask(room, path)
        assert (status, body["success"]) == (503, False)
        assert "the ledger is down" in body["error"]


async def test_what_cannot_be_written_now_does_not_hide_what_is_there(room: DiffsRoom) -> None:
    room.journal.note(a_comparison())
    await room.journal.flush()
    room.ledger.is_lossy = True
    room.journal.noted_discard("moved")
    assert (await told(room))["totals"]["compared"] == 1


async def test_the_contract_is_made_of_the_legacys_and_our_documents(room: DiffsRoom) -> None:
    room.journal.note(a_comparison(side="legacy", control={"a": 1}, candidate={"b": 1}))
    room.journal.note(a_comparison(side="optimized", control={"b": 2}, candidate={"a": 2}))
    body = await told(room, "/contract")
    assert (body["samples"], body["toml"]) == (2, room.toml)
    assert sorted(room.proposed, key=str) == [({"a": 1}, {"b": 1}), ({"a": 2}, {"b": 2})]


async def test_the_contract_is_made_of_a_bounded_part_of_the_samples(room: DiffsRoom) -> None:
    for number in range(30):
        room.journal.note(a_comparison(at=AT + number))
        await room.journal.flush()
    assert (await told(room, "/contract"))["samples"] == len(room.proposed) == 20


async def test_rate_modes_are_told_by_the_rows_they_came_closer_in(room: DiffsRoom) -> None:
    room.journal.note(a_comparison(closer={"roas": (5, 2, 1), "cpc": (0, 3, 0)}))
    room.journal.note(a_comparison(closer={"roas": (5, 0, 0), "ctr": (1, 1, 0)}))
    assert (await told(room, "/contract"))["rate_modes"] == [
        {"field": "cpc", "mean": 0, "ratio": 3, "equal": 0, "closer": "ratio"},
        {"field": "ctr", "mean": 1, "ratio": 1, "equal": 0, "closer": "equal"},
        {"field": "roas", "mean": 10, "ratio": 2, "equal": 1, "closer": "mean"},
    ]
