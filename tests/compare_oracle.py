"""What comparing two answers has to find, worked out the plain way: by addresses, in fractions.

Shares nothing with the code it judges. For answers whose rows all have an id.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

Address = tuple[str, ...]
"""Keys, and `#ID` for a row."""

DECIDING = frozenset({"spend", "profit"})
RATES = frozenset({"roas"})
EXACT = frozenset({"clicks"})
SETS = frozenset({"user_ids"})
OURS_ALONE = frozenset({"entity_id", "breakdown_data"})
STRUCTURAL = frozenset({"missing_key", "type", "missing_row", "extra_row"})


@dataclass(slots=True)
class Flat:
    """One answer taken apart: what stands at which address."""

    objects: dict[Address, set[str]] = field(default_factory=dict)
    lists: dict[Address, list[str]] = field(default_factory=dict)
    leaves: dict[Address, Any] = field(default_factory=dict)

    def kind(self, address: Address) -> str | None:
        if address in self.objects:
            return "object"
        if address in self.lists:
            return "list"
        if address not in self.leaves:
            return None
        value = self.leaves[address]
        if isinstance(value, list):
            return "list"
        if isinstance(value, bool):
            return "bool"
        if isinstance(value, int | float):
            return "number"
        return "null" if value is None else "text"


@dataclass(frozen=True, slots=True)
class Expected:
    outcome: str
    counts: Mapping[tuple[str, str], int]


def flatten(document: Mapping[str, Any], levels: int) -> Flat:
    flat = Flat()
    _flatten(flat, (), document, levels)
    return flat


def _flatten(flat: Flat, address: Address, node: Any, levels: int) -> None:
    if isinstance(node, dict):
        flat.objects[address] = set()
        for key, value in node.items():
            if key == "children" and (*address, key).count("children") >= levels:
                continue
            if address == ("metadata",):
                continue
            flat.objects[address].add(key)
            _flatten(flat, (*address, key), value, levels)
    elif isinstance(node, list) and address[-1] not in SETS:
        flat.lists[address] = [str(row["id"]) for row in node]
        for row in reversed(node):
            below = (*address, f"#{row['id']}")
            # The first of the rows with this id takes the place of those behind it.
            for held in (flat.objects, flat.lists, flat.leaves):
                for old in [old for old in held if old[: len(below)] == below]:
                    del held[old]
            _flatten(flat, below, row, levels)
    else:
        flat.leaves[address] = node


def expect(control: Mapping[str, Any], candidate: Mapping[str, Any], levels: int) -> Expected:
    left, right = flatten(control, levels), flatten(candidate, levels)
    counts: Counter[tuple[str, str]] = Counter()
    for address in left.objects.keys() & right.objects.keys():
        ours, theirs = left.objects[address], right.objects[address]
        alone = {"missing_key": ours - theirs, "added_key": theirs - ours}
        for kind, keys in alone.items():
            for key in keys - OURS_ALONE:
                counts[collapsed((*address, key)), kind] += 1
    for address in left.lists.keys() & right.lists.keys():
        counts += _of_lists(address, left.lists[address], right.lists[address])
    everywhere = left.objects.keys() | left.lists.keys() | left.leaves.keys()
    for address in everywhere:
        kinds = left.kind(address), right.kind(address)
        if None not in kinds and kinds[0] != kinds[1]:
            counts[collapsed(address), "type"] += 1
    values: dict[str, list[tuple[Any, Any]]] = {}
    for address in left.leaves.keys() & right.leaves.keys():
        pair = left.leaves[address], right.leaves[address]
        if left.kind(address) == right.kind(address) and _differ(address[-1], *pair):
            values.setdefault(collapsed(address), []).append(pair)
    for path, pairs in values.items():
        counts += _of_values(path, pairs)
    decides = any(
        kind in STRUCTURAL or (kind == "value" and path.rpartition(".")[2] in DECIDING)
        for path, kind in counts
    )
    return Expected("mismatched" if decides else "ignored" if counts else "matched", counts)


def _of_lists(address: Address, left: list[str], right: list[str]) -> Counter[tuple[str, str]]:
    rows = collapsed((*address, "#"))
    counts: Counter[tuple[str, str]] = Counter()
    counts[rows, "missing_row"] = len(set(left) - set(right))
    counts[rows, "extra_row"] = len(set(right) - set(left))
    for identity in set(left) | set(right):
        times = left.count(identity), right.count(identity)
        if times[0] != times[1] and max(times) > 1:
            counts[rows, "doubled_row"] += 1
    both = set(left) & set(right)
    if sorted(both, key=left.index) != sorted(both, key=right.index):
        counts[collapsed(address), "order"] += 1
    return +counts


def _differ(name: str, a: Any, b: Any) -> bool:
    if name in SETS:
        return {str(one) for one in a} != {str(one) for one in b}
    if isinstance(a, bool) or not isinstance(a, int | float):
        return bool(a != b)
    relative, floor = (0.0, 0) if name in EXACT else (0.01, 1)
    most: Fraction = max(abs(Fraction(a)), abs(Fraction(b)), Fraction(floor))
    return abs(Fraction(a) - Fraction(b)) > Fraction(relative) * most


def _of_values(path: str, pairs: list[tuple[Any, Any]]) -> Counter[tuple[str, str]]:
    name = path.rpartition(".")[2]
    if name in SETS:
        return Counter({(path, "set"): len(pairs)})
    scaled = [(a, b) for a, b in pairs if name in RATES and a and b]
    is_unit = any(
        all(a * b > 0 and not _differ(name, a * one, b * other) for a, b in scaled)
        for one, other in ((1, 100), (100, 1))
    )
    units = len(scaled) if is_unit else 0
    return +Counter({(path, "unit"): units, (path, "value"): len(pairs) - units})


def collapsed(address: Address) -> str:
    return ".".join("*" if step.startswith("#") else step for step in address)
