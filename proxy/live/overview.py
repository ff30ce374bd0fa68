"""Overview: what one look at the console shows, as JSON values; several are added up. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from proxy.live.counters import EDGES_S, PLACES, SOURCES, Buckets, Counters, percentile_s

Overview = Mapping[str, Any]

JOBS_SHOWN = 5
MOST_POINTS = 180

_PERCENTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
_HIT = ("hit",)
_MISS = ("miss", "stale")
"""An entry that had gone stale was loaded anew: for whoever waits that is a miss."""
_FRESHNESS = ("settled", "rebuilding", "unknown")
_SOURCE_STATES = ("off", "up", "down")


def overview_of(
    counters: Counters,
    history: Sequence[Mapping[str, Any]],
    step_s: int,
    told: Mapping[str, Any],
    *,
    max_bytes: int,
) -> dict[str, Any]:
    """`history` are points of `point_of`; `told` is the status: freshness, split …

    `requests.hits` and `.misses` are of what the cache was asked for, so that the
    hit ratio is hits / (hits + misses): what was passed through or dealt to the
    legacy is in `total` only.
    """
    return {
        **told,
        "cache": {**told["cache"], "max_bytes": max_bytes},
        "requests": {
            "total": sum(counters.sources.values()),
            "hits": _of(counters.results, _HIT),
            "misses": _of(counters.results, _MISS),
            "by_source": _in_order(counters.sources),
            "by_result": dict(sorted(counters.results.items())),
        },
        "latency": _latencies(counters.seconds),
        "places": _latencies(counters.places),
        "history": list(history),
        "step_s": step_s,
    }


def point_of(at: int, counters: Counters) -> dict[str, Any]:
    """One step of the history, which ended `at`; `counters` are those of that step alone."""
    return _as_point(
        at,
        sum(counters.sources.values()),
        _of(counters.results, _HIT),
        _of(counters.results, _MISS),
        counters.sources,
        counters.seconds,
    )


def merge(overviews: Iterable[Overview]) -> dict[str, Any]:
    """The overview of several processes: counts add up, percentiles come from the added buckets.

    The order does not matter, nor whether some were merged before. Of states the
    worst is told, of the split and the rollout what the newest overview has. Raises
    ValueError without any.
    """
    all_of = list(overviews)
    if not all_of:
        raise ValueError("no overview to merge")
    newest = max(all_of, key=lambda one: (one["at"], _text(one.get("split"), one.get("rollout"))))
    merged: dict[str, Any] = {
        "at": newest["at"],
        "version": max(str(one["version"]) for one in all_of),
        "uptime_s": max(one["uptime_s"] for one in all_of),
        "freshness": max((one["freshness"] for one in all_of), key=_worse),
        "sources": _worst_sources([one["sources"] for one in all_of]),
        "cache": _added([one["cache"] for one in all_of]),
        "jobs": sorted((job for one in all_of for job in one["jobs"]), key=_later, reverse=True)[
            :JOBS_SHOWN
        ],
        "requests": _merged_requests([one["requests"] for one in all_of]),
        "latency": _merged_latencies([one["latency"] for one in all_of]),
        "places": _merged_latencies([one["places"] for one in all_of]),
        "history": _merged_history([one["history"] for one in all_of]),
        "step_s": max(one["step_s"] for one in all_of),
    }
    merged |= {name: newest[name] for name in ("split", "rollout") if name in newest}
    return merged


def _latencies(seconds: Mapping[str, Buckets]) -> dict[str, Any]:
    return {name: _latency(seconds[name]) for name in _in_order(seconds)}


def _latency(buckets: Buckets) -> dict[str, Any]:
    return {
        "count": sum(buckets.values()),
        "buckets": [[_edge(edge), buckets.get(edge, 0)] for edge in _edges(buckets)],
        **{name: _ms(percentile_s(buckets, share)) for name, share in _PERCENTILES.items()},
    }


def _as_point(
    at: int,
    requests: int,
    hits: int,
    misses: int,
    sources: Mapping[str, int],
    seconds: Mapping[str, Buckets],
) -> dict[str, Any]:
    ordered = {source: seconds[source] for source in _in_order(seconds)}
    return {
        "at": at,
        "requests": requests,
        "hits": hits,
        "misses": misses,
        "by_source": _in_order(sources),
        "latency": {source: _few(buckets) for source, buckets in ordered.items()},
        "p95_ms": {source: _ms(percentile_s(buckets, 0.95)) for source, buckets in ordered.items()},
    }


def _few(buckets: Buckets) -> list[list[float | int | None]]:
    """The buckets with something in them, each with the one below it, where it begins.

    There are many points; the rest is zeros.
    """
    listed = []
    edges = _edges(buckets)
    for place, edge in enumerate(edges):
        above = edges[place + 1] if place + 1 < len(edges) else edge
        if buckets.get(edge) or buckets.get(above):
            listed.append([_edge(edge), buckets.get(edge, 0)])
    return listed


def _merged_requests(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        **_added([{name: part[name] for name in ("total", "hits", "misses")} for part in parts]),
        "by_source": _in_order(_added([part["by_source"] for part in parts])),
        "by_result": dict(sorted(_added([part["by_result"] for part in parts]).items())),
    }


def _merged_latencies(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return _latencies(
        _merged_buckets([{name: told["buckets"] for name, told in part.items()} for part in parts])
    )


def _merged_history(parts: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Points of one step are one point, of those processes that have told theirs."""
    by_step: dict[int, list[Mapping[str, Any]]] = {}
    for points in parts:
        for point in points:
            by_step.setdefault(point["at"], []).append(point)
    return [
        _as_point(
            at,
            sum(point["requests"] for point in by_step[at]),
            sum(point["hits"] for point in by_step[at]),
            sum(point["misses"] for point in by_step[at]),
            _added([point["by_source"] for point in by_step[at]]),
            _merged_buckets([point["latency"] for point in by_step[at]]),
        )
        for at in sorted(by_step)[-MOST_POINTS:]
    ]


