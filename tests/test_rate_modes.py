"""Which rate mode comes nearer to the legacy is told row by row."""

import math
from datetime import date
from typing import Any

import pytest

from proxy.query import Query
from proxy.rollout.rate_modes import closer
from proxy.rollout.rules import rules_of
from proxy.settings_tables import CompareTable

QUERY = Query("analytics", date(2024, 1, 1), date(2024, 1, 2), "campaign")
RULES = rules_of(CompareTable(), frozenset({"roas", "conversion_rate"}))


def rows(*roas: Any, **more: object) -> list[Any]:
    return [{"id": f"campaign_{n}", "roas": one, "spend": n, **more} for n, one in enumerate(roas)]


def answer(*roas: Any, **more: object) -> dict[str, Any]:
    return {"success": True, "data": rows(*roas, **more)}


def votes(
    legacy: object, mean: object, ratio: object, query: Query = QUERY
) -> dict[str, tuple[int, int, int]]:
    return dict(closer(legacy, mean, ratio, RULES, query=query))


def test_each_row_has_a_vote() -> None:
    legacy, mean, ratio = answer(2.0, 3.0, 1.0), answer(2.0, 3.5, 1.5), answer(2.4, 3.1, 0.5)
    assert votes(legacy, mean, ratio) == {"roas": (1, 1, 1)}
    assert votes(legacy, ratio, mean) == {"roas": (1, 1, 1)}


def test_equal_modes_are_equally_near() -> None:
    assert votes(answer(2.0), answer(1.0), answer(1.0)) == {"roas": (0, 0, 1)}
    assert votes(answer(0), answer(0), answer(0.0)) == {"roas": (0, 0, 1)}


def test_percents_are_read_as_percents() -> None:
    legacy, mean, ratio = answer(15.5, 20), answer(0.155, 0.3), answer(0.3, 0.2)
    assert votes(legacy, mean, ratio) == {"roas": (1, 1, 0)}


def test_the_unit_is_that_of_a_place_and_not_of_a_row() -> None:
    # Read as a percent, the first would be nearer to the ratio.
    legacy, mean, ratio = answer(0.5, 0.5, 0.5), answer(0.04, 0.5, 0.5), answer(0.01, 0.4, 0.4)
    assert votes(legacy, mean, ratio) == {"roas": (3, 0, 0)}


def test_children_may_be_percents_below_fractions() -> None:
    def nested(own: float, child: float) -> object:
        return answer(own, children=[{"id": "adset_1", "roas": child}])

    assert votes(nested(0.5, 40.0), nested(0.5, 0.3), nested(0.6, 0.4)) == {"roas": (1, 1, 0)}


def test_breakdowns_count_too() -> None:
    def split(own: float) -> object:
        return answer(0.5, breakdowns=[{"type": "country", "values": [{"id": "US", "roas": own}]}])

    assert votes(split(0.3), split(0.3), split(0.4)) == {"roas": (1, 0, 1)}


def test_levels_that_were_not_asked_for_do_not_count() -> None:
    flat = Query("analytics", date(2024, 1, 1), date(2024, 1, 2), "campaign", depth=1)
    legacy = answer(2.0, children=rows(1.0))
    assert votes(legacy, legacy, legacy) == {"roas": (0, 0, 2)}
    assert votes(legacy, legacy, legacy, flat) == {"roas": (0, 0, 1)}


def test_rows_that_are_not_everywhere_do_not_count() -> None:
    assert votes(answer(2.0, 1.0), answer(2.0), answer(2.0, 1.0)) == {"roas": (0, 0, 1)}


@pytest.mark.parametrize("value", [None, "0.5", True, [], math.nan, math.inf, 10**400])
def test_what_is_no_rate_does_not_count(value: object) -> None:
    odd, good = answer(value), answer(1)
    for sides in ((odd, good, good), (good, odd, good), (good, good, odd)):
        assert votes(*sides) == {}
    assert votes(answer(1e308), answer(-1e308), answer(1e308)) == {"roas": (0, 1, 0)}


def test_anything_else_than_rows_says_nothing() -> None:
    strange: object
    for strange in (None, [], {"data": "x"}, {"data": [1, {"roas": None}]}):
        assert votes(strange, answer(1), answer(1)) == {}
        assert votes(strange, strange, strange) == {}
