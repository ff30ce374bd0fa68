"""Comparisons as the shadow makes them, and what is kept of them."""

import itertools
from collections.abc import Mapping
from datetime import date
from typing import Any

import orjson

from proxy.query import Breakdown, Level, Query
from proxy.rollout.comparison import Comparison
from proxy.rollout.ledger import Sample
from proxy.rollout.result import STRUCTURAL, Difference, Kind, Outcome, Result, Scalar
from proxy.rollout.sample_codec import packed
from proxy.rollout.split import Variant

AT = 1_700_000_000.0
"""2023-11-14T22:13:20Z."""
DAY = "2023-11-14"
DAY_S = 86_400

_numbers = itertools.count()


def a_query(level: Level = "campaign", breakdown: Breakdown = "all") -> Query:
    return Query("analytics", date(2024, 1, 1), date(2024, 1, 31), level, breakdown)


def a_difference(
    field: str = "spend",
    *,
    level: str = "campaign",
    kind: Kind = "value",
    path: str | None = None,
    control: Scalar = 100.0,
    candidate: Scalar = 105.0,
    error: float | None = 0.05,
    count: int = 1,
    is_deciding: bool = True,
) -> Difference:
    where = f"data.*.{field}" if path is None else path
    return Difference(where, field, level, kind, control, candidate, error, count, is_deciding)


def a_result(*differences: Difference, rows: int = 3) -> Result:
    deciding = any(one.is_deciding for one in differences)
    outcome: Outcome = "mismatched" if deciding else "ignored" if differences else "matched"
    is_structural = any(one.kind in STRUCTURAL for one in differences)
    return Result(outcome, differences, is_structural, rows)


def a_comparison(
    *differences: Difference,
    at: float = AT,
    query: Query | None = None,
    side: Variant = "legacy",
    control: object = None,
    candidate: object = None,
    noise: Result | None = None,
    closer: Mapping[str, tuple[int, int, int]] | None = None,
) -> Comparison:
    return Comparison(
        at=at,
        query=a_query() if query is None else query,
        control_side=side,
        control=_body({"data": [{"spend": 100}]} if control is None else control),
        candidate=_body({"data": [{"spend": 105}]} if candidate is None else candidate),
        result=a_result(*differences),
        noise=noise,
        closer=closer,
    )


def as_it_is(document: object) -> object:
    """A redaction that leaves out nothing."""
    return document


def a_sample(*differences: Difference, sample_id: str | None = None, **more: Any) -> Sample:
    name = f"s{next(_numbers)}" if sample_id is None else sample_id
    return packed(name, a_comparison(*differences, **more), as_it_is)


def _body(document: object) -> bytes:
    return document if isinstance(document, bytes) else orjson.dumps(document)
