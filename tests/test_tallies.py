"""What is counted of a comparison, and that no foreign name makes it grow."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rollout.tallies import (
    COMPARED,
    DISCARDED,
    DROPPED,
    ERRORS,
    MOST_NAMES,
    NOISE,
    NOISE_MISMATCHED,
    NOISE_STRUCTURAL,
    OPTIMIZED_ERROR,
    OPTIMIZED_OK,
    STRUCTURAL,
    Tally,
    bounded,
    bucket,
    day_of,
    folded,
    sum_of,
    tally_of,
    tally_of_answer,
    tally_of_answers,
    tally_of_discard,
    tally_of_drops,
    tally_of_error,
)
from proxy.telemetry import LATENCY_BUCKETS_S
from tests.comparisons import AT, DAY, DAY_S, a_comparison, a_difference, a_query, a_result

TALLIES = st.builds(
    Tally,
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)),
    st.dictionaries(st.sampled_from("abc"), st.floats(0, 9)),
)


def test_a_match_is_counted_with_its_level_and_breakdown() -> None:
    tally = tally_of(a_comparison(query=a_query("adset", "country")))
    assert tally == Tally({COMPARED: 1, "total|matched": 1, "cell|adset|country|matched": 1}, {})


def test_a_difference_counts_once_per_result_wherever_it_was_found() -> None:
    tally = tally_of(
        a_comparison(
            a_difference(count=40, error=0.05),
            a_difference(path="data.*.breakdown_data.*.spend", count=2, error=0.07),
        )
    )
    assert tally["diff|campaign|value|spend"] == 1
    assert tally["decided|campaign|value|spend"] == 1
    assert tally["rows|campaign|value|spend"] == 42
    assert tally.maxima == {"diff|campaign|value|spend": 0.07}


def test_levels_kinds_and_fields_are_counted_apart() -> None:
    tally = tally_of(
        a_comparison(
            a_difference(),
            a_difference(level="ad"),
            a_difference(kind="unit"),
            a_difference("profit", is_deciding=False),
        )
    )
    assert {name for name in tally.counts if name.startswith("diff|")} == {
        "diff|campaign|value|spend",
        "diff|ad|value|spend",
        "diff|campaign|unit|spend",
        "diff|campaign|value|profit",
    }
    assert tally["decided|campaign|value|profit"] == 0


def test_structure_is_counted() -> None:
    assert tally_of(a_comparison(a_difference(kind="missing_key")))[STRUCTURAL] == 1
    assert tally_of(a_comparison(a_difference(kind="value")))[STRUCTURAL] == 0


def test_the_legacys_noise_is_counted_beside_and_not_as_a_comparison() -> None:
    noise = a_result(a_difference(), a_difference(kind="missing_row"))
    tally = tally_of(a_comparison(noise=noise))
    assert (tally[COMPARED], tally[NOISE]) == (1, 1)
    assert (tally[NOISE_MISMATCHED], tally[NOISE_STRUCTURAL]) == (1, 1)
    assert tally["noise|campaign|value|spend"] == 1
    assert tally["diff|campaign|value|spend"] == 0
    quiet = tally_of(a_comparison(noise=a_result()))
    assert (quiet[NOISE], quiet[NOISE_MISMATCHED], quiet[NOISE_STRUCTURAL]) == (1, 0, 0)


def test_rates_vote_for_a_mode() -> None:
    tally = tally_of(a_comparison(closer={"roas": (5, 2, 0), "a|b": (0, 0, 1)}))
    assert tally["closer|mean|roas"] == 5
    assert tally["closer|ratio|roas"] == 2
    assert "closer|equal|roas" not in tally.counts
    assert tally["closer|equal|a|b"] == 1


@pytest.mark.parametrize("error", [None, math.inf, math.nan, -math.inf])
def test_an_error_that_is_no_number_makes_no_maximum(error: float | None) -> None:
    assert tally_of(a_comparison(a_difference(error=error))).maxima == {}


def test_what_became_no_comparison_is_counted_with_the_reason() -> None:
    assert tally_of_discard("moved").counts == {DISCARDED: 1, "reason|discarded|moved": 1}
    assert tally_of_error("timeout").counts == {ERRORS: 1, "reason|errors|timeout": 1}
    assert tally_of_drops(7).counts == {DROPPED: 7}
    assert not tally_of_drops(0)


def test_answers_are_counted_by_the_edge_they_are_below() -> None:
    assert tally_of_answer(True, 0.05).counts == {OPTIMIZED_OK: 1, "optimized|ms|50": 1}
    assert tally_of_answer(True, 0.0501).counts == {OPTIMIZED_OK: 1, "optimized|ms|100": 1}
    assert tally_of_answer(True, 999.0).counts == {OPTIMIZED_OK: 1, "optimized|ms|inf": 1}
    assert tally_of_answer(False, 0.01).counts == {OPTIMIZED_ERROR: 1}
    assert tally_of_answers({0.05: 3, 0.1: 0, math.inf: 1}).counts == {
        OPTIMIZED_OK: 4,
        "optimized|ms|50": 3,
        "optimized|ms|inf": 1,
    }
    assert not tally_of_answers({0.05: 0})


def test_each_edge_has_a_name_of_its_own() -> None:
    edges = [*LATENCY_BUCKETS_S, math.inf]
    assert len({bucket(edge) for edge in edges}) == len(edges)
    assert [float(bucket(edge).rpartition("|")[2]) / 1000 for edge in edges] == pytest.approx(edges)


@given(TALLIES, TALLIES, TALLIES)
def test_adding_is_in_any_order(one: Tally, two: Tally, three: Tally) -> None:
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert sum_of([one, two, three]) == one + two + three
    assert one + Tally() == one


def test_foreign_names_are_cut_and_made_whole() -> None:
    tally = tally_of(a_comparison(a_difference("x" * 5000), a_difference("a\ud800b", level="c|d")))
    assert f"diff|campaign|value|{'x' * 100}" in tally.counts
    assert "diff|c/d|value|a?b" in tally.counts


def test_a_day_has_a_bounded_number_of_names() -> None:
    tally = Tally()
    for number in range(3 * MOST_NAMES):
        new = tally_of(a_comparison(a_difference(f"field {number}")))
        tally = tally + bounded(new, tally.counts)
    assert len(tally.counts) <= MOST_NAMES + 50
    assert tally[COMPARED] == 3 * MOST_NAMES
    kept = sum(count for name, count in tally.counts.items() if name.startswith("diff|"))
    assert kept == 3 * MOST_NAMES
    assert tally["diff|campaign|value|other"] > MOST_NAMES
    assert set(tally.maxima) <= set(tally.counts)


def test_a_known_name_goes_on_being_counted_when_the_day_is_full() -> None:
    known = {f"n{number}" for number in range(MOST_NAMES - 1)} | {"diff|ad|value|spend"}
    new = Tally({"diff|ad|value|spend": 1, "diff|ad|value|new": 2}, {"diff|ad|value|new": 0.5})
    assert bounded(new, known) == Tally(
        {"diff|ad|value|spend": 1, "diff|ad|value|other": 2}, {"diff|ad|value|other": 0.5}
    )


@pytest.mark.parametrize(
    ("name", "fold"),
    [
        (COMPARED, COMPARED),
        ("cell|ad|country|matched", "cell|ad|country|matched"),
        ("diff|ad|value|a|b", "diff|ad|value|other"),
        ("noise||type|x", "noise||type|other"),
        ("closer|mean|roas", "closer|mean|other"),
        ("reason|errors|x|y", "reason|errors|other"),
        ("optimized|ms|50", "optimized|ms|50"),
    ],
)
def test_only_what_is_foreign_in_a_name_is_folded(name: str, fold: str) -> None:
    assert folded(name) == fold


def test_days_are_of_utc() -> None:
    assert day_of(AT) == DAY
    assert day_of(AT + DAY_S) == "2023-11-15"
