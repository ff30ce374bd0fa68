"""The overview: what it counts as what, percentiles against an oracle, several added up."""

from math import inf
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.live.counters import EDGES_S, NOTHING, PLACES, SOURCES, Counters
from proxy.live.overview import JOBS_SHOWN, MOST_POINTS, merge, overview_of, point_of

fixed = settings(derandomize=True, database=None, deadline=None)

NAMES = st.sampled_from(SOURCES)
COUNTS = st.integers(1, 10**6)
BUCKETS = st.dictionaries(st.sampled_from(EDGES_S), COUNTS, min_size=1, max_size=3)
COUNTERS = st.builds(
    Counters,
    st.dictionaries(NAMES, COUNTS),
    st.dictionaries(st.sampled_from(["hit", "miss", "stale", "bypass", "error"]), COUNTS),
    st.dictionaries(NAMES, BUCKETS, max_size=3),
    st.dictionaries(st.sampled_from(PLACES), BUCKETS, max_size=2),
)
INSTANTS = st.integers(0, 59).map("2024-01-01T00:00:{:02}.000Z".format)
JOBS = st.builds(
    lambda number, at: {"id": f"warm-{number}", "started_at": at},
    st.integers(0, 99),
    st.none() | INSTANTS,
)
STATUS = st.fixed_dictionaries(
    {
        "at": INSTANTS,
        "version": st.sampled_from(["0.1.0", "0.2.0"]),
        "uptime_s": st.integers(0, 1000).map(float),
        "freshness": st.fixed_dictionaries(
            {
                "state": st.sampled_from(["settled", "rebuilding", "unknown"]),
                "since": st.none() | INSTANTS,
            }
        ),
        "sources": st.fixed_dictionaries(
            {name: st.sampled_from(["up", "down", "off"]) for name in ("database", "redis")}
        ),
        "cache": st.fixed_dictionaries(
            {name: st.integers(0, 1000) for name in ("entries", "bytes", "hits", "misses")}
        ),
        "jobs": st.lists(JOBS, max_size=4),
        "split": st.fixed_dictionaries({"percent": st.integers(0, 100)}),
        "rollout": st.fixed_dictionaries({"step": st.integers(0, 5)}),
    }
)
HISTORIES = st.dictionaries(st.integers(0, 400).map(lambda step: step * 5), COUNTERS, max_size=3)


@st.composite
def overviews(draw: st.DrawFn) -> dict[str, Any]:
    history = [point_of(at, step) for at, step in sorted(draw(HISTORIES).items())]
    return overview_of(draw(COUNTERS), history, 5, draw(STATUS), max_bytes=1000)


def added(one: Counters, other: Counters) -> Counters:
    def sums(left: Any, right: Any) -> Any:
        if isinstance(left, int) or isinstance(right, int):
            return (left or 0) + (right or 0)
        names = (left or {}).keys() | (right or {}).keys()
        return {name: sums((left or {}).get(name), (right or {}).get(name)) for name in names}

    return Counters(
        sums(one.sources, other.sources),
        sums(one.results, other.results),
        sums(one.seconds, other.seconds),
        sums(one.places, other.places),
    )


def an_overview(counters: Counters = NOTHING, **told: Any) -> dict[str, Any]:
    status = {
        "at": "2024-01-01T00:00:00.000Z",
        "version": "1",
        "uptime_s": 1.0,
        "freshness": {"state": "settled"},
        "sources": {},
        "cache": {"entries": 1, "bytes": 10, "hits": 2, "misses": 3},
        "jobs": [],
        **told,
    }
    return overview_of(counters, [], 5, status, max_bytes=100)


def test_hits_and_misses_are_of_what_the_cache_was_asked_for() -> None:
    results = {"hit": 6, "miss": 2, "stale": 1, "bypass": 40, "passthrough": 500, "error": 3}
    sources = {"optimized": 9, "legacy": 40, "passthrough": 500, "none": 3}
    told = an_overview(Counters(sources, results, {}, {}))["requests"]
    assert (told["total"], told["hits"], told["misses"]) == (552, 6, 3)
    assert told["by_source"] == sources
    assert told["by_result"] == results


def test_all_buckets_are_told_the_last_without_an_edge() -> None:
    told = an_overview(Counters({}, {}, {"optimized": {0.05: 3, inf: 1}}, {}))
    latency = told["latency"]["optimized"]
    assert [edge for edge, _ in latency["buckets"]] == [*EDGES_S[:-1], None]
    assert {edge: count for edge, count in latency["buckets"] if count} == {0.05: 3, None: 1}
    assert latency["count"] == 4
    assert latency["p50_ms"] == pytest.approx(25 + 25 * 2 / 3, abs=0.001)
    assert latency["p99_ms"] == 120_000


