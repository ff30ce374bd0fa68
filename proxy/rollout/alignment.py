"""Alignment: which rows of two lists, or of whole answers, are about the same thing. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Identity = str | int
"""What a row's own key says, as text; for a row without one its number among such rows."""

_NAMES = ("id", "breakdown_value", "date", "entity_id", "type", "name", "user_id", "distinct_id")
_DEEPEST = 20


@dataclass(frozen=True, slots=True)
class Aligned:
    """`left` and `right`: each identity once, in order, with the first row of it.

    `doubled` has how often an identity stands left and right, where that differs.
    """

    left: Mapping[Identity, object]
    right: Mapping[Identity, object]
    doubled: Mapping[Identity, tuple[int, int]]


def align(left: Sequence[object], right: Sequence[object]) -> Aligned:
    """Rows are known by the first of their usual keys that both sides have, else by position."""
    name = _name(left, right)
    ours, theirs = _identities(left, name), _identities(right, name)
    if name == "name" and (len(set(ours)) < len(ours) or len(set(theirs)) < len(theirs)):
        # Two may be called the same and be two: then only their place tells them apart.
        ours, theirs = _identities(left, None), _identities(right, None)
    by_left, by_right = _first(ours, left), _first(theirs, right)
    doubled: dict[Identity, tuple[int, int]] = {}
    if len(by_left) < len(left) or len(by_right) < len(right):
        counts = _counts(ours), _counts(theirs)
        for identity in by_left.keys() & by_right.keys():
            pair = counts[0][identity], counts[1][identity]
            if pair[0] != pair[1]:
                doubled[identity] = pair
        for identity in by_left.keys() ^ by_right.keys():
            pair = counts[0].get(identity, 0), counts[1].get(identity, 0)
            if max(pair) > 1:
                doubled[identity] = pair
    return Aligned(by_left, by_right, doubled)


def identity_text(value: object) -> str | None:
    """An id as text: the number 7, 7.0 and the text "7" are one. None for what is no id."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        if not value.is_integer():
            return repr(value)
        value = int(value)
    # Hexadecimal: Python refuses to write a very long number in decimal digits.
    return str(value) if abs(value) < 10**300 else hex(value)


def same_rows(
    documents: Sequence[object], *, depth: int | None = None
) -> Iterator[tuple[str, tuple[Mapping[str, Any], ...]]]:
    """(path, the row of each document) for each record that all documents have.

    Entities at every level, `depth` levels deep where that is given, with
    their breakdown rows in either spelling. An adset that is repeated comes
    once per place. A list that is missing or none has no rows.
    """
    stack = [("data.*", [_list(document, "data") for document in documents], 1)]
    while stack:
        path, lists, level = stack.pop()
        for rows in _in_common(lists):
            yield path, rows
            for divided in _in_common([_list(row, "breakdown_data") for row in rows]):
                yield f"{path}.breakdown_data.*", divided
            for groups in _in_common([_list(row, "breakdowns") for row in rows]):
                for divided in _in_common([_list(group, "values") for group in groups]):
                    yield f"{path}.breakdowns.*.values.*", divided
            if level < (_DEEPEST if depth is None else min(depth, _DEEPEST)):
                children = [_list(row, "children") for row in rows]
                if all(children):
                    stack.append((f"{path}.children.*", children, level + 1))


def _list(holder: object, name: str) -> Sequence[object]:
    found = holder.get(name) if isinstance(holder, dict) else None
    return found if isinstance(found, list) else ()


def _in_common(lists: Sequence[Sequence[object]]) -> Iterator[tuple[Mapping[str, Any], ...]]:
    if not all(lists):
        return
    name = _name(*lists)
    indexed = [_first(_identities(rows, name), rows) for rows in lists]
    for identity in indexed[0]:
        rows = [rows.get(identity) for rows in indexed]
        found = tuple(row for row in rows if isinstance(row, dict))
        if len(found) == len(lists):
            yield found


def _name(*lists: Sequence[object]) -> str | None:
    for is_enough in (all, any):
        for name in _NAMES:
            if is_enough(any(_has(row, name) for row in rows) for rows in lists):
                return name
    return None


def _has(row: object, name: str) -> bool:
    return isinstance(row, dict) and identity_text(row.get(name)) is not None


def _identities(rows: Sequence[object], name: str | None) -> list[Identity]:
    found: list[Identity] = []
    nameless = 0
    for row in rows:
        own = None
        if name is not None and isinstance(row, dict):
            own = row.get(name)
            if type(own) is not str:
                own = identity_text(own)
        if own is None:
            found.append(nameless)
            nameless += 1
        else:
            found.append(own)
    return found


def _first(identities: Sequence[Identity], rows: Sequence[object]) -> dict[Identity, object]:
    found = dict(zip(identities, rows, strict=True))
    if len(found) < len(rows):
        found = {}
        for identity, row in zip(identities, rows, strict=True):
            found.setdefault(identity, row)
    return found


def _counts(identities: Sequence[Identity]) -> dict[Identity, int]:
    counts: dict[Identity, int] = {}
    for identity in identities:
        counts[identity] = counts.get(identity, 0) + 1
    return counts
