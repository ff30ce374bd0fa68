"""compare: two parsed answers to one question held together. Pure, and never raises."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.query import Query
from proxy.rollout.alignment import Aligned, align, identity_text
from proxy.rollout.differences import Differences
from proxy.rollout.places import DEEPEST, Place, Places, Spot
from proxy.rollout.result import Kind, Result
from proxy.rollout.rules import OURS_ALONE, Rules, relative_error, unit_factor

_ABSENT = object()
_PLAIN = frozenset({str, int, float, bool, type(None)})
_TOO_DEEP = "nested too deep"
_MOST_RATES = 5000
"""Paths. More are only in an answer that is none."""

Record = Mapping[str, Any]


def compare(control: object, candidate: object, rules: Rules, *, query: Query) -> Result:
    """What `candidate` has otherwise than `control`, both of them parsed JSON.

    Anything that is no answer is a difference too. Takes time with large
    bodies: for a thread.
    """
    return _Comparison(rules, query).of(control, candidate)


@dataclass(slots=True)
class _Pairs:
    """Numbers of one field that differ in one way: how many, and the worst of them."""

    count: int = 0
    error: float | None = -1.0
    control: float = 0
    candidate: float = 0

    def add(self, control: float, candidate: float, error: float | None) -> None:
        self.count += 1
        if self.error is not None and (error is None or error > self.error):
            self.error, self.control, self.candidate = error, control, candidate


@dataclass(slots=True)
class _Rate:
    """The differing numbers of a rate, by the factor that is between them (0: none known)."""

    spot: Spot
    pairs: dict[int, _Pairs] = field(default_factory=dict)


class _Comparison:
    """One comparison at work. A list of what is still to do takes the place of recursion."""

    def __init__(self, rules: Rules, query: Query) -> None:
        self._places = Places(rules, query)
        # A legacy does not know the question for a sparkline; one that it sends unasked is its own.
        self._unasked = "" if query.include_sparkline else "sparkline_data"
        self._found = Differences()
        self._rates: dict[str, _Rate] = {}
        self._rows = 0
        self._todo: list[tuple[Place, Record, Record]] = []

    def of(self, control: object, candidate: object) -> Result:
        top = self._places.top
        if isinstance(control, dict) and isinstance(candidate, dict):
            self._todo.append((top, control, candidate))
        else:
            root = self._places.spot(top, "")
            self._values(root, control, candidate)
        while self._todo:
            self._objects(*self._todo.pop())
        for rate in self._rates.values():
            self._settle(rate)
        return self._found.result(self._rows)

    def _objects(self, place: Place, control: Record, candidate: Record) -> None:
        common = 0
        for key, left in control.items():
            right = candidate.get(key, _ABSENT)
            if right is _ABSENT:
                self._alone("missing_key", place, key, left)
                continue
            common += 1
            kind = type(left)
            # Most values are equal. Of lists and objects Python would compare all that is in them.
            if kind is type(right) and kind in _PLAIN and left == right:
                continue
            self._values(place.spots.get(key) or self._places.spot(place, key), left, right)
        if common < len(candidate):
            for key, right in candidate.items():
                if key not in control:
                    self._alone("added_key", place, key, right)

    def _alone(self, kind: Kind, place: Place, key: str, value: object) -> None:
        """A key that one side lacks."""
        is_ours = key in OURS_ALONE or (key == "breakdowns" and value == [])
        if key == self._unasked and kind == "missing_key" and value != []:
            is_ours = False
        spot = self._places.spot(place, key)
        if spot.is_ignored or (is_ours and place.hop >= 0):
            return
        sides = (value, None) if kind == "missing_key" else (None, value)
        self._add(spot, kind, *sides)

    def _values(self, spot: Spot, left: Any, right: Any) -> None:
        if spot.is_ignored:
            return
        if isinstance(left, list) and isinstance(right, list):
            if left or right:
                self._lists(spot, left, right)
        elif isinstance(left, dict) and isinstance(right, dict):
            self._below(spot, spot.objects, left, right)
        elif spot.is_id and _same_id(left, right):
            return
        elif _is_number(left) and _is_number(right):
            self._numbers(spot, left, right)
        elif _word(left) != _word(right):
            self._add(spot, "type", left, right)
        elif left != right:
            self._add(spot, "value", left, right)

    def _below(self, spot: Spot, place: Place, left: Record, right: Record) -> None:
        if place.depth > DEEPEST:
            self._add(spot, "type", _TOO_DEEP, _TOO_DEEP)
        else:
            self._todo.append((place, left, right))

    def _numbers(self, spot: Spot, left: float, right: float) -> None:
        if not spot.tolerance.is_exceeded(left, right):
            return
        error = relative_error(left, right)
        if spot.is_rate and left and right and len(self._rates) < _MOST_RATES:
            rate = self._rates.setdefault(spot.path, _Rate(spot))
            factor = unit_factor(left, right, spot.tolerance)
            rate.pairs.setdefault(factor, _Pairs()).add(left, right, error)
        else:
            self._add(spot, "value", left, right, error=error)

    def _settle(self, rate: _Rate) -> None:
        """Percent against fraction, when that is what all the pairs are."""
        kind: Kind = "unit" if len(rate.pairs) == 1 and 0 not in rate.pairs else "value"
        for pairs in rate.pairs.values():
            self._add(
                rate.spot,
                kind,
                pairs.control,
                pairs.candidate,
                error=pairs.error,
                count=pairs.count,
            )

    def _lists(self, spot: Spot, left: list[Any], right: list[Any]) -> None:
        if _is_plain(left) and _is_plain(right):
            kind = _plain_lists(spot, left, right)
            if kind is not None:
                self._add(spot, kind, left, right)
            return
        rows = align(left, right)
        for times in rows.doubled.values():
            self._row(spot, "doubled_row", *times)
        for identity, row in rows.left.items():
            other = rows.right.get(identity, _ABSENT)
            if other is _ABSENT:
                self._row(spot, "missing_row", identity, None)
            else:
                self._pair(spot, row, other)
        for identity in rows.right:
            if identity not in rows.left:
                self._row(spot, "extra_row", None, identity)
        if not spot.is_set:
            self._order(spot, rows)

    def _pair(self, spot: Spot, left: object, right: object) -> None:
        """Two rows that are about the same thing."""
        self._rows += 1
        if isinstance(left, dict) and isinstance(right, dict):
            self._below(spot, spot.rows, left, right)
        elif _word(left) != _word(right):
            self._row(spot, "type", left, right)
        else:
            self._below(spot, spot.rows, {"*": left}, {"*": right})

    def _order(self, spot: Spot, rows: Aligned) -> None:
        left = [identity for identity in rows.left if identity in rows.right]
        right = [identity for identity in rows.right if identity in rows.left]
        if left != right:
            first = next(pair for pair in zip(left, right, strict=True) if pair[0] != pair[1])
            self._found.add(spot.path, spot.name, spot.rows_level, "order", *first)

    def _row(self, spot: Spot, kind: Kind, left: object, right: object) -> None:
        self._found.add(spot.rows.told, spot.name, spot.rows_level, kind, left, right)

    def _add(
        self,
        spot: Spot,
        kind: Kind,
        left: object,
        right: object,
        *,
        error: float | None = None,
        count: int = 1,
    ) -> None:
        is_deciding = kind == "value" and spot.is_deciding
        self._found.add(
            spot.path,
            spot.name,
            spot.level,
            kind,
            left,
            right,
            error=error,
            is_deciding=is_deciding,
            count=count,
        )


def _plain_lists(spot: Spot, left: list[Any], right: list[Any]) -> Kind | None:
    """How two lists of plain values differ."""
    if spot.is_set:
        return None if set(map(_token, left)) == set(map(_token, right)) else "set"
    if len(left) != len(right):
        return "value"
    pairs = list(zip(left, right, strict=True))
    if all(_is_same(spot, *pair) for pair in pairs):
        return None
    ours, theirs = list(map(_token, left)), list(map(_token, right))
    if ours != theirs and sorted(ours) == sorted(theirs):
        return "order"
    return "type" if any(_word(a) != _word(b) for a, b in pairs) else "value"


def _is_same(spot: Spot, left: Any, right: Any) -> bool:
    if _is_number(left) and _is_number(right):
        return not spot.tolerance.is_exceeded(left, right)
    return type(left) is type(right) and bool(left == right)


def _is_plain(values: list[Any]) -> bool:
    return all(type(value) in _PLAIN for value in values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same_id(left: object, right: object) -> bool:
    text = identity_text(left)
    return text is not None and text == identity_text(right)


def _token(value: object) -> str:
    """An item of a list as text, by which ids are equal."""
    text = identity_text(value)
    return f"\0{value!r}" if text is None else text


def _word(value: object) -> str:
    """int and float are one type."""
    if value is None:
        return "null"
    if _is_number(value):
        return "number"
    return type(value).__name__