def test_a_point_tells_a_bucket_and_where_it_begins() -> None:
    point = point_of(10, Counters({}, {}, {"optimized": {0.0001: 1, 0.05: 2, inf: 3}}, {}))
    told = point["latency"]["optimized"]
    assert told == [[0.0001, 1], [0.025, 0], [0.05, 2], [120.0, 0], [None, 3]]


def test_an_overview_is_json() -> None:
    told = an_overview(Counters({"optimized": 1}, {"hit": 1}, {"optimized": {inf: 1}}, {}))
    assert orjson.loads(orjson.dumps(told)) == told


def test_nothing_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="no overview"):
        merge([])


@fixed
@given(one=overviews())
def test_one_alone_is_itself(one: dict[str, Any]) -> None:
    merged = merge([one])
    assert merged | {"jobs": 0} == one | {"jobs": 0}
    assert sorted(map(str, merged["jobs"])) == sorted(map(str, one["jobs"]))


@fixed
@given(one=overviews(), other=overviews())
def test_the_order_does_not_matter(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert merge([one, other]) == merge([other, one])


@fixed
@given(one=overviews(), other=overviews(), third=overviews())
def test_what_was_merged_can_be_merged_again(
    one: dict[str, Any], other: dict[str, Any], third: dict[str, Any]
) -> None:
    at_once = merge([one, other, third])
    assert merge([merge([one, other]), third]) == at_once
    assert merge([one, merge([other, third])]) == at_once


@fixed
@given(one=overviews())
def test_it_can_be_merged_after_a_journey_as_json(one: dict[str, Any]) -> None:
    assert merge([orjson.loads(orjson.dumps(one)), one]) == merge([one, one])


@fixed
@given(one=COUNTERS, other=COUNTERS)
def test_merged_it_is_the_overview_of_the_added_counters(one: Counters, other: Counters) -> None:
    both = added(one, other)
    merged = merge([an_overview(one), an_overview(other)])
    expected = an_overview(both)
    for name in ("requests", "latency", "places"):
        assert merged[name] == expected[name]


@fixed
@given(one=COUNTERS, other=COUNTERS)
def test_points_of_one_step_are_the_point_of_both(one: Counters, other: Counters) -> None:
    left = an_overview() | {"history": [point_of(5, other), point_of(10, one)]}
    right = an_overview() | {"history": [point_of(10, other), point_of(15, one)]}
    assert merge([left, right])["history"] == [
        point_of(5, other),
        point_of(10, added(one, other)),
        point_of(15, one),
    ]


def test_of_the_points_the_newest_are_kept() -> None:
    many = an_overview() | {"history": [point_of(at, NOTHING) for at in range(0, 5 * 180, 5)]}
    later = an_overview() | {"history": [point_of(at, NOTHING) for at in range(50, 950, 5)]}
    merged = merge([many, later])["history"]
    assert len(merged) == MOST_POINTS
    assert (merged[0]["at"], merged[-1]["at"]) == (50, 945)


def test_of_states_the_worst_is_told_and_numbers_add_up() -> None:
    one = an_overview(
        freshness={"state": "rebuilding"}, sources={"redis": "down", "database": "up"}
    )
    other = an_overview(uptime_s=9.0, sources={"redis": "up", "database": "up", "legacy": "off"})
    merged = merge([one, other])
    assert merged["freshness"] == {"state": "rebuilding"}
    assert merged["sources"] == {"database": "up", "legacy": "off", "redis": "down"}
    assert merged["cache"] == {"entries": 2, "bytes": 20, "hits": 4, "misses": 6, "max_bytes": 200}
    assert merged["uptime_s"] == 9.0


def test_the_split_is_that_of_the_newest() -> None:
    old = an_overview(at="2024-01-01T00:00:01.000Z", split={"percent": 90}, rollout={"step": 9})
    new = an_overview(at="2024-01-01T00:00:02.000Z", split={"percent": 5}, rollout={"step": 1})
    merged = merge([new, old])
    assert (merged["at"], merged["split"], merged["rollout"]) == (
        "2024-01-01T00:00:02.000Z",
        {"percent": 5},
        {"step": 1},
    )


def test_the_jobs_are_the_newest_of_all_those_that_wait_first() -> None:
    begun = [
        {"id": f"a{hour}", "started_at": f"2024-01-01T0{hour}:00:00.000Z"} for hour in range(5)
    ]
    waiting = {"id": "b", "started_at": None}
    jobs = merge([an_overview(jobs=begun), an_overview(jobs=[waiting])])["jobs"]
    assert [job["id"] for job in jobs] == ["b", "a4", "a3", "a2", "a1"]
    assert len(jobs) == JOBS_SHOWN
