"""The requests in the metrics of several processes, as one process counts them. Pure."""

from collections.abc import Mapping

from proxy.telemetry import Counted
from proxy.workers.totals import Families, Family, Labels

_NOTHING = Family("", "unknown")


def counted_of(families: Families) -> Counted:
    return Counted(
        _by_labels(families, "proxy_requests", "route", "source", "result"),
        _by_bucket(families, "proxy_request_seconds", "route", "source"),
        _by_bucket(families, "proxy_beyond_memory_seconds", "route", "place"),
    )


def _by_labels(families: Families, name: str, *labels: str) -> dict[tuple[str, ...], int]:
    return {
        _values(having, labels): int(value)
        for having, value in _samples(families, name, "_total").items()
    }


def _by_bucket(
    families: Families, name: str, *labels: str
) -> dict[tuple[str, ...], dict[float, int]]:
    up_to: dict[tuple[str, ...], dict[float, int]] = {}
    for having, value in _samples(families, name, "_bucket").items():
        [edge] = _values(having, ("le",))
        up_to.setdefault(_values(having, labels), {})[float(edge)] = int(value)
    return {key: _alone(buckets) for key, buckets in up_to.items()}


def _alone(up_to: Mapping[float, int]) -> dict[float, int]:
    """Each bucket without those below it."""
    found: dict[float, int] = {}
    below = 0
    for edge in sorted(up_to):
        found[edge] = up_to[edge] - below
        below = up_to[edge]
    return found


def _samples(families: Families, name: str, ending: str) -> dict[Labels, float]:
    samples = families.get(name, _NOTHING).samples
    return {labels: value for (sample, labels), value in samples.items() if sample == name + ending}


def _values(having: Labels, labels: tuple[str, ...]) -> tuple[str, ...]:
    named = dict(having)
    return tuple(named[label] for label in labels)
