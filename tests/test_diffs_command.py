"""`dashboard-proxy diffs` against a room of /admin: pages to read, JSON, and exit codes."""

import asyncio
import json
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from fractions import Fraction

import pytest

from proxy.commands.diffs import parse_share
from proxy.errors import SettingsError
from tests.command_line import Ran, forget_variables, run
from tests.comparisons import AT, a_comparison, a_difference, a_query
from tests.diffs_room import DiffsRoom, diffs_room

Cli = Callable[..., Awaitable[Ran]]


@pytest.fixture
async def room() -> AsyncIterator[DiffsRoom]:
    async with diffs_room() as room:
        yield room


@pytest.fixture
def cli(room: DiffsRoom, monkeypatch: pytest.MonkeyPatch) -> Cli:
    forget_variables(monkeypatch)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: asyncio.to_thread(
        run, monkeypatch, "diffs", *map(str, words), "--url", room.url
    )


def note(room: DiffsRoom, *, matched: int, mismatched: int) -> None:
    for _ in range(matched):
        room.journal.note(a_comparison())
    for _ in range(mismatched):
        room.journal.note(a_comparison(a_difference("[spend]", error=0.0512), at=AT + 1))


async def test_a_page_to_read(cli: Cli, room: DiffsRoom) -> None:
    note(room, matched=3, mismatched=1)
    room.journal.note(a_comparison(a_difference("roas", is_deciding=False)))
    room.journal.noted_discard("moved")
    ran = await cli()
    assert ran.code == 0, ran.err
    assert "5 compared: 3 matched (60.00%), 1 ignored (20.00%), 1 mismatched (20.00%)" in ran.out
    assert "discarded: moved 1" in ran.out
    assert "[spend]*" in ran.out
    assert "5.12%" in ran.out
    assert "roas*" not in ran.out
    assert "2024-01-01 to 2024-01-31, campaign, depth 3" in ran.out


async def test_without_a_comparison_the_page_says_so(cli: Cli) -> None:
    ran = await cli()
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("0 compared")


async def test_json_is_one_object_with_what_was_asked_for(cli: Cli, room: DiffsRoom) -> None:
    note(room, matched=3, mismatched=2)
    ran = await cli("--json", "--limit", 1, "--field", "[spend]", "--level", "campaign")
    told = json.loads(ran.out)
    assert (ran.code, len(told["samples"]), len(told["fields"])) == (0, 1, 1)
    told = json.loads((await cli("--json", "--since", "2023-11-15")).out)
    assert told["totals"]["compared"] == 0


@pytest.mark.parametrize(
    ("limit", "code"), [("25%", 0), ("0.25", 0), ("24.9%", 1), ("0.249", 1), ("0", 1), ("100%", 0)]
)
async def test_more_mismatches_than_allowed_are_a_failed_check(
    cli: Cli, room: DiffsRoom, limit: str, code: int
) -> None:
    note(room, matched=3, mismatched=1)
    ran = await cli("--fail-over", limit)
    assert ran.code == code
    assert ("1 of 4 comparisons are mismatched" in ran.err) == bool(code)


async def test_no_evidence_is_a_failed_check(cli: Cli, room: DiffsRoom) -> None:
    room.journal.noted_discard("moved")
    ran = await cli("--fail-over", "100%", "--json")
    assert (ran.code, ran.err) == (1, "failed: nothing was compared\n")
    assert json.loads(ran.out)["totals"]["compared"] == 0


async def test_one_sample_is_shown_with_its_differences(cli: Cli, room: DiffsRoom) -> None:
    query = a_query("ad", "country")
    room.journal.note(a_comparison(a_difference(control="[a]", candidate=None), query=query))
    (sample,) = json.loads((await cli("--json")).out)["samples"]
    ran = await cli("--id", sample["id"])
    assert ran.code == 0, ran.err
    for text in (sample["id"], "mismatched", "ad by country", "data.*.spend*", "[a]", "5.00%"):
        assert text in ran.out
    whole = json.loads((await cli("--id", sample["id"], "--json")).out)
    assert whole["control"] == {"data": [{"spend": 100}]}


async def test_an_unknown_sample_is_refused(cli: Cli) -> None:
    ran = await cli("--id", "../status")
    assert ran.code == 3
    assert "404" in ran.err


async def test_the_contract_is_toml_as_it_stands(cli: Cli, room: DiffsRoom) -> None:
    room.journal.note(a_comparison(closer={"roas": (5, 2, 1), "x\ny = 1": (1, 0, 0)}))
    ran = await cli("--contract")
    assert ran.code == 0, ran.err
    assert tomllib.loads(ran.out) == tomllib.loads(room.toml)
    assert "roas" in ran.out
    assert "mean 5  ratio 2  equal 1  closer: mean" in ran.out
    told = json.loads((await cli("--contract", "--json")).out)
    assert told["toml"] == room.toml


async def test_a_contract_without_samples_says_what_to_do(cli: Cli) -> None:
    ran = await cli("--contract")
    assert (ran.code, tomllib.loads(ran.out)) == (0, {})
    assert "shadow rate" in ran.out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--fail-over", "x"], "--fail-over"),
        (["--fail-over", "2"], "--fail-over"),
        (["--fail-over", "101%"], "--fail-over"),
        (["--fail-over", "-1%"], "--fail-over"),
        (["--id", "x", "--contract"], "--id"),
        (["--id", "x", "--fail-over", "1%"], "--id"),
        (["--contract", "--field", "spend"], "--contract"),
        (["--level", "all"], "level"),
        (["--since", "yesterday"], "since"),
        (["--field", ""], "field"),
        (["--limit", "0"], "--limit"),
    ],
)
async def test_bad_usage_is_2_and_named(cli: Cli, words: list[str], named: str) -> None:
    ran = await cli(*words)
    assert ran.code == 2
    assert named in ran.err
    assert ran.out == ""


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("0.1%", Fraction(1, 1000)),
        ("0.001", Fraction(1, 1000)),
        ("0.7 %", Fraction(7, 1000)),
        (".5", Fraction(1, 2)),
        ("1", Fraction(1)),
        ("0", Fraction(0)),
    ],
)
def test_a_share_is_exact(text: str, share: Fraction) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["", "%", "nan", "1e-3", "1/2", "1%%", "١%", "1e999999999"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--fail-over"):
        parse_share(text)
