"""Every Prometheus metric the proxy has. One object, handed to whoever counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
)  # fmt: skip
"""One edge is 50 ms: what a miss may take."""


GAUGES: Mapping[str, Literal["sum", "max"]] = {
    "proxy_entries": "sum",
    "proxy_entry_bytes": "sum",
    "proxy_watermark_age_seconds": "max",
    "proxy_split_percent": "max",
    "proxy_rolled_back": "max",
}
"""How each gauge of several processes becomes one. What counts adds up in any case."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Requests so far by route, source and result, and seconds by route and source or place.

    Of seconds: upper edge -> how many in that bucket alone.
    """

    requests: Mapping[tuple[str, ...], int]
    seconds: Mapping[tuple[str, ...], Mapping[float, int]]
    beyond_memory: Mapping[tuple[str, ...], Mapping[float, int]]


class Telemetry:
    """The metrics, on a registry of their own so that two proxies in one process do not mix.

    `route` is one of a fixed few words, never a path a caller chose.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "proxy_requests",
            "Requests answered, by route, by source of the answer and by what the cache said.",
            ["route", "source", "result"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "proxy_request_seconds",
            "Seconds from the request's headers to the answer handed to the socket.",
            ["route", "source"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.beyond_memory_seconds = Histogram(
            "proxy_beyond_memory_seconds",
            "Those of proxy_request_seconds that memory had no answer for, by route and by where "
            "the optimized answer came from: redis or database.",
            ["route", "place"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.sql_seconds = Histogram(
            "proxy_sql_seconds",
            "Seconds per question statement that SQLite ran.",
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.look_seconds = Histogram(
            "proxy_look_seconds",
            "Seconds per look at the watermark or the schema of the database.",
            ["kind"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.store_errors = Counter(
            "proxy_store_errors",
            "Calls to a cache tier that failed, by tier and operation.",
            ["tier", "operation"],
            registry=self.registry,
        )
        self.store_rubbish = Counter(
            "proxy_store_rubbish",
            "Values found in a cache tier that were no entry; each counts as a miss.",
            ["tier"],
            registry=self.registry,
        )
        self.store_evictions = Counter(
            "proxy_store_evictions",
            "Entries dropped from the memory tier to make room.",
            registry=self.registry,
        )
        self.entries = Gauge(
            "proxy_entries", "Entries held by the memory tier.", registry=self.registry
        )
        self.entry_bytes = Gauge(
            "proxy_entry_bytes", "Bytes held by the memory tier.", registry=self.registry
        )
        self.watermark_age_seconds = Gauge(
            "proxy_watermark_age_seconds",
            "Seconds since the watermark was last seen to change.",
            registry=self.registry,
        )
        self.fallbacks = Counter(
            "proxy_fallbacks",
            "Questions that the tables could not answer, by reason and by who answered.",
            ["reason", "source"],
            registry=self.registry,
        )
        self.upstream_errors = Counter(
            "proxy_upstream_errors",
            "Passed-through requests that the legacy did not answer, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.shared_flights = Counter(
            "proxy_shared_flights",
            "Loads that processes on one Redis agree on, by outcome: led, followed, alone "
            "(Redis could not be asked), timeout (waited in vain), refused (written too late).",
            ["outcome"],
            registry=self.registry,
        )

        self.split_percent = Gauge(
            "proxy_split_percent",
            "Percent of the callers of /analytics/data on the optimized side; 0 while rolled back.",
            registry=self.registry,
        )
        self.rolled_back = Gauge(
            "proxy_rolled_back",
            "1 while all traffic of the split goes to the legacy until someone lifts it.",
            registry=self.registry,
        )
        self.rollbacks = Counter(
            "proxy_rollbacks",
            "Rollbacks made in this process, by who made them: guard or operator.",
            ["by"],
            registry=self.registry,
        )
        # A counter that appears with its first increase hides that increase from rate().
        for who in ("guard", "operator"):
            self.rollbacks.labels(who)
        self.shadow_dropped = Counter(
            "proxy_shadow_dropped",
            "Sampled questions that were not compared because the queue was full.",
            registry=self.registry,
        )
        self.shadow_results = Counter(
            "proxy_shadow_results",
            "Sampled questions by what came of them: matched, ignored, mismatched, discarded "
            "(the data moved meanwhile), error (a side had no answer).",
            ["outcome"],
            registry=self.registry,
        )

    def latencies(self, route: str, source: str) -> dict[float, int]:
        """Answers so far by upper edge in seconds, each counted in one bucket only."""
        return _by_bucket(self.request_seconds, "route", "source").get((route, source), {})

    def counted(self) -> Counted:
        """All requests at this moment. About a millisecond."""
        return Counted(
            _by_labels(self.requests, "route", "source", "result"),
            _by_bucket(self.request_seconds, "route", "source"),
            _by_bucket(self.beyond_memory_seconds, "route", "place"),
        )

    def answered(self, *results: str) -> int:
        """Requests answered so far for which the cache said one of `results`."""
        return int(
            sum(
                sample.value
                for metric in self.requests.collect()
                for sample in metric.samples
                if sample.name.endswith("_total") and sample.labels["result"] in results
            )
        )


def _by_labels(counter: Counter, *names: str) -> dict[tuple[str, ...], int]:
    return {
        tuple(sample.labels[name] for name in names): int(sample.value)
        for metric in counter.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


def _by_bucket(histogram: Histogram, *names: str) -> dict[tuple[str, ...], dict[float, int]]:
    found: dict[tuple[str, ...], dict[float, int]] = {}
    for metric in histogram.collect():
        below = 0
        for sample in metric.samples:
            if not sample.name.endswith("_bucket"):
                # The sum ends the buckets of one child.
                below = 0
                continue
            buckets = found.setdefault(tuple(sample.labels[name] for name in names), {})
            buckets[float(sample.labels["le"])] = int(sample.value) - below
            below = int(sample.value)
    return found
