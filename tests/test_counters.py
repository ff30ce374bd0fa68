"""What is counted as coming from where, and percentiles of what only buckets tell."""

from fractions import Fraction
from math import ceil, inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.live.counters import EDGES_S, NOTHING, Counters, counters_of, percentile_s
from proxy.telemetry import Telemetry

fixed = settings(derandomize=True, database=None, deadline=None)

BUCKETS = st.dictionaries(st.sampled_from(EDGES_S), st.integers(0, 50))
SHARES = st.sampled_from([0.5, 0.95, 0.99, 1.0])


def count(telemetry: Telemetry, route: str, source: str, result: str, seconds: float) -> None:
    telemetry.requests.labels(route, source, result).inc()
    telemetry.request_seconds.labels(route, source).observe(seconds)


def oracle_s(buckets: dict[float, int], share: float) -> float | None:
    """One by one: the k-th of n in a bucket lies at k/n of its width."""
    each: list[Fraction] = []
    lower = Fraction(0)
    for edge in EDGES_S:
        number = buckets.get(edge, 0)
        upper = lower if edge == inf else Fraction(edge)
        each += [lower + (upper - lower) * Fraction(k, number) for k in range(1, number + 1)]
        lower = upper
    if not each:
        return None
    # The rank may lie between two of them: on the straight line from one to the next.
    rank = Fraction(share) * len(each)
    return float(each[ceil(rank) - 1])


@fixed
@given(buckets=BUCKETS, share=SHARES)
def test_a_percentile_is_within_one_of_the_oracles(buckets: dict[float, int], share: float) -> None:
    found, expected = percentile_s(buckets, share), oracle_s(buckets, share)
    if expected is None:
        assert found is None
        return
    assert found is not None
    # Within the bucket, and off by less than what one of its counted takes of its width.
    edge = next(edge for edge in EDGES_S if expected <= edge)
    width = edge - max((lower for lower in EDGES_S if lower < edge), default=0.0)
    assert expected - width / max(1, buckets.get(edge, 1)) - 1e-9 <= found <= expected + 1e-9


@fixed
@given(number=st.integers(1, 1000), share=st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_within_a_bucket_the_line_is_straight(number: int, share: float) -> None:
    assert percentile_s({0.05: number}, share) == pytest.approx(0.025 + 0.025 * share)


@fixed
@given(buckets=BUCKETS)
def test_percentiles_grow(buckets: dict[float, int]) -> None:
    found = [percentile_s(buckets, share) or 0.0 for share in (0.5, 0.95, 0.99)]
    assert found == sorted(found)


def test_nothing_counted_has_no_percentile() -> None:
    assert percentile_s({}, 0.5) is None
    assert percentile_s({0.05: 0}, 0.5) is None


def test_the_first_bucket_begins_at_zero() -> None:
    assert percentile_s({EDGES_S[0]: 2}, 0.5) == pytest.approx(EDGES_S[0] / 2)


def test_beyond_the_last_edge_only_that_edge_is_known() -> None:
    assert percentile_s({inf: 7}, 0.5) == 120.0
    assert percentile_s({0.001: 1, inf: 99}, 0.99) == 120.0


def test_sources_are_told_apart_as_an_operator_does() -> None:
    telemetry = Telemetry()
    count(telemetry, "data", "optimized", "hit", 0.0001)
    count(telemetry, "analytics", "optimized", "miss", 0.01)
    count(telemetry, "analytics", "legacy", "bypass", 2.0)
    count(telemetry, "data", "stale", "stale", 0.02)
    count(telemetry, "cached", "legacy", "hit", 0.001)
    count(telemetry, "cached", "none", "error", 1.0)
    count(telemetry, "passthrough", "legacy", "bypass", 0.3)
    telemetry.requests.labels("data", "none", "error").inc()
    telemetry.requests.labels("data", "legacy", "refused").inc()
    counters = counters_of(telemetry.counted())
    assert counters.sources == {
        "optimized": 2,
        "legacy": 1,
        "stale": 1,
        "cached_routes": 1,
        "passthrough": 1,
        "none": 3,
    }
    assert counters.results == {
        "hit": 2,
        "miss": 1,
        "bypass": 1,
        "stale": 1,
        "passthrough": 1,
        "error": 2,
        "refused": 1,
    }
    assert counters.seconds == {
        "optimized": {0.0001: 1, 0.01: 1},
        "legacy": {2.5: 1},
        "stale": {0.025: 1},
        "cached_routes": {0.001: 1},
        "passthrough": {0.5: 1},
    }


def test_what_memory_answered_is_what_came_from_nowhere_beyond_it() -> None:
    telemetry = Telemetry()
    for seconds in (0.0001, 0.0001, 0.002, 0.04):
        count(telemetry, "data", "optimized", "hit", seconds)
    count(telemetry, "cached", "optimized", "hit", 0.0001)
    telemetry.beyond_memory_seconds.labels("data", "redis").observe(0.002)
    telemetry.beyond_memory_seconds.labels("data", "database").observe(0.04)
    assert counters_of(telemetry.counted()).places == {
        "memory": {0.0001: 2},
        "redis": {0.0025: 1},
        "database": {0.05: 1},
    }


def test_nothing_counted_is_nothing() -> None:
    assert counters_of(Telemetry().counted()) == NOTHING


def test_a_difference_has_only_what_is_new() -> None:
    before = Counters({"optimized": 3, "legacy": 1}, {"hit": 3}, {"optimized": {0.05: 3}}, {})
    now = Counters(
        {"optimized": 5, "legacy": 1},
        {"hit": 4, "miss": 1},
        {"optimized": {0.05: 3, 0.1: 2}},
        {"memory": {0.05: 1}},
    )
    assert now.since(before) == Counters(
        {"optimized": 2}, {"hit": 1, "miss": 1}, {"optimized": {0.1: 2}}, {"memory": {0.05: 1}}
    )
    assert now.since(now) == NOTHING
