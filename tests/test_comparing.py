"""Two bodies in the thread: what is compared with what, and what cannot be."""

import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from threading import current_thread
from typing import Literal

import pytest

from proxy.query import Query
from proxy.rollout.comparing import Bodies, Comparing
from proxy.rollout.result import Result
from proxy.rollout.uncompared import DiscardedError, SideFailedError, UncomparedError
from tests.shadowing import by_data, by_number

QUERY = Query("analytics", date(2024, 1, 1), date(2024, 1, 1), "campaign", depth=1)


def body(*numbers: int) -> bytes:
    rows = ",".join(f'{{"number":{number}}}' for number in numbers)
    return f'{{"success":true,"data":[{rows}]}}'.encode()


OURS = Bodies(QUERY, "optimized", [body(1)], "", body(1))
THEIRS = Bodies(QUERY, "legacy", [body(1)], "", body(1))


@pytest.fixture
def spent() -> list[float]:
    return []


@pytest.fixture
async def comparing(spent: list[float]) -> AsyncIterator[Comparing]:
    async with Comparing(by_data, by_number, spent=spent.append) as comparing:
        yield comparing


async def test_bodies_are_compared_whatever_their_coding(comparing: Comparing) -> None:
    for bodies in (OURS, THEIRS):
        judged = await comparing.judge(bodies)
        assert (judged.control, judged.result.outcome) == (body(1), "matched")
        assert (judged.noise, judged.closer) == (None, None)
    packed = zlib.compress(body(1))
    judged = await comparing.judge(
        replace(THEIRS, chunks=[packed[:3], packed[3:]], coding="deflate", candidate=body(2))
    )
    assert (judged.control, judged.result.outcome) == (body(1), "mismatched")


async def test_the_control_comes_first(spent: list[float]) -> None:
    pairs = []

    def compare(control: object, candidate: object, *, query: Query) -> Result:
        pairs.append((control, candidate, query, current_thread().name))
        return Result("matched")

    async with Comparing(compare, spent=spent.append) as comparing:
        await comparing.judge(replace(OURS, candidate=body(2)))
        await comparing.judge(replace(THEIRS, candidate=body(2), again=body(3)))
    numbers = [
        tuple(side["data"][0]["number"] for side in pair[:2])  # type: ignore[index]
        for pair in pairs
    ]
    assert numbers == [(1, 2), (1, 2), (1, 3)]
    assert {pair[3] for pair in pairs} == {"shadow_0"}
    assert all(pair[2] is QUERY for pair in pairs)


@pytest.mark.parametrize(
    ("bodies", "error", "word"),
    [
        (replace(THEIRS, chunks=[b"{"]), SideFailedError, "malformed"),
        (replace(THEIRS, chunks=[b"[]"]), SideFailedError, "legacy_error"),
        (replace(THEIRS, chunks=[b'{"success":false}']), SideFailedError, "legacy_error"),
        (replace(THEIRS, chunks=[b'{"success":true}']), SideFailedError, "malformed"),
        (replace(THEIRS, chunks=[body()]), SideFailedError, "legacy_empty"),
        (replace(OURS, candidate=body()), SideFailedError, "legacy_empty"),
        (replace(THEIRS, coding="br"), DiscardedError, "unreadable"),
        (replace(THEIRS, coding="gzip"), DiscardedError, "unreadable"),
    ],
)
async def test_what_is_no_answer_is_not_compared(
    comparing: Comparing,
    spent: list[float],
    bodies: Bodies,
    error: type[UncomparedError],
    word: str,
) -> None:
    with pytest.raises(error, match=f"^{word}$"):
        await comparing.judge(bodies)
    assert len(spent) == 1


async def test_two_sides_without_rows_agree(comparing: Comparing) -> None:
    judged = await comparing.judge(replace(THEIRS, chunks=[body()], candidate=body()))
    assert judged.result.outcome == "matched"


@pytest.mark.parametrize("again", [b"{", body()])
async def test_a_second_answer_that_is_none_tells_no_noise(
    comparing: Comparing, again: bytes
) -> None:
    assert (await comparing.judge(replace(OURS, again=again))).noise is None


async def test_the_legacy_is_held_against_itself(comparing: Comparing) -> None:
    judged = await comparing.judge(replace(OURS, candidate=body(2), again=body(2)))
    assert judged.result.outcome == "mismatched"
    assert judged.noise == Result("matched", rows=1)


@pytest.mark.parametrize(("mode", "nearer"), [("mean", (1, 0, 0)), ("ratio", (0, 1, 0))])
async def test_the_modes_are_told_apart(
    spent: list[float], mode: Literal["mean", "ratio"], nearer: tuple[int, int, int]
) -> None:
    # Ours, in the configured mode, has 1 as the legacy does; the other mode has 5.
    async with Comparing(by_data, by_number, rate_mode=mode, spent=spent.append) as comparing:
        for bodies in (OURS, THEIRS):
            judged = await comparing.judge(replace(bodies, other_mode=body(5)))
            assert judged.closer == {"rate": nearer}


async def test_processor_time_is_told(comparing: Comparing, spent: list[float]) -> None:
    await comparing.judge(replace(OURS, candidate=body(*range(20_000))))
    assert len(spent) == 1
    assert 0 < spent[0] < 5


async def test_nothing_is_compared_once_it_is_closed(spent: list[float]) -> None:
    async with Comparing(by_data, spent=spent.append) as comparing:
        pass
    with pytest.raises(DiscardedError, match="closing"):
        await comparing.judge(OURS)
