"""Moments as the pipeline spells them, compared by what they mean."""

from datetime import datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.timestamps import before, epoch_s, is_later, newer

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


@pytest.mark.parametrize(
    ("one", "other", "is_so"),
    [
        ("2024-01-01 03:00:01", "2024-01-01 03:00:00", True),
        ("2024-01-01 03:00:00", "2024-01-01T03:00:00", False),
        ("2024-01-01T03:00:00", "2024-01-01 03:00:00", False),
        ("2024-01-01 03:00:00", None, True),
        (None, "2024-01-01 03:00:00", False),
        (None, None, False),
    ],
)
def test_a_moment_is_later_however_it_is_spelt(
    one: str | None, other: str | None, is_so: bool
) -> None:
    assert is_later(one, other) is is_so


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01 00:01:00", 60.0),
        ("1970-01-01T00:01:00.500000", 60.5),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("yesterday", None),
        (None, None),
    ],
)
def test_a_text_without_a_zone_is_in_utc(text: str | None, seconds: float | None) -> None:
    assert epoch_s(text) == seconds
