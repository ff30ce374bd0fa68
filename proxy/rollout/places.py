"""Places: what the rules say of each key at each path, worked out once and not for every row."""

import re
from dataclasses import dataclass, field

from proxy.query import Query
from proxy.rollout.differences import LONGEST_TEXT
from proxy.rollout.redaction import is_id, is_of_many_users
from proxy.rollout.rules import Rules, Tolerance

DEEPEST = 40
"""Objects and lists within each other. No answer comes near it; what does is not compared."""

_MOST_SPOTS = 5000
"""Held for one place: an object whose keys are ids may have a million."""
_MOST_NAMES = 500
"""Told apart at one place. No object has so many fields: its keys are ids of some kind."""
_FIELD = re.compile(r"[a-z]+(_[a-z]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object stands. `hop`: its level, -1 above the records.

    `path` has `*` for any row, as the operator's patterns know it; `told` for
    any key that is an id, too.
    """

    path: str
    told: str
    hop: int
    depth: int
    is_of_users: bool = False
    spots: dict[str, "Spot"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spot:
    """One key of the objects at a place. `objects` and `rows` are the places below it.

    `name` and `path` are for telling: `*` where a key is an id.
    """

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
        self.top = Place("", "", -1, 0)

    def spot(self, place: Place, key: str) -> Spot:
        found = place.spots.get(key)
        if found is None:
            found = self._make(place, key)
            if len(place.spots) < _MOST_SPOTS:
                place.spots[key] = found
        return found

    def _make(self, place: Place, key: str) -> Spot:
        cut = key[:LONGEST_TEXT]
        path = f"{place.path}.{cut}" if place.path else cut
        name = "*" if _is_any(place, cut) else cut
        told = f"{place.told}.{name}" if place.told else name
        is_of_users = place.is_of_users or is_of_many_users(cut)
        is_record = place.path.endswith(".*")
        is_below = key == "children" if is_record else (key == "data" and place.depth == 0)
        hop = place.hop + is_below
        depth = place.depth + 1
        # Below the levels that are asked for, one side sends what the other cannot.
        is_beyond = is_below and hop >= len(self._levels)
        return Spot(
            name=name,
            path=told,
            level=self._level(place.hop),
            tolerance=self._rules.tolerance_of(key),
            is_ignored=is_beyond or self._rules.ignore.match(path),
            is_set=key.endswith("_ids") or self._rules.as_set.match(path),
            is_deciding=key in self._rules.deciding,
            is_rate=key in self._rules.rates,
            is_id=key == "id" or key.endswith("_id"),
            objects=Place(path, told, place.hop, depth, is_of_users),
            rows=Place(f"{path}.*", f"{told}.*", hop, depth + 1, is_of_users),
            rows_level=self._level(hop),
        )

    def _level(self, hop: int) -> str:
        return self._levels[hop] if 0 <= hop < len(self._levels) else ""


def _is_any(place: Place, key: str) -> bool:
    """Whether `key` is one of many, or somebody's name: neither is to be kept or counted by."""
    if place.is_of_users and not _FIELD.fullmatch(key):
        return True
    return len(place.spots) >= _MOST_NAMES or is_id(key)
