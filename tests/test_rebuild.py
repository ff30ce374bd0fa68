"""When a date whose rows went missing is held, and when it is let go."""

import pytest

from proxy.rebuild import QUIET_POLLS, Holds

DAY, OTHER = "2024-01-01", "2024-01-02"


@pytest.fixture
def holds() -> Holds:
    holds = Holds(hold_s=900)
    holds.saw_all("daily", {DAY: 100, OTHER: 50}, now=0)
    return holds


@pytest.mark.parametrize("rows", [100, 90, 101, 1000])
def test_about_as_many_rows_as_before_are_believed(holds: Holds, rows: int) -> None:
    assert holds.saw("daily", DAY, rows, now=1)
    assert not holds.is_rebuilding


@pytest.mark.parametrize("rows", [0, 1, 89])
def test_clearly_fewer_rows_hold_the_date_and_no_other(holds: Holds, rows: int) -> None:
    assert not holds.saw("daily", DAY, rows, now=1)
    assert holds.is_held("daily", DAY)
    assert not holds.is_held("daily", OTHER)
    assert not holds.is_held("breakdown", DAY)
    assert holds.since == 1


def test_a_date_that_never_had_rows_is_not_held(holds: Holds) -> None:
    assert holds.saw("daily", "2024-01-03", 0, now=1)
    assert holds.saw("daily", "2024-01-03", 10, now=2)
    assert not holds.is_rebuilding


def test_counting_all_dates_finds_those_that_are_gone(holds: Holds) -> None:
    assert holds.saw_all("daily", {OTHER: 50}, now=1) == {DAY}
    assert holds.saw_all("daily", {OTHER: 50}, now=2) == frozenset()
    assert holds.dates("daily") == {DAY}


def test_a_refill_is_not_believed_before_it_is_whole_and_quiet(holds: Holds) -> None:
    holds.saw("daily", DAY, 0, now=1)
    assert not holds.saw("daily", DAY, 100, now=2)
    assert holds.release_refilled("daily", {DAY: 89, OTHER: 50}, QUIET_POLLS) == frozenset()
    assert holds.release_refilled("daily", {DAY: 100, OTHER: 50}, QUIET_POLLS - 1) == frozenset()
    assert holds.release_refilled("daily", {DAY: 90, OTHER: 50}, QUIET_POLLS) == {DAY}
    assert not holds.is_rebuilding
    assert holds.saw("daily", DAY, 90, now=3)


def test_a_hold_runs_out_and_what_is_there_is_believed(holds: Holds) -> None:
    holds.saw("daily", DAY, 10, now=100)
    assert not holds.has_expired(999)
    assert holds.release_expired("daily", {DAY: 10}, 999) == frozenset()
    assert holds.has_expired(1000)
    assert holds.release_expired("daily", {DAY: 10}, 1000) == {DAY}
    assert holds.saw("daily", DAY, 10, now=1001)


def test_an_operator_ends_every_hold(holds: Holds) -> None:
    holds.saw_all("daily", {}, now=1)
    assert holds.release_all("daily", {}) == {DAY, OTHER}
    assert not holds.is_rebuilding
    assert holds.saw("daily", DAY, 0, now=2)


def test_what_an_operator_believes_is_not_held_when_it_is_noticed_later(holds: Holds) -> None:
    holds.saw("daily", DAY, 0, now=1)
    assert holds.release_all("daily", {}) == {DAY}
    assert holds.saw_all("daily", {}, now=2) == frozenset()
    assert not holds.is_rebuilding
    assert holds.saw("daily", OTHER, 50, now=3)
    assert not holds.saw("daily", OTHER, 0, now=4)
