"""Differences: those of one comparison as they are found, grouped and bounded."""

import math
from dataclasses import dataclass

from proxy.rollout.result import STRUCTURAL, Difference, Kind, Outcome, Result, Scalar

MOST = 100
"""Differences that a result shows."""
LONGEST_TEXT = 200
_MOST_GROUPS = 2000
"""Held while comparing, of those that decide and of the others each."""


@dataclass(slots=True)
class _Group:
    path: str
    field: str
    level: str
    kind: Kind
    is_deciding: bool
    control: object
    candidate: object
    error: float | None
    severity: float
    count: int = 0

    def difference(self) -> Difference:
        return Difference(
            path=self.path,
            field=self.field,
            level=self.level,
            kind=self.kind,
            control=shown(self.control),
            candidate=shown(self.candidate),
            relative_error=self.error,
            count=self.count,
            is_deciding=self.is_deciding,
        )


class Differences:
    """Whatever is found, only so many groups are held: the outcome is right all the same."""

    def __init__(self) -> None:
        self._groups: dict[bool, dict[tuple[str, Kind], _Group]] = {True: {}, False: {}}
        self._is_structural = False

    def add(
        self,
        path: str,
        field: str,
        level: str,
        kind: Kind,
        control: object,
        candidate: object,
        *,
        error: float | None = None,
        is_deciding: bool = False,
        count: int = 1,
    ) -> None:
        """`count` rows that differ so; the values are of the worst of them.

        A value without an `error` (texts, numbers that are none) is as bad as can be.
        """
        if kind in STRUCTURAL:
            is_deciding = self._is_structural = True
        groups = self._groups[is_deciding]
        group = groups.get((path, kind))
        severity = math.inf if error is None else error
        if group is None:
            if len(groups) >= _MOST_GROUPS:
                return
            group = groups[path, kind] = _Group(
                path, field, level, kind, is_deciding, control, candidate, error, severity
            )
        elif severity > group.severity:
            group.control, group.candidate = control, candidate
            group.error, group.severity = error, severity
        group.count += count

    def result(self, rows: int) -> Result:
        decided, others = (
            sorted(self._groups[which].values(), key=lambda group: (-group.count, group.path))
            for which in (True, False)
        )
        outcome: Outcome = "matched"
        if decided or others:
            outcome = "mismatched" if decided else "ignored"
        return Result(
            outcome,
            tuple(group.difference() for group in (decided + others)[:MOST]),
            self._is_structural,
            rows,
        )


def shown(value: object) -> Scalar:
    """`value` as a difference shows it: a short word in place of what holds more values."""
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list):
        return f"list of {len(value)}"
    if isinstance(value, dict):
        return f"object of {len(value)}"
    return type(value).__name__
