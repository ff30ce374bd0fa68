"""Comparison: one question as both sides answered it, and what came of holding them together."""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.query import Query
from proxy.rollout.result import Result
from proxy.rollout.split import Variant


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a caller got (`control`) beside what the other side would have sent (`candidate`).

    Bodies are JSON. `at` is in seconds since the epoch. `noise` is the
    legacy held against itself, where it was asked twice. `closer` tells for
    each rate which of the two rate modes came nearer to the legacy in how
    many rows: field -> (`mean`, `ratio`, equally near).
    """

    at: float
    query: Query
    control_side: Variant
    control: bytes
    candidate: bytes
    result: Result
    noise: Result | None = None
    closer: Mapping[str, tuple[int, int, int]] | None = None
