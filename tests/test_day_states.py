"""What is believed of dates as they are doubted, read again, and go missing."""

import pytest

from proxy.day_states import DayStates
from proxy.looks import DayState, GroupState

DAY, OTHER = "2024-01-01", "2024-01-02"


def state(rows: int, digest: str = "d") -> DayState:
    return {"ad": GroupState(rows, "2024-01-02 03:00:00", digest)}


@pytest.fixture
def days() -> DayStates:
    days = DayStates(hold_s=900)
    days.learn("daily", [DAY, OTHER], {DAY: state(10, "one"), OTHER: state(10)}, now=0)
    return days


def digest_of(days: DayStates, day: str) -> str | None:
    group = days.group("daily", day, "ad")
    return None if group is None else group.digest


def test_a_doubted_date_is_missing_until_it_is_learnt_again(days: DayStates) -> None:
    assert days.doubt("daily", [DAY, "2023-01-01"]) == 1
    assert days.missing("daily", [DAY, OTHER]) == [DAY]
    with pytest.raises(KeyError):
        days.group("daily", DAY, "ad")
    days.learn("daily", [DAY], {DAY: state(11, "two")}, now=1)
    assert digest_of(days, DAY) == "two"


def test_a_date_that_lost_its_rows_keeps_its_state_from_before(days: DayStates) -> None:
    days.doubt("daily", None)
    days.learn("daily", [DAY, OTHER], {OTHER: state(10)}, now=1)
    assert digest_of(days, DAY) == "one"
    assert days.is_held("daily", [DAY])
    assert not days.is_held("daily", [OTHER])


def test_half_a_refill_does_not_take_the_place_of_what_was_before(days: DayStates) -> None:
    days.doubt("daily", [DAY])
    days.learn("daily", [DAY], {}, now=1)
    days.doubt("daily", [DAY])
    days.learn("daily", [DAY], {DAY: state(5, "half")}, now=2)
    assert digest_of(days, DAY) == "one"


def test_a_date_whose_count_shows_the_loss_need_not_be_read_to_stand_for_before(
    days: DayStates,
) -> None:
    days.doubt("daily", None)
    days.compare("daily", {OTHER: 10}, now=1)
    assert days.missing("daily", [DAY, OTHER]) == [OTHER]
    assert digest_of(days, DAY) == "one"


def test_a_held_date_is_not_doubted(days: DayStates) -> None:
    days.compare("daily", {OTHER: 10}, now=1)
    assert days.doubt("daily", None) == 1
    assert days.missing("daily", [DAY, OTHER]) == [OTHER]


def test_a_date_let_go_is_read_and_believed_as_it_is(days: DayStates) -> None:
    days.doubt("daily", [DAY])
    days.learn("daily", [DAY], {}, now=1)
    released = days.holds.release_all("daily", {OTHER: 10})
    days.let_go("daily", released)
    assert days.missing("daily", [DAY, OTHER]) == [DAY]
    days.learn("daily", [DAY], {}, now=2)
    assert digest_of(days, DAY) is None
    assert not days.is_held("daily", [DAY])


def test_counts_that_differ_a_little_make_doubt_and_that_differ_much_a_hold(
    days: DayStates,
) -> None:
    assert days.compare("daily", {DAY: 10, OTHER: 10}, now=1) == 0
    assert days.compare("daily", {DAY: 11, OTHER: 2}, now=1) == 2
    assert days.missing("daily", [DAY, OTHER]) == [DAY]
    assert days.is_held("daily", [OTHER])


def test_a_date_first_seen_while_it_is_held_has_what_is_there(days: DayStates) -> None:
    days.compare("daily", {DAY: 10, OTHER: 10, "2024-01-03": 10}, now=1)
    days.compare("daily", {DAY: 10, OTHER: 10}, now=2)
    days.learn("daily", ["2024-01-03"], {}, now=3)
    assert days.group("daily", "2024-01-03", "ad") is None
    assert days.is_held("daily", ["2024-01-03"])
