"""A comparison as it is kept: bounded, without user ids, compressed; its head as JSON and back."""

import math
from collections.abc import Callable
from typing import Any

import orjson
import zstandard

from proxy.rollout.comparison import Comparison
from proxy.rollout.ledger import Sample, SampleHead
from proxy.rollout.result import Difference, Scalar

Redact = Callable[[object], object]
"""A parsed body without the ids of users."""

LARGEST_BODY_BYTES = 8 * 2**20
_LARGEST_KEPT_BYTES = 2 * 2**20
"""Compressed, both together: more would not go to Redis within the time of one call."""
_MOST_DIFFERENCES = 50
_LONGEST_TEXT = 200
_LEVEL = 3

TOO_LARGE = "the bodies were too large to keep"
UNREADABLE = "the bodies could not be read again"
DAMAGED = "the bodies that were kept are damaged"


def packed(sample_id: str, comparison: Comparison, redact: Redact) -> Sample:
    """`comparison` as it is kept. Takes time with large bodies: for a thread."""
    control = candidate = b""
    note = ""
    if max(len(comparison.control), len(comparison.candidate)) > LARGEST_BODY_BYTES:
        note = TOO_LARGE
    else:
        try:
            control = _frame(comparison.control, redact)
            candidate = _frame(comparison.candidate, redact)
        except (ValueError, TypeError, RecursionError):
            # It was compared and counted: only its bodies are lost, whatever they are.
            note, control, candidate = UNREADABLE, b"", b""
        if len(control) + len(candidate) > _LARGEST_KEPT_BYTES:
            note, control, candidate = TOO_LARGE, b"", b""
    return Sample(_head(sample_id, comparison, note), control, candidate)


def unpacked(frame: bytes) -> bytes:
    """The JSON in `frame`. ValueError when it is damaged or holds too much."""
    try:
        if zstandard.frame_content_size(frame) > 2 * LARGEST_BODY_BYTES:
            raise ValueError("a frame of more than was ever packed")
        return zstandard.ZstdDecompressor().decompress(frame)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def head_to_json(head: SampleHead) -> bytes:
    return orjson.dumps(
        {
            "id": head.id,
            "at": head.at,
            "shape": head.shape,
            "query": dict(head.query),
            "outcome": head.outcome,
            "control_side": head.control_side,
            "differences": [difference_as_json(one) for one in head.differences],
            "rows": head.rows,
            "note": head.note,
        }
    )


def head_from_json(data: bytes) -> SampleHead:
    """ValueError for anything that is no head."""
    try:
        found: dict[str, Any] = orjson.loads(data)
        return SampleHead(
            id=str(found["id"]),
            at=float(found["at"]),
            shape=found["shape"],
            query=dict(found["query"]),
            outcome=found["outcome"],
            control_side=found["control_side"],
            differences=tuple(Difference(**one) for one in found["differences"]),
            rows=int(found["rows"]),
            note=str(found["note"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no head of a sample: {type(error).__name__}: {error}") from error


def difference_as_json(difference: Difference) -> dict[str, Scalar]:
    return {
        "path": difference.path,
        "field": difference.field,
        "level": difference.level,
        "kind": difference.kind,
        "control": difference.control,
        "candidate": difference.candidate,
        "relative_error": difference.relative_error,
        "count": difference.count,
        "is_deciding": difference.is_deciding,
    }


def _frame(body: bytes, redact: Redact) -> bytes:
    kept = orjson.dumps(redact(orjson.loads(body)))
    return zstandard.ZstdCompressor(level=_LEVEL).compress(kept)


def _head(sample_id: str, comparison: Comparison, note: str) -> SampleHead:
    query = comparison.query
    return SampleHead(
        id=sample_id,
        at=comparison.at,
        shape=query.shape,
        query=query.as_parameters(),
        outcome=comparison.result.outcome,
        control_side=comparison.control_side,
        differences=tuple(map(_bounded, comparison.result.differences[:_MOST_DIFFERENCES])),
        rows=comparison.result.rows,
        note=note,
    )


def _bounded(one: Difference) -> Difference:
    error = one.relative_error
    return Difference(
        path=_text(one.path),
        field=_text(one.field),
        level=_text(one.level),
        kind=one.kind,
        control=_scalar(one.control),
        candidate=_scalar(one.candidate),
        relative_error=error if error is not None and math.isfinite(error) else None,
        count=one.count,
        is_deciding=one.is_deciding,
    )


def _scalar(value: Scalar) -> Scalar:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return _text(str(value))
    return value


def _text(text: str) -> str:
    # Whole characters only: what is kept goes through JSON.
    return text[:_LONGEST_TEXT].encode("utf-8", "replace").decode()
