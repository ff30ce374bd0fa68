"""The read path: the order of its steps, and what it answers when one of them fails."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date

import pytest

from proxy.answer import Answer
from proxy.background import Background
from proxy.cache.entry import Entry
from proxy.document import WARNINGS
from proxy.errors import BackendError, BackendTimeout, BackendUnavailable
from proxy.query import Key, Query
from tests.read_path import ReadPath, labelled, make_read_path, number_in, sentences_in
from tests.scripted_looks import STAMP
from tests.waiting import until

LATER = "2024-01-02 07:00:00"
QUERY = Query("analytics", date(2024, 1, 1), date(2024, 1, 1), "campaign", depth=1)
LOCKED = BackendUnavailable("locked", reason="locked")
GONE = BackendUnavailable("gone", reason="no_database")
BROKEN = BackendError("no such column", reason="sql_error")
SLOW = BackendTimeout("too slow", reason="sql_timeout")


@pytest.fixture
async def path() -> AsyncIterator[ReadPath]:
    async with Background() as background:
        yield make_read_path(background)


@pytest.fixture
async def backed() -> AsyncIterator[ReadPath]:
    """With a legacy behind it."""
    async with Background() as background:
        yield make_read_path(background, has_legacy=True)


def number_of(entry: Entry) -> int:
    return number_in(Answer.held(Key("any"), entry))


def asking(path: ReadPath) -> "asyncio.Task[Answer]":
    return asyncio.create_task(path.ask(QUERY))


async def flying(path: ReadPath) -> None:
    """Only what runs for ever is left."""
    await until(lambda: "load" not in repr(path.background))


async def test_a_miss_reads_the_watermark_then_the_store_then_the_data(path: ReadPath) -> None:
    answer = await path.ask(QUERY)
    assert path.taken() == ["changes", "states", "get", "get shared", "fetch", "put"]
    assert (answer.source, answer.result, answer.is_stored) == ("optimized", "miss", True)
    assert (number_in(answer), answer.watermark, answer.cost_ms) == (1, STAMP, 3.0)
    assert answer.stored_at == path.clock.now()


async def test_a_hit_takes_no_step_at_all(path: ReadPath) -> None:
    first = await path.ask(QUERY)
    path.taken()
    again = await path.ask(QUERY)
    assert path.taken() == []
    assert (again.result, again.detail, again.payload) == ("hit", "", first.payload)


async def test_a_commit_that_leaves_its_dates_alone_leaves_it_a_hit(path: ReadPath) -> None:
    await path.ask(QUERY)
    path.looks.write(2, day="2024-02-01")
    path.taken()
    assert (await path.ask(QUERY)).result == "hit"
    assert path.taken() == ["changes", "get"]
    assert (await path.ask(QUERY)).result == "hit"
    assert path.taken() == []


async def test_a_commit_makes_it_stale_and_it_is_read_again(path: ReadPath) -> None:
    await path.ask(QUERY)
    path.looks.write(2, stamp=LATER)
    path.taken()
    answer = await path.ask(QUERY)
    assert path.taken() == ["changes", "states", "get", "get shared", "fetch", "put"]
    assert (answer.result, answer.is_stored, number_in(answer)) == ("stale", True, 2)
    assert (await path.ask(QUERY)).result == "hit"


async def test_who_was_at_redis_while_a_load_landed_starts_none_of_its_own(path: ReadPath) -> None:
    path.gates.shut("get shared")
    late = asking(path)
    await until(lambda: path.gates.waiting["get shared"] == 1)
    gate = path.gates.hold_back("get shared")
    await path.ask(QUERY)
    gate.set()
    assert (await late).result == "hit"
    assert path.taken().count("fetch") == 1


async def test_those_who_ask_during_a_load_share_it(path: ReadPath) -> None:
    path.gates.shut("fetch")
    callers = [asking(path) for _ in range(5)]
    await until(lambda: path.gates.waiting["fetch"] == 1 and path.gates.steps.count("get") == 5)
    path.gates.open("fetch")
    answers = await asyncio.gather(*callers)
    assert path.gates.steps.count("fetch") == 1
    assert [answer.is_collapsed for answer in answers] == [False, True, True, True, True]
    assert all(answer.payload is answers[0].payload for answer in answers)


async def test_who_saw_a_commit_is_never_given_a_load_from_before_it(path: ReadPath) -> None:
    path.gates.shut("fetch")
    early = asking(path)
    await until(lambda: path.gates.waiting["fetch"] == 1)
    path.looks.write(2)
    late = asking(path)
    await until(lambda: path.gates.waiting["fetch"] == 2)
    path.gates.open("fetch")
    assert number_in(await early) == 1
    answer = await late
    assert (number_in(answer), answer.is_collapsed) == (2, False)


async def test_a_slow_load_from_before_a_commit_does_not_become_a_hit(path: ReadPath) -> None:
    path.gates.shut("fetch")
    early = asking(path)
    await until(lambda: path.gates.waiting["fetch"] == 1)
    slow = path.gates.hold_back("fetch")
    path.looks.write(2)
    assert number_in(await path.ask(QUERY)) == 2
    early.cancel()
    slow.set()
    await flying(path)
    # Its entry has taken the place of the later one, and nobody waits to say so.
    assert [number_of(entry) for entry in path.store.memory.values()] == [1]
    again = await path.ask(QUERY)
    assert (again.result, number_in(again)) == ("stale", 2)


async def test_a_commit_between_label_and_data_is_answered_and_read_again(path: ReadPath) -> None:
    path.gates.shut("get")
    caller = asking(path)
    await until(lambda: path.gates.waiting["get"] == 1)
    path.looks.write(2)
    path.gates.open("get")
    assert number_in(await caller) == 2
    # Its data are newer than its label: true, but not known to be.
    again = await path.ask(QUERY)
    assert (again.result, number_in(again)) == ("stale", 2)


@pytest.mark.parametrize(
    "change", [{"rows_read": {("daily", "campaign"): 9}}, {"computed_at": LATER}]
)
async def test_a_fill_that_disagrees_with_its_label_is_answered_but_not_kept(
    path: ReadPath, change: dict[str, object]
) -> None:
    path.backend.change = lambda fetched: replace(fetched, **change)  # type: ignore[arg-type]
    answer = await path.ask(QUERY)
    assert (answer.is_stored, answer.detail, number_in(answer)) == (False, "unsettled", 1)
    assert answer.stored_at is None
    assert path.store.memory == {}
    assert (await path.ask(QUERY)).result == "miss"


async def test_an_entry_of_redis_is_used_when_memory_has_none(path: ReadPath) -> None:
    entry = await path.fill(QUERY)
    path.store.shared = dict(path.store.memory)
    path.store.memory.clear()
    answer = await path.ask(QUERY)
    assert (answer.result, answer.detail) == ("hit", "redis")
    assert answer.payload == entry.payload


async def test_an_entry_of_redis_is_used_when_memorys_is_stale(path: ReadPath) -> None:
    old = await path.fill(QUERY)
    path.looks.write(2)
    fresh = await path.fill(QUERY)
    [key] = path.store.memory
    path.store.memory[key], path.store.shared[key] = old, fresh
    path.taken()
    answer = await path.ask(QUERY)
    assert (answer.result, answer.detail, number_in(answer)) == ("hit", "redis", 2)
    assert "fetch" not in path.taken()


async def test_of_two_stale_entries_the_later_is_the_last_resort(path: ReadPath) -> None:
    newer = await path.fill(QUERY)
    [key] = path.store.memory
    older = replace(labelled(newer, "w0"), stored_at=newer.stored_at - 60)
    path.store.shared[key] = replace(older, payload=older.payload.of(b'{"data":[],"m":{"w":[]}}'))
    path.looks.write(2)
    path.backend.failure = BROKEN
    answer = await path.ask(QUERY)
    assert (answer.source, number_in(answer)) == ("stale", 1)


@pytest.mark.parametrize("step", ["changes", "states", "get", "get shared", "fetch", "put"])
async def test_a_leader_cancelled_at_any_step_leaves_its_followers_undisturbed(
    path: ReadPath, step: str
) -> None:
    path.gates.shut(step)
    leader = asking(path)
    await until(lambda: path.gates.waiting[step] == 1)
    follower = asking(path)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    path.gates.open(step)
    answer = await follower
    assert (number_in(answer), path.gates.steps.count("fetch")) == (1, 1)
    await flying(path)
    assert (await path.ask(QUERY)).result == "hit"


@pytest.mark.parametrize("step", ["changes", "states", "get", "get shared", "fetch", "put"])
async def test_a_follower_cancelled_at_any_step_leaves_its_leader_undisturbed(
    path: ReadPath, step: str
) -> None:
    path.gates.shut(step)
    leader = asking(path)
    await until(lambda: path.gates.waiting[step] == 1)
    follower = asking(path)
    # It gets as far as it can: to the gate, or to the flight that waits there.
    await until(
        lambda: (
            path.gates.waiting[step] == 2
            or "2" in repr(path.read_through._flights)
            or step == "changes"
        )
    )
    follower.cancel()
    with pytest.raises(asyncio.CancelledError):
        await follower
    path.gates.open(step)
    answer = await leader
    assert (number_in(answer), answer.is_stored) == (1, True)
    await flying(path)


async def test_a_load_that_everybody_has_left_is_still_kept(path: ReadPath) -> None:
    path.gates.shut("fetch")
    callers = [asking(path), asking(path)]
    await until(lambda: path.gates.waiting["fetch"] == 1 and path.gates.steps.count("get") == 2)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    path.gates.open("fetch")
    await flying(path)
    assert (await path.ask(QUERY)).result == "hit"


async def test_a_failing_load_is_shared_and_then_forgotten(path: ReadPath) -> None:
    path.gates.shut("fetch")
    path.backend.failure = BROKEN
    callers = [asking(path) for _ in range(3)]
    await until(lambda: path.gates.waiting["fetch"] == 1 and path.gates.steps.count("get") == 3)
    path.gates.open("fetch")
    errors = await asyncio.gather(*callers, return_exceptions=True)
    assert errors == [BROKEN] * 3
    assert path.gates.steps.count("fetch") == 1
    path.backend.failure = None
    assert (await path.ask(QUERY)).result == "miss"


async def test_without_any_source_the_error_of_the_tables_is_raised(path: ReadPath) -> None:
    path.backend.failure = SLOW
    with pytest.raises(BackendTimeout) as caught:
        await path.ask(QUERY)
    assert caught.value.reason == "sql_timeout"


@pytest.mark.parametrize("step", ["counter", "changes"])
async def test_an_entry_fresh_at_the_last_look_is_served_unverified(
    path: ReadPath, step: str
) -> None:
    await path.ask(QUERY)
    path.looks.checkpoint()
    path.looks.failures[step] = GONE
    path.taken()
    answer = await path.ask(QUERY)
    assert "fetch" not in path.taken()
    assert (answer.source, answer.warnings) == ("stale", ("unverified",))
    assert sentences_in(answer) == [WARNINGS["unverified"]]
    assert (number_in(answer), answer.is_stored) == (1, False)
    path.looks.failures.clear()
    settled = await path.ask(QUERY)
    assert (settled.source, settled.result, settled.warnings) == ("optimized", "hit", ())


async def test_an_unverified_answer_has_an_etag_of_its_own(path: ReadPath) -> None:
    before = await path.ask(QUERY)
    path.looks.failures["counter"] = GONE
    answer = await path.ask(QUERY)
    assert answer.payload.etag != before.payload.etag


@pytest.mark.parametrize("step", ["counter", "changes"])
async def test_while_the_database_is_locked_an_entry_is_a_plain_hit(
    path: ReadPath, step: str
) -> None:
    await path.ask(QUERY)
    path.looks.checkpoint()
    path.looks.failures[step] = LOCKED
    answer = await path.ask(QUERY)
    assert (answer.source, answer.result, answer.warnings) == ("optimized", "hit", ())


async def test_what_is_read_while_nothing_can_be_looked_at_is_not_kept(path: ReadPath) -> None:
    path.looks.failures["counter"] = GONE
    answer = await path.ask(QUERY)
    assert (answer.result, answer.detail, answer.is_stored) == ("miss", "unverified", False)
    assert path.store.memory == {}


async def test_an_entry_known_to_be_stale_is_not_served_as_unverified(path: ReadPath) -> None:
    await path.ask(QUERY)
    path.looks.write(2)
    await path.watermarks.current(QUERY)
    path.looks.failures["counter"] = GONE
    path.backend.failure = GONE
    answer = await path.ask(QUERY)
    assert (answer.source, answer.result) == ("stale", "stale")
    assert (answer.warnings, answer.detail) == (("stale",), "no_database")
    assert sentences_in(answer) == [WARNINGS["stale"]]


@pytest.mark.parametrize("error", [BROKEN, SLOW, GONE])
async def test_the_legacy_answers_what_the_tables_cannot(
    backed: ReadPath, error: BackendError
) -> None:
    backed.backend.failure = error
    answer = await backed.ask(QUERY)
    assert (answer.source, answer.result, answer.detail) == ("legacy", "miss", error.reason)
    assert (number_in(answer), answer.is_stored) == (99, False)
    assert backed.store.memory == {}
    assert backed.fallbacks(error.reason, "legacy") == 1


async def test_the_legacy_is_asked_again_each_time(backed: ReadPath) -> None:
    backed.backend.failure = BROKEN
    for _ in range(2):
        await backed.ask(QUERY)
    assert backed.gates.steps.count("legacy") == 2


async def test_the_legacy_comes_before_an_entry_that_is_stale(backed: ReadPath) -> None:
    await backed.ask(QUERY)
    backed.looks.write(2)
    backed.backend.failure = BROKEN
    answer = await backed.ask(QUERY)
    assert (answer.source, answer.result, number_in(answer)) == ("legacy", "stale", 99)


async def test_when_the_legacy_fails_too_the_last_entry_is_marked_stale(backed: ReadPath) -> None:
    await backed.ask(QUERY)
    backed.looks.write(2)
    backed.backend.failure = BROKEN
    backed.legacy.failure = BackendTimeout("slow", reason="legacy_timeout")
    answer = await backed.ask(QUERY)
    assert (answer.source, answer.result, answer.detail) == ("stale", "stale", "legacy_timeout")
    assert (number_in(answer), answer.warnings) == (1, ("stale",))
    assert sentences_in(answer) == [WARNINGS["stale"]]
    assert not answer.is_stored
    assert backed.fallbacks("sql_error", "none") == 1
    assert backed.fallbacks("legacy_timeout", "stale") == 1


async def test_the_last_entry_says_more_than_an_empty_answer_of_the_legacy(
    backed: ReadPath,
) -> None:
    await backed.ask(QUERY)
    backed.looks.write(2)
    backed.backend.failure = BROKEN
    backed.legacy.is_empty = True
    answer = await backed.ask(QUERY)
    assert (answer.source, number_in(answer)) == ("stale", 1)


async def test_an_empty_answer_of_the_legacy_is_given_where_there_is_no_other(
    backed: ReadPath,
) -> None:
    backed.backend.failure = BROKEN
    backed.legacy.is_empty = True
    answer = await backed.ask(QUERY)
    assert (answer.source, answer.warnings, answer.is_stored) == ("legacy", ("no_rows",), False)


async def test_when_nobody_can_answer_the_error_of_the_legacy_is_raised(backed: ReadPath) -> None:
    backed.backend.failure = BROKEN
    backed.legacy.failure = BackendTimeout("slow", reason="legacy_timeout")
    with pytest.raises(BackendTimeout) as caught:
        await backed.ask(QUERY)
    assert caught.value.reason == "legacy_timeout"
    assert caught.value.__cause__ is BROKEN


async def test_a_range_without_rows_is_the_legacys_to_answer(backed: ReadPath) -> None:
    backed.backend.change = lambda fetched: replace(fetched, shortfall="no_rows")
    answer = await backed.ask(QUERY)
    assert (answer.source, answer.detail, answer.is_stored) == ("legacy", "no_rows", False)


async def test_a_range_without_rows_whose_legacy_fails_has_no_answer(backed: ReadPath) -> None:
    backed.backend.change = lambda fetched: replace(fetched, shortfall="no_rows")
    backed.legacy.failure = BackendUnavailable("gone", reason="unreachable")
    with pytest.raises(BackendUnavailable) as caught:
        await backed.ask(QUERY)
    assert caught.value.reason == "unreachable"


async def test_a_range_without_rows_is_kept_where_there_is_no_legacy(path: ReadPath) -> None:
    path.backend.change = lambda fetched: replace(
        fetched, shortfall="no_rows", warnings=("no_rows",)
    )
    answer = await path.ask(QUERY)
    assert (answer.source, answer.warnings, answer.is_stored) == ("optimized", ("no_rows",), True)


@pytest.mark.parametrize("is_empty", [True, False])
async def test_rows_without_their_breakdown_are_better_than_no_answer(
    backed: ReadPath, is_empty: bool
) -> None:
    backed.backend.change = lambda fetched: replace(
        fetched, shortfall="no_breakdown", warnings=("no_breakdown",)
    )
    assert (await backed.ask(QUERY)).source == "legacy"
    backed.legacy.is_empty = is_empty
    if not is_empty:
        backed.legacy.failure = BackendUnavailable("gone", reason="unreachable")
    answer = await backed.ask(QUERY)
    assert (answer.source, answer.detail, number_in(answer)) == ("optimized", "no_breakdown", 1)
    assert (answer.warnings, answer.is_stored) == (("no_breakdown",), False)
    assert backed.store.memory == {}


async def test_a_caller_cancelled_while_the_legacy_works_leaves_the_others_undisturbed(
    backed: ReadPath,
) -> None:
    backed.backend.failure = BROKEN
    backed.gates.shut("legacy")
    leaver, stayer = asking(backed), asking(backed)
    await until(
        lambda: backed.gates.waiting["legacy"] == 1 and backed.gates.steps.count("get") == 2
    )
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    backed.gates.open("legacy")
    assert number_in(await stayer) == 99
    assert backed.gates.steps.count("legacy") == 1


async def test_who_waits_when_the_proxy_leaves_gets_an_error_or_the_last_entry() -> None:
    async with Background(drain_s=0) as background:
        path = make_read_path(background)
        path.gates.shut("fetch")
        first = asking(path)
        await until(lambda: path.gates.waiting["fetch"] == 1)
    with pytest.raises(BackendUnavailable) as caught:
        await first
    assert caught.value.reason == "closing"


async def test_a_load_that_a_purge_overtakes_is_answered_but_not_kept(path: ReadPath) -> None:
    path.gates.shut("fetch")
    asked = asking(path)
    await until(lambda: path.gates.waiting["fetch"] == 1)
    path.read_through.keep_no_load_under_way()
    path.gates.open("fetch")
    answer = await asked
    assert (answer.source, answer.is_stored, answer.detail) == ("optimized", False, "purged")
    assert path.store.memory == {}
    assert (await path.ask(QUERY)).is_stored


async def test_who_asks_after_a_purge_does_not_join_a_load_from_before_it(path: ReadPath) -> None:
    path.gates.shut("fetch")
    before = asking(path)
    await until(lambda: path.gates.waiting["fetch"] == 1)
    path.read_through.keep_no_load_under_way()
    after = asking(path)
    await until(lambda: path.gates.waiting["fetch"] == 2)
    path.gates.open("fetch")
    assert not (await before).is_stored
    assert (await after).is_stored


async def test_callers_that_wait_for_a_load_are_counted_and_a_replay_is_not(
    path: ReadPath,
) -> None:
    path.gates.shut("fetch")
    replayed = asyncio.create_task(path.read_through.answer(QUERY, is_live=False))
    await until(lambda: path.gates.waiting["fetch"] == 1)
    assert len(path.read_through.live) == 0
    live = asking(path)
    await until(lambda: len(path.read_through.live) == 1)
    live.cancel()
    with pytest.raises(asyncio.CancelledError):
        await live
    assert len(path.read_through.live) == 0
    path.gates.open("fetch")
    assert (await replayed).is_stored


async def test_a_rebuild_with_only_an_older_entry_left_says_both(backed: ReadPath) -> None:
    await backed.ask(QUERY)
    backed.looks.write(2)
    # The look still believes ten rows; only the fill finds out that they are gone.
    await backed.watermarks.current(QUERY)
    backed.looks.delete(10)
    backed.legacy.failure = GONE
    answer = await backed.ask(QUERY)
    assert (answer.source, answer.warnings) == ("stale", ("stale", "rebuilding"))
