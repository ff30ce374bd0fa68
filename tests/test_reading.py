"""The watermark of a span: all that happened on its dates, and nothing else."""

from datetime import date

import pytest

from proxy.background import Background
from proxy.errors import BackendUnavailable
from proxy.looks import Reading
from proxy.reading import Span, batches
from proxy.telemetry import Telemetry
from proxy.watermarks import Watermarks
from tests.clocks import HandClock
from tests.gates import Gates
from tests.scripted_looks import DAY, ScriptedLooks

NEXT = "2024-01-02"
LATER = "2024-01-02 07:00:00"
FIRST_DAY = Span(date(2024, 1, 1), date(2024, 1, 1))
SECOND_DAY = Span(date(2024, 1, 2), date(2024, 1, 2))
BOTH = Span(date(2024, 1, 1), date(2024, 1, 2))
ALL = Span()


class House:
    def __init__(self, background: Background) -> None:
        self.looks = ScriptedLooks(Gates())
        self.looks.write(1, day=NEXT)
        self.watermarks = Watermarks(
            self.looks, background, Telemetry(), HandClock(), recount_s=3600
        )

    async def read(self, span: Span) -> Reading:
        reading = await self.watermarks.current(span)
        assert reading is not None
        return reading

    async def tokens(self) -> dict[Span, str]:
        return {
            span: (await self.read(span)).watermark.token
            for span in (FIRST_DAY, SECOND_DAY, BOTH, ALL)
        }


async def moved(house: House, before: dict[Span, str]) -> set[Span]:
    after = await house.tokens()
    return {span for span in after if after[span] != before[span]}


async def test_rows_of_any_level_or_breakdown_move_the_spans_with_their_date() -> None:
    async with Background() as background:
        house = House(background)
        before = await house.tokens()
        house.looks.write(2, day=NEXT, group="ad", stamp=LATER)
        assert await moved(house, before) == {SECOND_DAY, BOTH, ALL}

        before = await house.tokens()
        house.looks.write(2, day=DAY, table="breakdown", group="ad/country")
        assert await moved(house, before) == {FIRST_DAY, BOTH, ALL}


async def test_a_name_moves_every_span_and_a_checkpoint_none() -> None:
    async with Background() as background:
        house = House(background)
        before = await house.tokens()
        house.looks.checkpoint()
        assert await moved(house, before) == set()
        house.looks.rename("Summer")
        assert await moved(house, before) == {FIRST_DAY, SECOND_DAY, BOTH, ALL}


async def test_a_new_date_moves_the_span_of_all_dates_at_once() -> None:
    async with Background() as background:
        house = House(background)
        before = await house.tokens()
        house.looks.write(1, day="2024-01-03", stamp=LATER)
        assert await moved(house, before) == {ALL}
        assert (await house.read(ALL)).watermark.computed_at == LATER


async def test_two_processes_agree_whatever_they_had_been_asked_before() -> None:
    async with Background() as background:
        one, other = House(background), House(background)
        empty = Span(date(2023, 1, 1), date(2024, 1, 2))
        await one.read(empty)
        assert await one.tokens() == await other.tokens()
        assert (await one.read(BOTH)).watermark == (await other.read(BOTH)).watermark


async def test_missing_rows_are_a_rebuild_of_the_spans_with_their_date() -> None:
    async with Background() as background:
        house = House(background)
        before = await house.tokens()
        house.looks.delete(rows=9)
        # Nothing but a count shows it, and all dates are counted at each commit.
        assert (await house.read(ALL)).is_rebuilding
        assert (await house.read(FIRST_DAY)).is_rebuilding
        assert not (await house.read(SECOND_DAY)).is_rebuilding
        assert await moved(house, before) == set()


async def test_a_reading_is_confirmed_only_while_nothing_was_written_or_deleted() -> None:
    async with Background() as background:
        house = House(background)
        reading = await house.read(FIRST_DAY)
        assert await house.watermarks.confirms(FIRST_DAY, reading)
        house.looks.write(2, day=NEXT)
        assert await house.watermarks.confirms(FIRST_DAY, reading)
        house.looks.delete(rows=9)
        assert not await house.watermarks.confirms(FIRST_DAY, reading)


@pytest.mark.parametrize("step", ["counter", "changes", "count daily"])
async def test_a_reading_is_not_confirmed_while_the_database_cannot_be_read(step: str) -> None:
    async with Background() as background:
        house = House(background)
        reading = await house.read(FIRST_DAY)
        house.looks.checkpoint()
        house.looks.failures[step] = BackendUnavailable("gone", reason="no_database")
        assert not await house.watermarks.confirms(FIRST_DAY, reading)


async def test_a_long_span_is_read_in_parts_and_whole() -> None:
    async with Background() as background:
        house = House(background)
        long = Span(date(2023, 1, 1), date(2024, 12, 31))
        before = (await house.read(long)).watermark
        assert house.looks.gates.steps.count("states") == 2 * 53
        house.looks.write(5, day=NEXT, stamp=LATER)
        assert (await house.read(long)).watermark != before


def test_batches_are_all_days_in_order() -> None:
    days = [str(number) for number in range(30)]
    assert [day for part in batches(days) for day in part] == days
    assert list(batches([])) == []
