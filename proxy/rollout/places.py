"""Places: what the rules say of each key at each path, worked out once and not for every row."""

from dataclasses import dataclass, field

from proxy.query import Query
from proxy.rollout.differences import LONGEST_TEXT
from proxy.rollout.rules import Rules, Tolerance

DEEPEST = 40
"""Objects and lists within each other. No answer comes near it; what does is not compared."""

_MOST_SPOTS = 5000
"""Held for one place: an object whose keys are ids may have a million."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object stands, with `*` for any id. `hop`: its level, -1 above the records."""

    path: str
    hop: int
    depth: int
    spots: dict[str, "Spot"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spot:
    """One key of the objects at a place. `objects` and `rows` are the places below it."""

    name: str
    path: str
    level: str
    tolerance: Tolerance
    is_ignored: bool
    is_set: bool
    is_deciding: bool
    is_rate: bool
    is_id: bool
    objects: Place
    rows: Place
    rows_level: str


class Places:
    """The places of one comparison."""

    def __init__(self, rules: Rules, query: Query) -> None:
        self._rules = rules
        self._levels = query.levels
        self.top = Place("", -1, 0)

    def spot(self, place: Place, key: str) -> Spot:
        found = place.spots.get(key)
        if found is None:
            found = self._make(place, key)
            if len(place.spots) < _MOST_SPOTS:
                place.spots[key] = found
        return found

    def _make(self, place: Place, key: str) -> Spot:
        name = key[:LONGEST_TEXT]
        path = f"{place.path}.{name}" if place.path else name
        is_record = place.path.endswith(".*")
        is_below = key == "children" if is_record else (key == "data" and place.depth == 0)
        hop = place.hop + is_below
        depth = place.depth + 1
        # Below the levels that are asked for, one side sends what the other cannot.
        is_beyond = is_below and hop >= len(self._levels)
        return Spot(
            name=name,
            path=path,
            level=self._level(place.hop),
            tolerance=self._rules.tolerance_of(key),
            is_ignored=is_beyond or self._rules.ignore.match(path),
            is_set=key.endswith("_ids") or self._rules.as_set.match(path),
            is_deciding=key in self._rules.deciding,
            is_rate=key in self._rules.rates,
            is_id=key == "id" or key.endswith("_id"),
            objects=Place(path, place.hop, depth),
            rows=Place(f"{path}.*", hop, depth + 1),
            rows_level=self._level(hop),
        )

    def _level(self, hop: int) -> str:
        return self._levels[hop] if 0 <= hop < len(self._levels) else ""
