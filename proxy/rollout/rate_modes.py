"""Which way of putting rates together over days comes nearer to the legacy's. Pure."""

import math
from collections.abc import Mapping, Sequence

from proxy.query import Query
from proxy.rollout.alignment import same_rows
from proxy.rollout.rules import Rules

_SAME = 1e-9
"""Of the rate: so much apart is what arithmetic loses."""

Numbers = tuple[float, float, float]
"""The legacy's, ours in mode `mean`, ours in mode `ratio`."""


def closer(
    legacy: object, mean: object, ratio: object, rules: Rules, *, query: Query
) -> Mapping[str, tuple[int, int, int]]:
    """Rate -> rows in which `mean` came nearer, in which `ratio` did, in which neither.

    All three are parsed answers to `query`. Rows that one of them lacks do
    not count. Where the legacy sends percents, they are read as such.
    """
    found: dict[tuple[str, str], list[Numbers]] = {}
    for path, rows in same_rows((legacy, mean, ratio), depth=query.depth):
        for name in rules.rates:
            numbers = _numbers([row.get(name) for row in rows])
            if numbers is not None:
                found.setdefault((path, name), []).append(numbers)
    votes: dict[str, list[int]] = {}
    for (_, name), rates in found.items():
        unit = 100 if _are_percents(rates) else 1
        for theirs, one, other in rates:
            votes.setdefault(name, [0, 0, 0])[_nearer(theirs / unit, one, other)] += 1
    return {name: (counts[0], counts[1], counts[2]) for name, counts in sorted(votes.items())}


def _numbers(values: Sequence[object]) -> Numbers | None:
    found: list[float] = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        try:
            found.append(float(value))
        except OverflowError:
            return None
    return (found[0], found[1], found[2]) if all(map(math.isfinite, found)) else None


def _are_percents(rates: Sequence[Numbers]) -> bool:
    """Whether most of the legacy's numbers at one place are nearer to a hundred times ours.

    One row says little: a mean may well be ten times the ratio of the sums.
    """
    votes = 0
    for theirs, *ours in rates:
        most = max(map(abs, ours))
        if theirs and most:
            votes += 1 if abs(theirs) / 10 > most else -1
    return votes > 0


def _nearer(theirs: float, mean: float, ratio: float) -> int:
    by = abs(theirs - mean) - abs(theirs - ratio)
    if not abs(by) > _SAME * max(abs(theirs), abs(mean), abs(ratio)):
        return 2
    return 0 if by < 0 else 1
