"""The rules of comparing: tolerance, patterns of paths, and what the operator's table makes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rollout.rules import (
    Tolerance,
    patterns_of,
    relative_error,
    rules_of,
    unit_factor,
)
from proxy.settings_tables import CompareTable

NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -(10**400), 2**53 + 1]))
ONE_PERCENT = Tolerance(0.01, 1)
EXACT = Tolerance(0, 0)


@pytest.mark.parametrize(
    ("a", "b", "differs"),
    [
        (100, 101, False),
        (100, 101.02, True),
        (0, 0.01, False),
        (0, 0.011, True),
        (-100, 100, True),
        (1.0, 1, False),
    ],
)
def test_a_difference_exceeds_the_tolerance(a: float, b: float, differs: bool) -> None:
    assert ONE_PERCENT.is_exceeded(a, b) is differs
    assert ONE_PERCENT.is_exceeded(b, a) is differs


def test_relative_and_floor_of_zero_are_exact() -> None:
    assert EXACT.is_exceeded(1000, 1001)
    assert EXACT.is_exceeded(0.1 + 0.2, 0.3)
    assert EXACT.is_exceeded(10**400, 10**400 + 1)
    assert not EXACT.is_exceeded(1000, 1000.0)


def test_what_is_no_number_or_endless_differs_from_every_number() -> None:
    huge = 10**400
    for odd in (math.nan, math.inf, -math.inf):
        for number in (0, 1.5, huge, -huge):
            assert ONE_PERCENT.is_exceeded(odd, number)
            assert ONE_PERCENT.is_exceeded(number, odd)
        assert not ONE_PERCENT.is_exceeded(odd, odd)
    assert ONE_PERCENT.is_exceeded(math.inf, -math.inf)
    assert not ONE_PERCENT.is_exceeded(huge, huge + 1)
    assert ONE_PERCENT.is_exceeded(huge, 1)


@given(NUMBERS, NUMBERS, st.floats(0, 2), st.floats(0, 100))
def test_no_pair_of_numbers_raises(a: float, b: float, relative: float, floor: float) -> None:
    tolerance = Tolerance(relative, floor)
    assert tolerance.is_exceeded(a, b) == tolerance.is_exceeded(b, a)
    assert not tolerance.is_exceeded(a, a)
    error = relative_error(a, b)
    assert error is None or 0 <= error <= 2
    assert unit_factor(a, b, tolerance) == -unit_factor(b, a, tolerance)


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [(100, 105, 5 / 105), (0, 5, 1.0), (0, 0.0, 0.0), (-5, 5, 2.0), (1e308, -1e308, 2.0)],
)
def test_a_relative_error_is_of_the_greater_number(a: float, b: float, error: float) -> None:
    assert relative_error(a, b) == pytest.approx(error)


@pytest.mark.parametrize(
    ("control", "candidate", "factor"),
    [
        (15.5, 0.155, 100),
        (0.155, 15.5, -100),
        (0.123457, 12.345678, -100),
        (15.5, 0.5, 0),
        (15.5, -0.155, 0),
        (0, 15.5, 0),
        (math.nan, 1, 0),
        (10**400, 1, 0),
    ],
)
def test_a_percent_of_a_fraction_is_known(control: float, candidate: float, factor: int) -> None:
    assert unit_factor(control, candidate, ONE_PERCENT) == factor
    assert unit_factor(control, candidate, EXACT) == factor


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("metadata.*", "metadata.generated_at"),
        ("metadata.*", "metadata.query_config.depth"),
        ("user_details.*", "data.*.user_details.trial_ids"),
        ("user_details.*", "data.*.children.*.user_details.trial_ids"),
        ("data.*.breakdown_data", "data.*.breakdown_data"),
        ("data.*.breakdown_data", "data.*.children.*.breakdown_data"),
        ("sparkline_data", "data.*.sparkline_data"),
        ("children.*.spend", "data.*.children.*.spend"),
        ("avg_*_rate", "data.*.avg_refund_rate"),
        ("a+b?[c]", "data.*.a+b?[c]"),
        ("*" * 300, "data"),
    ],
)
def test_a_pattern_fits_the_whole_path_or_what_is_below_a_record(pattern: str, path: str) -> None:
    assert patterns_of((pattern,)).match(path)
    assert patterns_of(("nothing", pattern)).match(path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("metadata.*", "metadata"),
        ("spend", "data.*.meta_spend"),
        ("spend", "data.*.spend.deep"),
        ("spend", "metadata.spend"),
        ("a.c", "data.*.abc"),
        ("", ""),
    ],
)
def test_a_pattern_fits_nothing_else(pattern: str, path: str) -> None:
    assert not patterns_of((pattern,)).match(path)


def test_no_pattern_fits_nothing() -> None:
    assert not patterns_of(()).match("")
    assert not patterns_of(()).match("data.*.spend")


def test_a_field_has_its_own_tolerance_where_the_table_says_so() -> None:
    table = CompareTable.model_validate(
        {
            "relative": 0.02,
            "floor": 5,
            "fields": {"spend": {"relative": 0}, "trials": {"relative": 0, "floor": 0}},
        }
    )
    rules = rules_of(table, frozenset({"roas"}))
    assert rules.tolerance_of("profit") == Tolerance(0.02, 5)
    assert rules.tolerance_of("spend") == Tolerance(0, 5)
    assert rules.tolerance_of("trials") == EXACT
    assert rules.rates == {"roas"}


def test_what_the_table_says_without_a_word_of_the_operator() -> None:
    rules = rules_of(CompareTable(), frozenset())
    assert rules.tolerance == ONE_PERCENT
    assert "spend" in rules.deciding
    assert rules.ignore.match("metadata.generated_at")
    assert rules.as_set.match("data.*.user_details.ids")
