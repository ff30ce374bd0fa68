"""What is valuable: asked often, dear to compute, lately."""

from datetime import date, timedelta

from proxy.popularity import Popularity, Sample
from proxy.query import Query

HOUR = 3600.0
DAY = date(2024, 1, 1)


def question(number: int = 0) -> Query:
    return Query("analytics", DAY, DAY + timedelta(days=number), "campaign")


A, B, C = question(1), question(2), question(3)


def test_value_is_times_asked_by_cost() -> None:
    known = Popularity()
    known.observe([Sample(A, 9, 10.0), Sample(B, 0, 1000.0)], now=0)
    assert known.value(A, 0) == 100.0
    assert known.value(B, 0) == 1000.0
    assert known.most_valuable(0, 5) == [B, A]
    assert known.most_valuable(0, 1) == [B]


def test_a_question_nobody_asked_is_worth_nothing() -> None:
    assert Popularity().value(A, 0) == 0
    assert Popularity().most_valuable(0, 5) == []


def test_who_made_the_entry_come_counts_too() -> None:
    known = Popularity()
    known.observe([Sample(A, 0, 10.0)], now=0)
    assert known.value(A, 0) == 10.0


def test_what_was_counted_is_not_counted_again() -> None:
    known = Popularity()
    known.observe([Sample(A, 4, 1.0)], now=0)
    known.observe([Sample(A, 4, 1.0)], now=0)
    known.observe([Sample(A, 6, 1.0)], now=0)
    assert known.value(A, 0) == 7.0


def test_value_halves_with_each_half_life() -> None:
    known = Popularity(half_life_s=6 * HOUR)
    known.observe([Sample(A, 7, 1.0)], now=0)
    assert known.value(A, 6 * HOUR) == 4.0
    assert known.value(A, 12 * HOUR) == 2.0


def test_old_asking_counts_less_than_new_beside_it() -> None:
    known = Popularity(half_life_s=HOUR)
    known.observe([Sample(A, 7, 1.0)], now=0)
    known.observe([Sample(A, 8, 1.0)], now=HOUR)
    assert known.value(A, HOUR) == 5.0


def test_a_clock_that_goes_back_does_not_make_it_worth_more() -> None:
    known = Popularity()
    known.observe([Sample(A, 1, 1.0)], now=HOUR)
    assert known.value(A, 0) == 2.0


def test_a_question_whose_entry_has_gone_is_remembered() -> None:
    known = Popularity()
    known.observe([Sample(A, 5, 10.0)], now=0)
    known.observe([], now=0)
    assert known.most_valuable(0, 5) == [A]


def test_an_entry_that_left_and_came_back_was_asked_for_again() -> None:
    known = Popularity()
    known.observe([Sample(A, 5, 1.0)], now=0)
    known.observe([Sample(A, 2, 1.0)], now=0)
    assert known.value(A, 0) == 6 + 3


def test_the_newest_cost_counts() -> None:
    known = Popularity()
    known.observe([Sample(A, 0, 5.0)], now=0)
    known.observe([Sample(A, 1, 50.0)], now=0)
    assert known.value(A, 0) == 100.0


def test_what_a_replay_asked_is_overlooked() -> None:
    known = Popularity()
    known.overlook(A, 1)
    known.observe([Sample(A, 1, 10.0)], now=0)
    assert known.value(A, 0) == 0
    known.observe([Sample(A, 3, 10.0)], now=0)
    assert known.value(A, 0) == 20.0


def test_the_least_valuable_are_forgotten_first() -> None:
    known = Popularity(most=2)
    known.observe([Sample(A, 0, 2.0), Sample(B, 0, 1.0), Sample(C, 0, 3.0)], now=0)
    assert len(known) == 2
    assert known.most_valuable(0, 5) == [C, A]
    assert repr(known) == "<Popularity 2/2>"


def test_one_that_was_forgotten_but_is_held_does_not_count_from_its_beginning() -> None:
    known = Popularity(most=1)
    samples = [Sample(A, 100, 1.0), Sample(B, 50, 1.0)]
    known.observe(samples, now=0)
    known.observe(samples, now=0)
    known.observe([Sample(A, 100, 1.0), Sample(B, 52, 1.0)], now=0)
    assert known.value(B, 0) in (0, 2.0)
    assert known.value(A, 0) == 101.0
