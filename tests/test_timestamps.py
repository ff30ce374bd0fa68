"""Moments as the pipeline spells them, compared by what they mean."""

from datetime import datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.timestamps import before, newer

fixed = settings(derandomize=True, database=None, deadline=None)

spellings = st.builds(
    lambda moment, separator, timespec: moment.isoformat(separator, timespec),
    st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 3)),
    st.sampled_from([" ", "T"]),
    st.sampled_from(["seconds", "microseconds"]),
)


@fixed
@given(spellings, spellings)
def test_the_later_moment_wins_however_it_is_spelt(one: str, other: str) -> None:
    found = newer(one, other)
    assert found is not None
    latest = max(datetime.fromisoformat(one), datetime.fromisoformat(other))
    assert datetime.fromisoformat(found) == latest
    assert found == newer(other, one)


def test_nothing_is_older_than_anything() -> None:
    assert newer(None, None) is None
    assert newer(None, "2024-01-01 00:00:00") == "2024-01-01 00:00:00"
    assert newer("2024-01-01 00:00:00", None) == "2024-01-01 00:00:00"


def test_one_moment_spelt_three_ways_is_always_named_the_same() -> None:
    ways = ("2024-01-01 10:00:00", "2024-01-01T10:00:00", "2024-01-01 10:00:00.000000")
    found = set()
    for order in permutations(ways):
        newest: str | None = None
        for text in order:
            newest = newer(newest, text)
        found.add(newest)
    assert len(found) == 1


@fixed
@given(spellings, st.integers(61, 600))
def test_what_comes_before_sorts_before_each_later_spelling(text: str, minutes: int) -> None:
    bound = before(text, minutes / 60)
    earlier = datetime.fromisoformat(text) - timedelta(minutes=minutes)
    for separator in " T":
        assert bound <= earlier.isoformat(separator, "microseconds")
    assert bound < text


@pytest.mark.parametrize("text", ["soon", "", "0001-01-01 00:00:00"])
def test_what_is_no_time_is_its_own_bound(text: str) -> None:
    assert before(text, 2.0) == text