def _merged_buckets(
    parts: Iterable[Mapping[str, Sequence[tuple[float | None, int]]]],
) -> dict[str, dict[float, int]]:
    merged: dict[str, dict[float, int]] = {}
    for part in parts:
        for source, listed in part.items():
            buckets = merged.setdefault(source, {})
            for edge, count in listed:
                upper = float("inf") if edge is None else edge
                buckets[upper] = buckets.get(upper, 0) + count
    return merged


def _worst_sources(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    names = sorted({name for part in parts for name in part})
    rank: Callable[[str], tuple[int, str]] = lambda state: (  # noqa: E731
        _SOURCE_STATES.index(state) if state in _SOURCE_STATES else len(_SOURCE_STATES),
        state,
    )
    return {name: max((part[name] for part in parts if name in part), key=rank) for name in names}


def _worse(freshness: Mapping[str, Any]) -> tuple[int, str]:
    state = freshness["state"]
    rank = _FRESHNESS.index(state) if state in _FRESHNESS else len(_FRESHNESS)
    return rank, _text(freshness)


def _later(job: Mapping[str, Any]) -> tuple[bool, str, str]:
    """What has not begun comes after all that has."""
    return job["started_at"] is None, job["started_at"] or "", _text(job)


def _added(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            sums[name] = sums.get(name, 0) + count
    return sums


def _in_order(by_source: Mapping[str, Any]) -> dict[str, Any]:
    """The known words first, in their order."""
    known = [name for name in (*SOURCES, *PLACES) if name in by_source]
    return {name: by_source[name] for name in [*known, *sorted(by_source.keys() - set(known))]}


def _of(results: Mapping[str, int], words: Iterable[str]) -> int:
    return sum(results.get(word, 0) for word in words)


def _edges(buckets: Buckets) -> list[float]:
    return sorted({*EDGES_S, *buckets})


def _edge(edge: float) -> float | None:
    return None if edge == float("inf") else edge


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _text(*values: object) -> str:
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()
