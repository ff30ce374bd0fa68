"""Raw parameters to a Query: equal meaning gives equal queries and keys, and nothing else does."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.canonical import (
    Limits,
    UnknownParameterError,
    canonicalize,
    parse_body,
    parse_query_string,
)
from proxy.errors import RequestError
from proxy.keys import fingerprint_of, key_for
from proxy.query import BREAKDOWNS, LEVELS, Query, ShapeName

LIMITS = Limits(max_range_days=1100)
SHAPES: tuple[ShapeName, ...] = ("dashboard", "analytics")
LEVEL_NAMES: dict[ShapeName, str] = {"dashboard": "hierarchy", "analytics": "group_by"}
DEFAULT_LEVELS: dict[ShapeName, str] = {"dashboard": "campaign", "analytics": "ad"}
BOOLEANS = {True: ["true", "TRUE", "1"], False: ["false", "False", "0"]}

fixed = settings(derandomize=True, database=None, deadline=None)

queries = st.builds(
    lambda shape, start, days, level, breakdown, depth, has_sparkline: Query(
        shape, start, start + timedelta(days=days), level, breakdown, depth, has_sparkline
    ),
    st.sampled_from(SHAPES),
    # Few values: two questions have to meet now and then.
    st.dates(date(2024, 2, 28), date(2024, 3, 1)),
    st.integers(0, 2),
    st.sampled_from(LEVELS),
    st.sampled_from(BREAKDOWNS),
    st.integers(1, 3),
    st.booleans(),
)


@st.composite
def spellings(draw: st.DrawFn, query: Query) -> Mapping[str, Any]:
    """A JSON object that means `query`: any order, defaults sent or left out."""
    reach = len(LEVELS) - LEVELS.index(query.level)
    depth = draw(st.integers(reach, 3)) if query.depth == reach else query.depth
    parameters: list[tuple[str, Any, bool]] = [
        (LEVEL_NAMES[query.shape], query.level, query.level == DEFAULT_LEVELS[query.shape]),
        ("breakdown", query.breakdown, query.breakdown == "all"),
        ("depth", draw(st.sampled_from([depth, float(depth)])), query.depth == reach),
        ("include_sparkline", query.include_sparkline, not query.include_sparkline),
    ]
    sent: dict[str, Any] = {
        "start_date": query.start.isoformat(),
        "end_date": query.end.isoformat(),
    }
    sent |= {
        name: value
        for name, value, is_default in parameters
        if not is_default or draw(st.booleans())
    }
    if query.shape == "analytics" and draw(st.booleans()):
        sent["include_mixpanel"] = draw(st.booleans())
    return dict(draw(st.permutations(list(sent.items()))))


def as_query_string(parameters: Mapping[str, Any], choice: int) -> str:
    texts = {}
    for name, value in parameters.items():
        if isinstance(value, bool):
            texts[name] = BOOLEANS[value][choice % 3]
        else:
            texts[name] = str(int(value)) if name == "depth" else str(value)
    return urlencode(texts)


@fixed
@given(st.data(), queries)
def test_all_spellings_of_a_question_are_one_query(data: st.DataObject, query: Query) -> None:
    spelled = data.draw(spellings(query))
    indented = orjson.dumps(spelled, option=orjson.OPT_INDENT_2)
    assert canonicalize(query.shape, parse_body(indented), LIMITS) == query
    text = as_query_string(spelled, data.draw(st.integers(0, 2)))
    assert canonicalize(query.shape, parse_query_string(text), LIMITS) == query


@settings(fixed, max_examples=300)
@given(st.data(), queries, queries)
def test_keys_are_equal_where_and_only_where_meaning_is(
    data: st.DataObject, one: Query, other: Query
) -> None:
    first = canonicalize(one.shape, data.draw(spellings(one)), LIMITS)
    second = canonicalize(other.shape, data.draw(spellings(other)), LIMITS)
    does_mean_the_same = (
        one.shape == other.shape
        and (one.start, one.end, one.level) == (other.start, other.end, other.level)
        and (one.breakdown, one.levels) == (other.breakdown, other.levels)
        and one.include_sparkline == other.include_sparkline
    )
    assert (first == second) == does_mean_the_same
    assert (key_for(first, "f") == key_for(second, "f")) == does_mean_the_same


@fixed
@given(queries)
def test_the_canonical_parameters_of_a_question_are_that_question(query: Query) -> None:
    assert canonicalize(query.shape, query.as_parameters(), LIMITS) == query


@fixed
@given(queries, st.text(), st.text())
def test_another_program_has_other_keys(query: Query, one: str, other: str) -> None:
    assume(one != other)
    assert key_for(query, one) != key_for(query, other)


def test_parts_of_a_fingerprint_do_not_run_together() -> None:
    parts = [("a", "b"), ("ab",), ("b", "a"), ("a", "b", ""), ()]
    assert len({fingerprint_of(*each) for each in parts}) == len(parts)


GOOD = {"start_date": "2024-02-01", "end_date": "2024-02-29"}


WRONG: dict[str, tuple[object, ...]] = {
    "start_date": (
        None, "", "2024-2-01", "2024-02-30", 20240201, [], "2024-02-01 ", "２０２４-02-01",
        "2024-W05-4",
    ),
    "end_date": ("2024-01-31", "2030-01-01"),
    "breakdown": (None, "", "ALL", "age", 1, ["all"]),
    "depth": (None, 0, 4, 1.5, "2", True, float("nan")),
    "include_sparkline": (None, 1, 0, "true", "yes"),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_value_that_cannot_be_is_refused_by_its_name(
    shape: ShapeName, name: str, value: object
) -> None:
    with pytest.raises(RequestError, match=name) as refused:
        canonicalize(shape, {**GOOD, name: value}, LIMITS)
    assert not isinstance(refused.value, UnknownParameterError)


@pytest.mark.parametrize("value", [None, "", "Ad", "account", 3, ["ad"]])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_unknown_level_is_refused_in_the_legacys_words(shape: ShapeName, value: object) -> None:
    name = LEVEL_NAMES[shape]
    with pytest.raises(RequestError) as refused:
        canonicalize(shape, {**GOOD, name: value}, LIMITS)
    wanted = f"Invalid {name} parameter. Must be one of: ['campaign', 'adset', 'ad']"
    assert str(refused.value) == wanted


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ("dashboard", "group_by"),
        ("dashboard", "include_mixpanel"),
        ("analytics", "hierarchy"),
        ("analytics", "Breakdown"),
        ("analytics", "x" * 500 + "\n"),
    ],
)
def test_an_unknown_name_is_told_before_any_wrong_value(shape: ShapeName, name: str) -> None:
    with pytest.raises(UnknownParameterError) as refused:
        canonicalize(shape, {"breakdown": "age", name: 1}, LIMITS)
    assert len(str(refused.value)) < 300
    assert "\n" not in str(refused.value)


def test_a_range_counts_both_its_ends() -> None:
    parameters = {"start_date": "2024-02-01", "end_date": "2024-02-29"}
    assert canonicalize("dashboard", parameters, Limits(29)).end == date(2024, 2, 29)
    with pytest.raises(RequestError, match="at most 28 days"):
        canonicalize("dashboard", parameters, Limits(28))


def test_of_doubled_json_keys_the_last_counts_and_doubled_parameters_are_refused() -> None:
    body = b'{"start_date":"x","start_date":"2024-02-01","end_date":"2024-02-29"}'
    assert canonicalize("dashboard", parse_body(body), LIMITS).start == date(2024, 2, 1)
    with pytest.raises(RequestError, match="depth"):
        parse_query_string("depth=1&depth=1")


@settings(fixed, max_examples=200)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_a_question_or_a_refusal(raw: bytes) -> None:
    for parse in (parse_body, lambda body: parse_query_string(body.decode("latin-1"))):
        try:
            canonicalize("analytics", parse(raw), LIMITS)
        except RequestError as error:
            refusal = str(error)
        else:
            refusal = ""
        assert refusal.isprintable()
