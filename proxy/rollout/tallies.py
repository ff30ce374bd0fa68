"""What came of comparing, as counters under flat names. Pure: nothing here is kept anywhere.

A name is words joined by `|`, the foreign one last:

    total|OUTCOME         comparisons and what became none
    reason|OUTCOME|WORD   why samples were discarded, or ended in an error
    cell|LEVEL|BREAKDOWN|OUTCOME
    diff|LEVEL|KIND|FIELD   results with that difference, each counted once
    decided|… rows|…        those it decided; rows it was found in
    noise|…                 the same as diff, of the legacy against itself
    closer|MODE|FIELD       rows in which a rate mode came closer to the legacy
    optimized|ok, optimized|error, optimized|ms|EDGE
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from proxy.rollout.comparison import Comparison
from proxy.rollout.result import Difference, Result
from proxy.telemetry import LATENCY_BUCKETS_S

COMPARED = "total|compared"
STRUCTURAL = "total|structural"
DISCARDED = "total|discarded"
DROPPED = "total|dropped"
ERRORS = "total|errors"
NOISE = "total|noise"
NOISE_MISMATCHED = "total|noise_mismatched"
NOISE_STRUCTURAL = "total|noise_structural"
OPTIMIZED_OK = "optimized|ok"
OPTIMIZED_ERROR = "optimized|error"
OPTIMIZED_MS = "optimized|ms|"

RATE_MODES = ("mean", "ratio", "equal")

MOST_NAMES = 2000
"""Names of a day. What is foreign in the names after them is counted under `other`."""
OTHER = "other"
_LONGEST_WORD = 100
_FOREIGN = frozenset({"reason", "cell", "diff", "decided", "rows", "noise", "closer"})


@dataclass(frozen=True, slots=True)
class Tally:
    """`counts` add up, of `maxima` the greatest stays."""

    counts: Mapping[str, int] = field(default_factory=dict)
    maxima: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: "Tally") -> "Tally":
        return sum_of((self, other))

    def __bool__(self) -> bool:
        return bool(self.counts or self.maxima)

    def __getitem__(self, name: str) -> int:
        return self.counts.get(name, 0)


def sum_of(tallies: Iterable[Tally]) -> Tally:
    counts: dict[str, int] = {}
    maxima: dict[str, float] = {}
    for tally in tallies:
        for name, count in tally.counts.items():
            counts[name] = counts.get(name, 0) + count
        for name, value in tally.maxima.items():
            maxima[name] = max(maxima.get(name, value), value)
    return Tally(counts, maxima)


def day_of(at: float) -> str:
    """The day, in UTC, that seconds since the epoch fall on."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def total_of(outcome: str) -> str:
    return f"total|{outcome}"


def tally_of(comparison: Comparison) -> Tally:
    """A comparison, its noise and its rates; each difference counts once per result."""
    result = comparison.result
    query = comparison.query
    counts = {
        COMPARED: 1,
        total_of(result.outcome): 1,
        f"cell|{query.level}|{query.breakdown}|{result.outcome}": 1,
    }
    if result.is_structural:
        counts[STRUCTURAL] = 1
    counts |= dict.fromkeys(_named("diff", result.differences), 1)
    counts |= dict.fromkeys(_named("decided", result.differences, is_deciding=True), 1)
    for difference in result.differences:
        name = _name("rows", difference)
        counts[name] = counts.get(name, 0) + difference.count
    if comparison.noise is not None:
        counts |= _noise(comparison.noise)
    for rate, rows in (comparison.closer or {}).items():
        for mode, count in zip(RATE_MODES, rows, strict=True):
            if count:
                counts[f"closer|{mode}|{word(rate)}"] = count
    return Tally(counts, _errors(result.differences))


def tally_of_discard(reason: str) -> Tally:
    return Tally({DISCARDED: 1, f"reason|discarded|{word(reason)}": 1})


def tally_of_error(reason: str) -> Tally:
    return Tally({ERRORS: 1, f"reason|errors|{word(reason)}": 1})


def tally_of_drops(count: int) -> Tally:
    return Tally({DROPPED: count} if count else {})


def tally_of_answer(is_ok: bool, seconds: float) -> Tally:
    """One answer of the optimized side that was tried as a candidate."""
    if not is_ok:
        return Tally({OPTIMIZED_ERROR: 1})
    place = bisect_left(LATENCY_BUCKETS_S, seconds)
    edge = LATENCY_BUCKETS_S[place] if place < len(LATENCY_BUCKETS_S) else float("inf")
    return tally_of_answers({edge: 1})


def tally_of_answers(latencies: Mapping[float, int]) -> Tally:
    """Answers of the optimized side to callers, by upper edge in seconds."""
    counts = {bucket(edge): count for edge, count in latencies.items() if count > 0}
    return Tally({OPTIMIZED_OK: sum(counts.values())} | counts if counts else {})


def bucket(edge_s: float) -> str:
    """The name of the answers that took at most `edge_s` and more than the edge before."""
    return f"{OPTIMIZED_MS}{edge_s * 1000:g}"


def word(text: str) -> str:
    """A foreign text as the last word of a name: short, and of whole characters."""
    return text[:_LONGEST_WORD].encode("utf-8", "replace").decode()


def folded(name: str) -> str:
    """The name under which `name` is counted once a day has too many."""
    first, _, rest = name.partition("|")
    if first not in _FOREIGN or first == "cell":
        return name
    middle = rest.split("|")[: 1 if first in ("closer", "reason") else 2]
    return "|".join((first, *middle, OTHER))


def bounded(tally: Tally, known: Collection[str], most: int = MOST_NAMES) -> Tally:
    """`tally` with new names folded where `known` and they would be more than `most`."""
    if len(known) + len(tally.counts) <= most:
        return tally
    names = set(known)
    counts: dict[str, int] = {}
    for name, count in tally.counts.items():
        kept = name if name in names or len(names) < most else folded(name)
        names.add(kept)
        counts[kept] = counts.get(kept, 0) + count
    # A maximum stands beside a count of that name, or is folded with it.
    maxima: dict[str, float] = {}
    for name, value in tally.maxima.items():
        kept = name if name in names else folded(name)
        maxima[kept] = max(maxima.get(kept, value), value)
    return Tally(counts, maxima)


def _noise(noise: Result) -> dict[str, int]:
    counts = {NOISE: 1} | dict.fromkeys(_named("noise", noise.differences), 1)
    if noise.outcome == "mismatched":
        counts[NOISE_MISMATCHED] = 1
    if noise.is_structural:
        counts[NOISE_STRUCTURAL] = 1
    return counts


def _named(
    family: str, differences: Iterable[Difference], *, is_deciding: bool = False
) -> set[str]:
    return {_name(family, one) for one in differences if one.is_deciding or not is_deciding}


def _name(family: str, difference: Difference) -> str:
    # A level that holds a divider would shift the words after it.
    level = word(difference.level).replace("|", "/")
    return f"{family}|{level}|{difference.kind}|{word(difference.field)}"


def _errors(differences: Iterable[Difference]) -> dict[str, float]:
    maxima: dict[str, float] = {}
    for one in differences:
        error = one.relative_error
        # Neither nan nor infinity: what is kept goes through JSON.
        if error is not None and abs(error) < float("inf"):
            name = _name("diff", one)
            maxima[name] = max(maxima.get(name, 0.0), error)
    return maxima
