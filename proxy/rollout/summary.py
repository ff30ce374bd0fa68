"""Tallies as operators read them: totals, a line per difference, per level and per day. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxy.query import BREAKDOWNS, LEVELS
from proxy.rollout.tallies import COMPARED, NOISE, RATE_MODES, Tally, total_of
from proxy.rollout.wilson import excess_low

OUTCOMES = ("matched", "ignored", "mismatched")
TOTALS = ("compared", *OUTCOMES, "discarded", "dropped", "errors")
_MORE_TOTALS = ("structural", "noise", "noise_mismatched", "noise_structural")
Z = 1.96
"""Bounds are of two-sided 95 %."""

Days = Mapping[str, Tally]


@dataclass(frozen=True, slots=True)
class FieldLine:
    """One kind of difference in one field at one level; `count` and `decided` are results.

    Rates are shares of all results. `excess_rate_lower` is the lower bound of
    what `rate` has above `noise_rate`: 0 or less where that may be noise, as
    it may be as long as there are few noise samples, or none.
    """

    field: str
    level: str
    kind: str
    count: int
    decided: int
    rows: int
    rate: float
    noise_rate: float
    excess_rate_lower: float
    max_relative_error: float | None


@dataclass(frozen=True, slots=True)
class RateLine:
    """Rows of `field` in which a rate mode came closer to the legacy than the other did."""

    field: str
    mean: int
    ratio: int
    equal: int

    @property
    def closer(self) -> str:
        if self.mean == self.ratio:
            return "equal"
        return "mean" if self.mean > self.ratio else "ratio"


def totals_of(tally: Tally) -> dict[str, int]:
    return {name: tally[total_of(name)] for name in (*TOTALS, *_MORE_TOTALS)}


def reasons_of(tally: Tally) -> dict[str, dict[str, int]]:
    """Why samples were `discarded`, and which `errors` there were, the most frequent first."""
    found: dict[str, dict[str, int]] = {"discarded": {}, "errors": {}}
    for name, count in sorted(tally.counts.items(), key=lambda item: -item[1]):
        match name.split("|", 2):
            case ["reason", ("discarded" | "errors") as outcome, why]:
                found[outcome][why] = count
    return found


def fields_of(
    tally: Tally, *, field: str | None = None, level: str | None = None
) -> list[FieldLine]:
    """The greatest excess first, then the greatest count."""
    places = {
        (words[1], words[2], words[3])
        for words in (name.split("|", 3) for name in tally.counts)
        if words[0] in ("diff", "noise") and len(words) == 4
    }
    lines = [
        _line(tally, *place)
        for place in places
        if field in (None, place[2]) and level in (None, place[0])
    ]
    return sorted(
        lines, key=lambda one: (-one.excess_rate_lower, -one.count, one.field, one.level, one.kind)
    )


def levels_of(tally: Tally) -> list[dict[str, str | int]]:
    """What came of the questions of each level and breakdown that were compared."""
    lines: list[dict[str, str | int]] = []
    for level in LEVELS:
        for breakdown in BREAKDOWNS:
            counts = {name: tally[f"cell|{level}|{breakdown}|{name}"] for name in OUTCOMES}
            if compared := sum(counts.values()):
                lines.append(
                    {"level": level, "breakdown": breakdown, "compared": compared, **counts}
                )
    return lines


def days_of(days: Days) -> list[dict[str, str | int]]:
    """The newest first."""
    return [{"day": day, **totals_of(days[day])} for day in sorted(days, reverse=True)]


def rates_of(tally: Tally) -> list[RateLine]:
    """Which rate mode is closer to the legacy, per field."""
    words = [name.split("|", 2) for name in tally.counts if name.startswith("closer|")]
    fields: Sequence[str] = sorted({parts[2] for parts in words if len(parts) == 3})
    return [
        RateLine(name, *(tally[f"closer|{mode}|{name}"] for mode in RATE_MODES)) for name in fields
    ]


def _line(tally: Tally, level: str, kind: str, field: str) -> FieldLine:
    place = f"{level}|{kind}|{field}"
    compared, noise = tally[COMPARED], tally[NOISE]
    count, noise_count = tally[f"diff|{place}"], tally[f"noise|{place}"]
    return FieldLine(
        field=field,
        level=level,
        kind=kind,
        count=count,
        decided=tally[f"decided|{place}"],
        rows=tally[f"rows|{place}"],
        rate=_share(count, compared),
        noise_rate=_share(noise_count, noise),
        excess_rate_lower=excess_low(count, compared, noise_count, noise, Z),
        max_relative_error=tally.maxima.get(f"diff|{place}"),
    )


def _share(count: int, of: int) -> float:
    return count / of if of else 0.0
