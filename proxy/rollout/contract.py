"""What the legacy's records have and ours lack, as lines for the configuration file. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from proxy.errors import SettingsError
from proxy.measures import MEASURES, Unit
from proxy.rollout.alignment import same_rows
from proxy.rollout.differences import shown
from proxy.rollout.rules import OURS_ALONE
from proxy.settings_tables import CompareTable
from proxy.shapes import Cell, make_shapes

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_MOST_NAMES = 200
_LONGEST_NAME = 100
_FEW = 3
"""So many different values that are not 0 make a coincidence unlikely."""
_MOST_CHOICES = 4
_PLACES = {Unit.COUNT: 0, Unit.MONEY: 2, Unit.FRACTION: 6}
_PLACES_OF_PERCENT = 4
"""Of what our fraction, with its 6 decimals, tells of the percent."""

Numbers = Mapping[str, float]
"""Measure -> our value of it in one row."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """A field of the legacy's records that ours lack.

    Each of `expressions` gives its value in every row of all samples, the
    simplest first; there may be none. `example` is one of its values.
    """

    name: str
    expressions: tuple[str, ...]
    example: object
    rows: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """`lacking` are fields that ours may get, `added` those that no record of the legacy has.

    `rows`: how many were found on both sides.
    """

    lacking: tuple[Lacking, ...] = ()
    added: tuple[str, ...] = ()
    rows: int = 0

    def as_toml(self) -> str:
        """Ready to paste. What cannot be declared is a comment."""
        if not self.rows:
            return "# No row is on both sides of a sample: nothing can be said.\n"
        lines = [f"# From {self.rows} rows of both sides."]
        if not self.lacking and not self.added:
            lines.append("# Their records have the same fields.")
        known = [one for one in self.lacking if one.expressions]
        if known:
            lines += ["# Fields that the legacy has and ours lack, by their values:"]
            lines += ["[shapes.analytics.fields]", *map(_declaration, known)]
        lines += map(_remark, (one for one in self.lacking if not one.expressions))
        if self.added:
            names = [*CompareTable().ignore, *self.added]
            lines += [
                "",
                "# Fields that only our records have. Where ours is the control, one that the",
                "# legacy lacks decides. What your own list has stays in it:",
                "[compare]",
                f"ignore = [{', '.join(map(_text, names))}]",
            ]
        return "\n".join(lines) + "\n"


@dataclass(slots=True)
class _Found:
    """The values of one field of the legacy's, each beside our numbers of that row."""

    example: object
    rows: list[tuple[Any, Numbers]] = field(default_factory=list)


def propose(samples: Sequence[tuple[object, object]]) -> Proposal:
    """`samples` are parsed answers of the analytics shape: the legacy's and ours.

    A measure, the percent of one, or a count or money over another. Takes
    time with large answers: for a thread.
    """
    declared = make_shapes()["analytics"].fields
    lacking: dict[str, _Found] = {}
    theirs: set[str] = set()
    ours: set[str] = set()
    rows = 0
    for sample in samples:
        for _, (legacy, own) in same_rows(sample):
            rows += 1
            theirs.update(legacy)
            ours.update(name for name in own if not (name == "breakdowns" and own[name] == []))
            missing = [name for name in legacy if name not in own]
            if not missing:
                continue
            numbers = _measures(own, declared)
            for name in missing:
                if name in lacking or (len(lacking) < _MOST_NAMES and len(name) <= _LONGEST_NAME):
                    lacking.setdefault(name, _Found(legacy[name])).rows.append(
                        (legacy[name], numbers)
                    )
    added = sorted(name for name in ours - theirs - OURS_ALONE if len(name) <= _LONGEST_NAME)
    return Proposal(
        lacking=tuple(
            Lacking(name, _expressions(name, found.rows), found.example, len(found.rows))
            for name, found in sorted(lacking.items())
        ),
        added=tuple(added[:_MOST_NAMES]),
        rows=rows,
    )


