"""Following the pipeline: who waits for which look, what is kept, what a count finds."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import date

import pytest

from proxy.background import Background
from proxy.errors import BackendError, BackendUnavailable
from proxy.looks import Reading, TableWord
from proxy.query import Query
from proxy.recount import Recount
from proxy.telemetry import Telemetry
from proxy.watermarks import Watermarks
from tests.clocks import HandClock
from tests.gates import Gates
from tests.scripted_looks import DAY, STAMP, ScriptedLooks
from tests.waiting import until

LATER = "2024-01-02 07:00:00"
QUERY = Query("analytics", date(2024, 1, 1), date(2024, 1, 1), "campaign", depth=1)
OTHER = Query("analytics", date(2024, 1, 2), date(2024, 1, 2), "campaign", depth=1)
LOCKED = BackendUnavailable("locked", reason="locked")
GONE = BackendUnavailable("gone", reason="no_database")


@dataclass
class House:
    looks: ScriptedLooks
    gates: Gates
    background: Background
    telemetry: Telemetry
    clock: HandClock
    watermarks: Watermarks

    def ask(self, query: Query = QUERY) -> "asyncio.Task[Reading | None]":
        return asyncio.create_task(self.watermarks.current(query))

    async def token(self, query: Query = QUERY) -> str:
        reading = await self.watermarks.current(query)
        assert reading is not None
        return reading.watermark.token

    def took(self, step: str) -> int:
        return self.gates.steps.count(step)


def a_house(background: Background, *, is_strict: bool = True, recount_s: float = 0) -> House:
    gates, telemetry, clock = Gates(), Telemetry(), HandClock()
    looks = ScriptedLooks(gates)
    watermarks = Watermarks(
        looks,
        background,
        telemetry,
        clock,
        is_strict=is_strict,
        poll_s=0,
        recount_s=recount_s,
    )
    return House(looks, gates, background, telemetry, clock, watermarks)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with Background() as background:
        yield a_house(background)


async def at_rest(house: House) -> None:
    """No look and no recount under way."""
    await until(lambda: len(house.background) == 0)


async def test_the_first_question_takes_a_look_then_reads_its_dates(house: House) -> None:
    reading = await house.watermarks.current(QUERY)
    looks = [step for step in house.gates.steps if not step.startswith("count")]
    assert looks == ["changes", "states"]
    assert reading is not None
    assert (reading.watermark.computed_at, reading.rows) == (STAMP, {"campaign": 10})


async def test_with_an_unmoved_counter_nothing_is_read_again(house: House) -> None:
    first = await house.token()
    await at_rest(house)
    steps = list(house.gates.steps)
    assert await house.token() == first
    assert house.gates.steps == steps


async def test_a_question_after_a_commit_stands_on_it(house: House) -> None:
    before = await house.token()
    house.looks.write(2)
    assert await house.token() != before


async def test_a_commit_during_a_look_makes_those_who_come_after_it_wait_for_another(
    house: House,
) -> None:
    house.gates.shut("changes")
    early = house.ask()
    await until(lambda: house.gates.waiting["changes"] == 1)
    house.looks.write(2)
    late = house.ask()
    house.gates.open("changes")
    await early
    got = await late
    assert house.took("changes") == 2
    assert got is not None
    assert got.watermark.token == await house.token()


async def test_a_caller_without_a_commit_of_its_own_shares_the_look_in_flight(
    house: House,
) -> None:
    house.gates.shut("changes")
    callers = [house.ask() for _ in range(5)]
    await until(lambda: house.gates.waiting["changes"] == 1)
    late = house.ask()
    await asyncio.sleep(0)
    house.gates.open("changes")
    readings = await asyncio.gather(*callers, late)
    assert house.took("changes") == 1
    assert len({reading.watermark for reading in readings if reading is not None}) == 1


async def test_many_who_saw_the_same_commit_share_the_second_look(house: House) -> None:
    house.gates.shut("changes")
    early = house.ask()
    await until(lambda: house.gates.waiting["changes"] == 1)
    house.looks.write(2)
    late = [house.ask() for _ in range(5)]
    await asyncio.sleep(0)
    house.gates.open("changes")
    await asyncio.gather(early, *late)
    assert house.took("changes") == 2


async def test_states_read_before_a_change_became_known_are_not_kept(house: House) -> None:
    await house.watermarks.poll()
    house.gates.shut("states")
    slow = house.ask()
    await until(lambda: house.gates.waiting["states"] == 1)
    house.looks.write(2)
    await house.watermarks.poll()
    house.gates.open("states")
    reading = await slow
    assert house.took("states") == 2
    assert reading is not None
    assert reading.watermark.token == await house.token()


async def test_a_commit_elsewhere_keeps_the_token_but_not_the_generation(house: House) -> None:
    before = await house.watermarks.current(QUERY)
    assert before is not None
    house.looks.write(2, day="2024-01-02")
    assert not house.watermarks.is_current(before.generation)
    after = await house.watermarks.current(QUERY)
    assert after is not None
    assert after.watermark == before.watermark
    assert house.took("states") == 1
    assert house.watermarks.is_current(after.generation)


async def test_a_counter_that_moves_for_nothing_keeps_every_token(house: House) -> None:
    before = await house.watermarks.current(QUERY)
    house.looks.checkpoint()
    after = await house.watermarks.current(QUERY)
    assert before is not None
    assert after is not None
    assert not house.watermarks.is_current(before.generation)
    assert house.watermarks.is_current(after.generation)
    assert (after.watermark, house.took("states")) == (before.watermark, 1)


async def test_a_rename_changes_the_token_without_reading_dates_again(house: House) -> None:
    before = await house.token()
    house.looks.rename("Summer")
    assert await house.token() != before
    assert house.took("states") == 1


async def test_a_cached_answer_is_current_until_the_counter_moves(house: House) -> None:
    reading = await house.watermarks.current(QUERY)
    assert reading is not None
    assert house.watermarks.is_current(reading.generation)
    house.looks.checkpoint()
    assert not house.watermarks.is_current(reading.generation)


async def test_polling_believes_what_it_knows_until_the_next_poll() -> None:
    async with Background() as background:
        house = a_house(background, is_strict=False)
        before = await house.watermarks.current(QUERY)
        assert before is not None
        house.looks.write(2)
        assert house.watermarks.is_current(before.generation)
        assert await house.token() == before.watermark.token
        await house.watermarks.poll()
        assert not house.watermarks.is_current(before.generation)
        assert await house.token() != before.watermark.token


async def test_following_learns_of_a_commit_without_a_question(house: House) -> None:
    before = await house.token()
    following = house.background.spawn(house.watermarks.follow(), name="follow", endless=True)
    generation = house.watermarks.generation
    house.looks.write(2)
    await until(lambda: house.watermarks.generation > generation)
    following.cancel()
    assert await house.token() != before


async def test_following_goes_on_after_a_failed_look(house: House) -> None:
    house.looks.failures["changes"] = BackendError("broken")
    following = house.background.spawn(house.watermarks.follow(), name="follow", endless=True)
    await until(lambda: house.took("changes") > 2)
    del house.looks.failures["changes"]
    await until(lambda: house.watermarks.state == "settled")
    following.cancel()


async def test_deleted_rows_are_found_by_the_recount(house: House) -> None:
    before = await house.token()
    await at_rest(house)
    house.gates.shut("count daily")
    house.looks.delete()
    assert await house.token() == before
    house.gates.open("count daily")
    await at_rest(house)
    assert await house.token() != before


async def test_a_recount_under_way_is_not_started_twice(house: House) -> None:
    await house.token()
    await at_rest(house)
    counted = house.took("count daily")
    house.gates.shut("count daily")
    house.looks.checkpoint()
    await house.token()
    await until(lambda: house.gates.waiting["count daily"] == 1)
    for _ in range(3):
        house.looks.checkpoint()
        await house.token()
    assert house.gates.waiting["count daily"] == 1
    house.gates.open("count daily")
    await at_rest(house)
    assert house.took("count daily") == counted + 2


async def test_rows_deleted_during_a_recount_are_found_by_another(house: House) -> None:
    before = await house.token()
    await at_rest(house)
    house.gates.shut("count daily")
    house.looks.checkpoint()
    await house.token()
    await until(lambda: house.gates.waiting["count daily"] == 1)
    house.looks.delete()
    assert await house.token() == before
    house.gates.open("count daily")
    await at_rest(house)
    assert await house.token() != before


async def test_a_recount_that_failed_is_made_again(house: House) -> None:
    before = await house.token()
    await at_rest(house)
    house.looks.failures["count daily"] = LOCKED
    house.looks.delete()
    assert await house.token() == before
    counted = house.took("count daily")
    await until(lambda: house.took("count daily") > counted + 1)
    del house.looks.failures["count daily"]
    await at_rest(house)
    assert await house.token() != before


async def test_a_failing_look_is_told_to_all_who_wait_and_then_forgotten(house: House) -> None:
    house.gates.shut("changes")
    house.looks.failures["changes"] = BackendError("broken", reason="sql_error")
    waiters = [house.ask() for _ in range(3)]
    await until(lambda: house.gates.waiting["changes"] == 1)
    house.gates.open("changes")
    assert await asyncio.gather(*waiters) == [None, None, None]
    # The first had a look, those who came during it one more between them.
    assert house.took("changes") == 2
    del house.looks.failures["changes"]
    assert await house.watermarks.current(QUERY) is not None
    assert house.took("changes") == 3


@pytest.mark.parametrize("step", ["counter", "changes"])
async def test_nothing_is_known_while_the_database_cannot_be_looked_at(
    house: House, step: str
) -> None:
    known = await house.watermarks.current(QUERY)
    assert known is not None
    house.looks.write(2)
    house.looks.failures[step] = GONE
    assert await house.watermarks.current(QUERY) is None
    assert house.watermarks.believed(QUERY) == known.watermark
    assert house.watermarks.believed(OTHER) is None
    await house.watermarks.poll()
    assert house.watermarks.state == "unknown"


@pytest.mark.parametrize("step", ["counter", "changes"])
async def test_what_was_last_known_is_believed_while_the_database_is_locked(
    house: House, step: str
) -> None:
    await house.token()
    # A look between the reading and the lock: only the dates are still known.
    house.looks.checkpoint()
    await house.watermarks.poll()
    house.looks.write(2)
    house.looks.failures[step] = LOCKED
    reading = await house.watermarks.current(QUERY)
    assert reading is not None
    assert reading.watermark == house.watermarks.believed(QUERY)
    assert await house.watermarks.current(OTHER) is None
    await house.watermarks.poll()
    assert house.watermarks.state == "settled"


async def test_the_check_of_a_cached_answer_raises_while_nothing_can_be_looked_at(
    house: House,
) -> None:
    reading = await house.watermarks.current(QUERY)
    assert reading is not None
    house.looks.failures["counter"] = GONE
    with pytest.raises(BackendUnavailable):
        house.watermarks.is_current(reading.generation)


@pytest.mark.parametrize("step", ["changes", "states"])
async def test_a_cancelled_caller_leaves_the_others_undisturbed(house: House, step: str) -> None:
    house.gates.shut(step)
    leaver, stayer = house.ask(), house.ask()
    await until(lambda: house.gates.waiting[step] > 0)
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    house.gates.open(step)
    reading = await stayer
    assert reading is not None
    assert house.took("changes") == 1


async def test_the_look_goes_on_when_all_who_waited_have_left(house: House) -> None:
    house.gates.shut("changes")
    leaver = house.ask()
    await until(lambda: house.gates.waiting["changes"] == 1)
    leaver.cancel()
    house.gates.open("changes")
    await until(lambda: house.watermarks.computed_at == STAMP)
    assert house.took("changes") == 1


async def test_a_caller_cancelled_while_it_waits_for_an_earlier_look_ends_neither(
    house: House,
) -> None:
    house.gates.shut("changes")
    early = house.ask()
    await until(lambda: house.gates.waiting["changes"] == 1)
    house.looks.write(2)
    leaver, late = house.ask(), house.ask()
    await asyncio.sleep(0)
    leaver.cancel()
    house.gates.open("changes")
    assert await early is not None
    assert await late is not None
    assert house.took("changes") == 2


async def test_those_who_wait_when_the_proxy_leaves_learn_nothing() -> None:
    async with Background(drain_s=0) as background:
        house = a_house(background)
        house.gates.shut("changes")
        waiter = house.ask()
        await until(lambda: house.gates.waiting["changes"] == 1)
    assert await waiter is None
    assert len(background) == 0


async def test_after_an_operators_word_dates_that_went_unnoticed_do_not_come_back() -> None:
    other = "2024-01-03"
    later = replace(QUERY, start=date(2024, 1, 3), end=date(2024, 1, 3))
    async with Background() as background:
        # The count that would tell of both comes much later than the question that tells of one.
        house = a_house(background, recount_s=3600)
        house.looks.write(5, day=other)
        for query in (QUERY, later):
            await house.token(query)
        await house.watermarks.end_rebuild()
        house.looks.write(1, rows=0)
        house.looks.delete(10, day=other)
        reading = await house.watermarks.current(QUERY)
        assert reading is not None
        assert reading.is_rebuilding
        await house.watermarks.end_rebuild()
        for query in (QUERY, later):
            reading = await house.watermarks.current(query)
            assert reading is not None
            assert (reading.is_rebuilding, sum(reading.rows.values())) == (False, 0)


async def test_counting_in_peace_is_given_up_when_commits_never_stop() -> None:
    counted = 0

    class Restless(ScriptedLooks):
        async def counts(self, table: TableWord) -> Mapping[str, int]:
            nonlocal counted
            counted += 1
            return await super().counts(table)

    async with Background() as background:
        # Each count finds that what is known has moved on since it began.
        recount = Recount(
            Restless(Gates()), background, lambda: counted, lambda *_: None, after_s=3600
        )
        recount.again()
        with pytest.raises(BackendError, match="faster than they are counted"):
            await recount.now()
    assert counted == 5


async def test_a_recount_does_not_hold_up_the_leaving() -> None:
    async with Background(drain_s=3600) as background:
        house = a_house(background, recount_s=3600)
        await house.token()
        assert len(background) == 1
    assert len(background) == 0


async def test_the_age_counts_from_the_newest_computed_at_not_from_any_commit(
    house: House,
) -> None:
    def age_s() -> float | None:
        return house.telemetry.registry.get_sample_value("proxy_watermark_age_seconds")

    await house.watermarks.poll()
    house.clock.pass_s(10)
    house.looks.rename("Summer")
    house.looks.write(2)
    await house.watermarks.poll()
    assert age_s() == 10
    house.looks.write(3, stamp=LATER)
    await house.watermarks.poll()
    assert age_s() == 0
    house.clock.pass_s(5)
    house.looks.failures["counter"] = GONE
    await house.watermarks.poll()
    assert age_s() == 5


async def test_a_sparkline_stands_on_the_days_before_its_range_too(house: House) -> None:
    plain = Query("analytics", date(2024, 1, 10), date(2024, 1, 10), "campaign", depth=1)
    lined = Query(
        "analytics",
        date(2024, 1, 10),
        date(2024, 1, 10),
        "campaign",
        depth=1,
        include_sparkline=True,
    )
    before = [await house.token(plain), await house.token(lined)]
    house.looks.write(2, day=DAY)
    after = [await house.token(plain), await house.token(lined)]
    assert before[0] == after[0]
    assert before[1] != after[1]


async def test_a_breakdown_stands_on_its_own_kind_of_rows(house: House) -> None:
    country = Query("analytics", date(2024, 1, 1), date(2024, 1, 1), "campaign", "country", depth=1)
    device = Query("analytics", date(2024, 1, 1), date(2024, 1, 1), "campaign", "device", depth=1)
    before = [await house.token(query) for query in (QUERY, country, device)]
    house.looks.write(2, table="breakdown", group="campaign/country")
    after = [await house.token(query) for query in (QUERY, country, device)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]


async def test_settled_is_told_when_nothing_was_written_for_two_looks() -> None:
    async with Background() as background:
        house = a_house(background, recount_s=3600)
        news = asyncio.create_task(house.watermarks.settling.after(None))
        for _ in range(2):
            await house.watermarks.poll()
            await asyncio.sleep(0)
            assert not news.done()
        await house.watermarks.poll()
        first = await news
        house.looks.write(2, stamp=LATER)
        again = asyncio.create_task(house.watermarks.settling.after(first))
        for _ in range(2):
            await house.watermarks.poll()
            await asyncio.sleep(0)
            assert not again.done()
        await house.watermarks.poll()
        assert await again > first


async def test_the_numbers_are_what_they_are_since_they_were_last_seen_to_change() -> None:
    async with Background() as background:
        house = a_house(background, recount_s=3600)
        assert house.watermarks.since is None
        house.clock.pass_s(5)
        await house.watermarks.poll()
        house.clock.pass_s(5)
        await house.watermarks.poll()
        assert house.watermarks.since == 5.0


async def test_in_quiet_hours_dates_are_read_before_anybody_asks(house: House) -> None:
    house.looks.write(2, day="2024-01-02")
    await house.watermarks.poll()
    await at_rest(house)
    for _ in range(4):
        await house.watermarks.poll()
    read = house.took("states")
    assert read > 0
    assert await house.token() != await house.token(OTHER)
    assert house.took("states") == read
    house.looks.write(3)
    await house.watermarks.poll()
    await at_rest(house)
    assert await house.token()
    assert house.took("states") == read + 1
