"""The questions of every day, for a today that is given."""

from datetime import date

import pytest

from proxy.query import BREAKDOWNS, LEVELS
from proxy.usual import usual_questions, usual_ranges

TODAY = date(2024, 3, 20)


def test_the_ranges_are_those_that_dashboards_offer() -> None:
    assert [(str(start), str(end)) for start, end in usual_ranges(TODAY)] == [
        ("2024-03-19", "2024-03-19"),
        ("2024-03-14", "2024-03-20"),
        ("2024-03-13", "2024-03-19"),
        ("2024-03-07", "2024-03-20"),
        ("2024-03-06", "2024-03-19"),
        ("2024-02-20", "2024-03-20"),
        ("2024-02-19", "2024-03-19"),
        ("2023-12-22", "2024-03-20"),
        ("2023-12-21", "2024-03-19"),
        ("2024-03-01", "2024-03-20"),
    ]


def test_each_range_is_asked_for_each_level_and_breakdown() -> None:
    questions = usual_questions(TODAY, BREAKDOWNS)
    assert len(questions) == 10 * 3 * 4
    assert {(q.level, q.breakdown) for q in questions} == {
        (a, b) for a in LEVELS for b in BREAKDOWNS
    }
    assert {q.shape for q in questions} == {"analytics"}
    assert not any(q.include_sparkline for q in questions)


def test_a_breakdown_that_the_database_lacks_is_not_asked_for() -> None:
    assert {q.breakdown for q in usual_questions(TODAY, ["all"])} == {"all"}


@pytest.mark.parametrize("today", [date(2024, 3, 7), date(2024, 3, 14), date(2024, 3, 1)])
def test_no_question_comes_twice_where_two_ranges_are_the_same(today: date) -> None:
    questions = usual_questions(today, ["all"])
    assert len(questions) == len(set(questions))


def test_the_month_to_date_that_is_the_last_seven_days_is_one_question() -> None:
    assert len(usual_questions(date(2024, 3, 7), ["all"])) == 9 * 3


def test_whole_levels_come_before_breakdowns_and_campaigns_first() -> None:
    questions = usual_questions(TODAY, BREAKDOWNS)
    assert (questions[0].level, questions[0].breakdown) == ("campaign", "all")
    assert [q.breakdown for q in questions] == sorted(
        (q.breakdown for q in questions), key=BREAKDOWNS.index
    )