def _measures(row: Mapping[str, Any], declared: Mapping[str, Cell]) -> Numbers:
    """From the fields that show a measure as it is."""
    found: dict[str, float] = {}
    for name, cell in declared.items():
        value = row.get(name)
        if cell.divisor is None and not cell.is_percent and _is_number(value):
            found.setdefault(cell.measure, value)
    return found


def _expressions(name: str, rows: Sequence[tuple[Any, Numbers]]) -> tuple[str, ...]:
    if not all(_is_number(value) for value, _ in rows):
        return ()
    try:
        make_shapes({"analytics": {name: "spend"}})
    except SettingsError:
        # A row has such a field already, and it is no measure.
        return ()
    digits = max(_digits(value) for value, _ in rows)
    # Great values tell most: with them first, most wrong guesses fail at once.
    told = sorted(rows, key=lambda row: -abs(row[0]))
    names = [one for one in MEASURES if all(one in numbers for _, numbers in told)]
    sums = [one for one in names if MEASURES[one].unit is not Unit.FRACTION]
    # The simplest that holds: further kinds would only be chance beside it.
    for guesses in (
        ((one, Cell(one)) for one in names),
        ((f"{one} %", Cell(one, is_percent=True)) for one in names),
        ((f"{a} / {b}", Cell(a, b)) for a in sums for b in sums if a != b),
    ):
        held = tuple(text for text, cell in guesses if _holds(cell, digits, told))
        if held:
            return held[:_MOST_CHOICES]
    return ()


def _holds(cell: Cell, digits: int, rows: Sequence[tuple[float, Numbers]]) -> bool:
    """Whether `cell` gives every value, as far as the legacy's and our own digits go."""
    places = min(digits, _PLACES_OF_PERCENT if cell.is_percent else _PLACES[cell.unit])
    is_whole = not cell.is_percent and cell.unit is Unit.COUNT
    rounding = 0.0 if is_whole else 0.5 * 10.0**-places * (1 + 1e-6)
    telling = set()
    for value, numbers in rows:
        allowed = rounding + 1e-9 * abs(value)
        if not abs(value - _value(cell, numbers)) <= allowed:
            return False
        # A number of few digits is met by much.
        if value and allowed * 20 <= abs(value):
            telling.add(value)
    return len(telling) >= _FEW


def _value(cell: Cell, numbers: Numbers) -> float:
    number = numbers[cell.measure]
    if cell.divisor is None:
        return number * 100 if cell.is_percent else number
    divisor = numbers[cell.divisor]
    return number / divisor if abs(divisor) >= 1e-9 else 0.0


def _digits(value: float) -> int:
    """Decimals that it is written with."""
    if value == int(value):
        return 0
    text = repr(value)
    return 99 if "e" in text else len(text.partition(".")[2])


def _is_number(value: Any) -> TypeGuard[float]:
    """One that arithmetic can be done with: neither endless nor too large for it."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e100 < value < 1e100


def _declaration(one: Lacking) -> str:
    first, *others = one.expressions
    also = f"  # or {', '.join(others)}" if others else ""
    return f"{_key(one.name)} = {_text(first)}{also}"


def _remark(one: Lacking) -> str:
    example = shown(one.example)
    kind = "text" if isinstance(one.example, str) else "number" if _is_number(example) else ""
    words = " ".join(filter(None, (kind, _text(str(example)[:60]))))
    return f"# {_key(one.name)}: no measure of ours has its values, such as {words}"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    """A basic string of TOML."""
    return f'"{"".join(_escaped(text))}"'


def _escaped(text: str) -> Iterator[str]:
    for letter in text.encode("utf-8", "replace").decode():
        if letter in '"\\':
            yield f"\\{letter}"
        elif letter < " " or "\x7f" <= letter < "\xa0":
            yield f"\\u{ord(letter):04x}"
        else:
            yield letter
