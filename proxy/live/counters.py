"""Counters: requests by source and result and how long they took, for the console. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from proxy.telemetry import LATENCY_BUCKETS_S, Counted

K = TypeVar("K")
Buckets = Mapping[float, int]
"""Upper edge in seconds -> how many in that bucket alone."""

EDGES_S = (*LATENCY_BUCKETS_S, inf)
SOURCES = ("optimized", "legacy", "stale", "cached_routes", "passthrough", "none")
"""Where answers come from, as the header `X-Dashboard-Source` has it, but for what is not ours.

`cached_routes` are the configured legacy routes, whoever answered them, `passthrough` is all
that is handed on unseen; `none` is an error or a refusal.
"""
PLACES = ("memory", "redis", "database")
"""Where the optimized answers come from: what the database takes is what a miss takes."""

_APART = {"cached": "cached_routes", "passthrough": "passthrough"}
_NO_ANSWER = ("error", "refused")


@dataclass(frozen=True, slots=True)
class Counters:
    """Requests by source, by what the cache said, and by seconds per source and per place."""

    sources: Mapping[str, int]
    results: Mapping[str, int]
    seconds: Mapping[str, Buckets]
    places: Mapping[str, Buckets]

    def since(self, before: "Counters") -> "Counters":
        """What was counted after `before`; what has nothing new is left out."""
        return Counters(
            _without(self.sources, before.sources),
            _without(self.results, before.results),
            _later(self.seconds, before.seconds),
            _later(self.places, before.places),
        )


NOTHING = Counters({}, {}, {}, {})


def counters_of(counted: Counted) -> Counters:
    """What was counted, told apart as SOURCES and PLACES have it."""
    sources: dict[str, int] = {}
    results: dict[str, int] = {}
    for (route, source, result), count in counted.requests.items():
        word = "none" if result in _NO_ANSWER else _APART.get(route, source)
        sources[word] = sources.get(word, 0) + count
        # That somebody else's route was handed on says nothing about the cache.
        said = "passthrough" if route == "passthrough" else result
        results[said] = results.get(said, 0) + count
    seconds: dict[str, dict[float, int]] = {}
    places: dict[str, dict[float, int]] = {}
    for (route, source), buckets in counted.seconds.items():
        if source != "none":
            _add(seconds, _APART.get(route, source), buckets)
        if source == "optimized" and route not in _APART:
            _add(places, "memory", buckets)
    for (_, place), buckets in counted.beyond_memory.items():
        _add(places, place, buckets)
        _add(places, "memory", {edge: -count for edge, count in buckets.items()})
    return Counters(sources, results, seconds, places).since(NOTHING)


def percentile_s(buckets: Buckets, share: float) -> float | None:
    """The seconds within which `share` of all were; None where nothing was counted.

    Within a bucket the counted are taken to lie evenly, the first one beginning at 0. Of what
    lies beyond the last finite edge only that edge is known: it is what is told then.
    """
    total = sum(buckets.values())
    if not total:
        return None
    below, lower = 0, 0.0
    for edge in sorted({*EDGES_S, *buckets}):
        count = buckets.get(edge, 0)
        if count and below + count >= share * total:
            if edge == inf:
                return lower
            return lower + (edge - lower) * (share * total - below) / count
        below += count
        lower = edge
    return lower


def _add(sums: dict[str, dict[float, int]], name: str, buckets: Buckets) -> None:
    sum_of = sums.setdefault(name, {})
    for edge, count in buckets.items():
        sum_of[edge] = sum_of.get(edge, 0) + count


def _later(now: Mapping[str, Buckets], before: Mapping[str, Buckets]) -> dict[str, Buckets]:
    left = {name: _without(buckets, before.get(name, {})) for name, buckets in now.items()}
    return {name: buckets for name, buckets in left.items() if buckets}


def _without(counts: Mapping[K, int], before: Mapping[K, int]) -> dict[K, int]:
    left = {name: count - before.get(name, 0) for name, count in counts.items()}
    return {name: count for name, count in left.items() if count}
