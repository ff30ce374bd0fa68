"""Query: the frozen canonical question. What it may hold is decided in canonical.py."""

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Literal, NewType

Key = NewType("Key", str)
"""Names an entry in every store: a hash of a question and its fingerprint."""

Level = Literal["campaign", "adset", "ad"]
Breakdown = Literal["all", "country", "region", "device"]
ShapeName = Literal["dashboard", "analytics"]

LEVELS: tuple[Level, ...] = ("campaign", "adset", "ad")
BREAKDOWNS: tuple[Breakdown, ...] = ("all", "country", "region", "device")
SPARKLINE_DAYS = 14


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked, in one form only: two requests that mean the same make equal queries.

    `start` and `end` are inclusive. `depth` counts the levels sent, from
    `level` downwards, and never exceeds the levels that there are.
    """

    shape: ShapeName
    start: date
    end: date
    level: Level
    breakdown: Breakdown = "all"
    depth: int = 3
    include_sparkline: bool = False
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        deepest = len(LEVELS) - LEVELS.index(self.level)
        object.__setattr__(self, "depth", min(self.depth, deepest))
        # Once: a query is looked up in dicts on each hit.
        fields = (self.shape, self.start, self.end, self.level, self.breakdown, self.depth)
        object.__setattr__(self, "_hash", hash((*fields, self.include_sparkline)))

    def __hash__(self) -> int:
        return self._hash

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels that the answer nests, outermost first."""
        first = LEVELS.index(self.level)
        return LEVELS[first : first + self.depth]

    @property
    def window_start(self) -> date:
        """First day that the answer reads: earlier than `start` where a sparkline reaches back."""
        if not self.include_sparkline:
            return self.start
        return min(self.start, self.sparkline_start)

    @property
    def sparkline_start(self) -> date:
        reach = min(SPARKLINE_DAYS - 1, (self.end - date.min).days)
        return self.end - timedelta(days=reach)

    def as_parameters(self) -> dict[str, str | int | bool]:
        """The canonical parameters, in the words of the shape's own route."""
        level_name = "hierarchy" if self.shape == "dashboard" else "group_by"
        return {
            "start_date": self.start.isoformat(),
            "end_date": self.end.isoformat(),
            level_name: self.level,
            "breakdown": self.breakdown,
            "depth": self.depth,
            "include_sparkline": self.include_sparkline,
        }
