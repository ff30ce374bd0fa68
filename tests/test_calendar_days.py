"""The calendar's days: what is read for them, what is believed, and who waits how long."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest
from structlog.testing import capture_logs

from proxy.background import Background
from proxy.errors import BackendError
from proxy.live.calendar_days import CalendarDay, CalendarDays
from proxy.live.day_stamps import DayStamps
from proxy.live.overheard import OverheardLooks
from proxy.live.runs import Runs
from proxy.looks import GroupState, TableWord
from tests.clocks import HandClock
from tests.gates import Gates
from tests.scripted_looks import DAY, STAMP, ScriptedLooks
from tests.waiting import until

LATER = "2024-01-02 07:00:00"
NEXT_DAY = "2024-01-02"


class ScriptedReader:
    """Reads the same world as the looks do, at gates of its own."""

    def __init__(self, looks: ScriptedLooks, gates: Gates) -> None:
        self.looks = looks
        self.gates = gates
        self.read: list[tuple[TableWord, list[str]]] = []
        self.failure: BackendError | None = None

    async def counts(self, table: TableWord) -> Mapping[str, int]:
        if self.failure is not None:
            raise self.failure
        return {
            day: sum(rows for rows, _, _ in groups.values())
            for day, groups in self.looks.numbers[table].items()
        }

    async def newest(self, table: TableWord, dates: Sequence[str]) -> Mapping[str, str | None]:
        self.read.append((table, list(dates)))
        found: dict[str, str | None] = dict.fromkeys(dates)
        for day in dates:
            found[day] = max(stamp for _, stamp, _ in self.looks.numbers[table][day].values())
        await self.gates.come_to("newest")
        if self.failure is not None:
            raise self.failure
        return found


class House:
    def __init__(self, background: Background) -> None:
        self.gates = Gates()
        self.scripted = ScriptedLooks(self.gates)
        self.reader = ScriptedReader(self.scripted, self.gates)
        self.stamps, self.runs = DayStamps(), Runs()
        self.clock = HandClock()
        self.looks = OverheardLooks(self.scripted, self.runs, self.stamps, self.clock)
        self.background = background
        self.days = CalendarDays(self.stamps, self.runs, self.reader, background, self.clock)

    def shown(self, *held: str) -> list[CalendarDay]:
        return self.days.days(frozenset(held))

    async def know(self) -> None:
        await self.days.know(within_s=60)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with Background(drain_s=0.01) as background:
        yield House(background)


async def test_what_nobody_looked_at_is_read(house: House) -> None:
    assert (house.days.is_complete, house.shown()) == (False, [])
    await house.know()
    assert house.shown() == [CalendarDay(DAY, STAMP, 10, 0, "settled")]
    assert house.days.is_complete
    await house.know()
    assert house.reader.read == [("daily", [DAY])]


async def test_what_a_look_has_seen_is_not_read_again(house: House) -> None:
    await house.looks.counts("daily")
    await house.looks.counts("breakdown")
    await house.looks.states("daily", [DAY])
    await house.know()
    assert house.reader.read == []
    assert house.shown() == [CalendarDay(DAY, STAMP, 10, 0, "settled")]


async def test_only_written_dates_are_read_again(house: House) -> None:
    house.scripted.write(1, day=NEXT_DAY)
    seen = await house.looks.changes(None)
    await house.know()
    house.scripted.write(2, stamp=LATER)
    await house.looks.changes(seen.snapshot)
    assert [day.computed_at for day in house.shown()] == [None, STAMP]
    await house.know()
    assert [day.computed_at for day in house.shown()] == [LATER, STAMP]
    assert house.reader.read == [("daily", [NEXT_DAY, DAY]), ("daily", [DAY])]


async def test_a_date_whose_rows_were_counted_anew_is_read_again(house: House) -> None:
    await house.looks.counts("daily")
    await house.know()
    house.scripted.delete()
    await house.looks.counts("daily")
    await house.know()
    assert house.reader.read == [("daily", [DAY])] * 2
    assert house.shown()[0].rows == 9


async def test_what_a_commit_has_overtaken_is_not_believed(house: House) -> None:
    seen = await house.looks.changes(None)
    house.gates.shut("newest")
    knowing = asyncio.create_task(house.know())
    await until(lambda: house.gates.waiting["newest"] == 1)
    house.scripted.write(2, stamp=LATER)
    await house.looks.changes(seen.snapshot)
    house.gates.open("newest")
    await knowing
    assert house.shown()[0].computed_at is None
    await house.know()
    assert house.shown()[0].computed_at == LATER


async def test_states_that_a_commit_has_overtaken_are_not_believed(house: House) -> None:
    mark = house.stamps.mark
    house.stamps.doubt("daily", [DAY])
    house.stamps.learn_states("daily", {DAY: {"ad": GroupState(1, STAMP, "")}}, mark)
    assert house.stamps.newest("daily", DAY) is None


async def test_all_who_ask_meanwhile_share_one_reading(house: House) -> None:
    house.gates.shut("newest")
    asking = [asyncio.create_task(house.know()) for _ in range(5)]
    await until(lambda: house.gates.waiting["newest"] == 1)
    house.gates.open("newest")
    await asyncio.gather(*asking)
    assert len(house.reader.read) == 1


async def test_who_does_not_wait_gets_what_is_known_and_the_reading_goes_on(house: House) -> None:
    house.gates.shut("newest")
    await house.days.know(within_s=0.01)
    assert house.shown() == [CalendarDay(DAY, None, 10, 0, "settled")]
    assert not house.days.is_complete
    house.gates.open("newest")
    await until(lambda: house.days.is_complete)


async def test_a_caller_who_is_cancelled_does_not_end_the_reading(house: House) -> None:
    house.gates.shut("newest")
    caller = asyncio.create_task(house.know())
    await until(lambda: house.gates.waiting["newest"] == 1)
    caller.cancel()
    await asyncio.wait([caller])
    house.gates.open("newest")
    await until(lambda: house.days.is_complete)


async def test_a_reading_that_fails_leaves_what_is_known(house: House) -> None:
    await house.looks.counts("daily")
    house.reader.failure = BackendError("gone", reason="no_database")
    await house.know()
    assert house.shown() == [CalendarDay(DAY, None, 10, 0, "settled")]
    house.reader.failure = None
    await house.know()
    assert house.shown()[0].computed_at == STAMP


async def test_a_reading_that_fails_when_nobody_waits_is_no_fault(house: House) -> None:
    house.gates.shut("newest")
    with capture_logs() as logs:
        await house.days.know(within_s=0.01)
        house.reader.failure = BackendError("gone", reason="no_database")
        house.gates.open("newest")
        await until(lambda: len(house.background) == 0)
    assert [line["event"] for line in logs] == ["dates_not_read"]


async def test_after_each_part_as_much_time_is_left_to_others(house: House) -> None:
    for day in ("2024-01-02", "2024-01-03"):
        house.scripted.write(1, day=day, rows=30_000)
    house.gates.shut("newest")
    await house.days.know(within_s=0.01)
    house.clock.pass_s(60)
    house.gates.open("newest")
    await house.days.know(within_s=0.05)
    assert [dates for _, dates in house.reader.read] == [["2024-01-03"]]
    assert house.shown()[2].computed_at == STAMP


async def test_a_reading_ends_with_the_proxy() -> None:
    async with Background(drain_s=0.01) as background:
        house = House(background)
        house.gates.shut("newest")
        knowing = asyncio.create_task(house.know())
        await until(lambda: house.gates.waiting["newest"] == 1)
    await knowing
    await house.know()


async def test_many_rows_are_read_in_parts_the_newest_dates_first(house: House) -> None:
    for number, day in enumerate(["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"]):
        house.scripted.write(number, day=day, rows=15_000)
    await house.know()
    assert [dates for _, dates in house.reader.read] == [
        ["2024-01-05", "2024-01-04"],
        ["2024-01-03", "2024-01-02", DAY],
    ]


async def test_a_date_is_as_new_as_the_newer_of_both_tables(house: House) -> None:
    house.scripted.write(1, table="breakdown", group="ad/country", stamp=LATER, rows=4)
    await house.know()
    assert house.shown() == [CalendarDay(DAY, LATER, 10, 4, "settled")]


async def test_dates_between_others_are_missing_and_held_ones_are_rebuilding(house: House) -> None:
    house.scripted.write(1, day="2024-01-05")
    await house.know()
    shown = {day.date[-2:]: day.state for day in house.shown("2024-01-03")}
    assert shown == {
        "01": "settled",
        "02": "missing",
        "03": "rebuilding",
        "04": "missing",
        "05": "settled",
    }


async def test_a_mistaken_date_does_not_make_a_calendar_of_centuries(house: House) -> None:
    for day in ("0024-01-01", "not a date"):
        house.scripted.write(1, day=day)
    await house.know()
    assert [day.date for day in house.shown()] == ["0024-01-01", DAY, "not a date"]
