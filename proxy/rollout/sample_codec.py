"""A comparison as it is kept: bounded, without its users, compressed; its head as JSON and back."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import zstandard

from proxy.rollout.comparison import Comparison
from proxy.rollout.differences import LONGEST_TEXT
from proxy.rollout.ledger import Sample, SampleHead
from proxy.rollout.redaction import LEFT_OUT
from proxy.rollout.result import Difference, Scalar

Redact = Callable[[object], object]
"""A parsed body without what tells users; a document of one value likewise."""

FORM = 1
"""Of a head, and of the bodies beside it."""
LARGEST_BODY_BYTES = 8 * 2**20
_LARGEST_KEPT_BYTES = 2 * 2**20
"""Compressed, both together: more would not go to Redis within the time of one call."""
_MOST_DIFFERENCES = 50
_CUT_ADDRESS = re.compile(r"[^\s\"'<>,;]{0,200}(?:@|%40)[^\s\"'<>,;]{0,200}$")
"""The beginning of an e-mail address, where a text was cut."""
_LEVEL = 3

TOO_LARGE = "the bodies were too large to keep"
UNREADABLE = "the bodies could not be read again"
DAMAGED = "the bodies that were kept are damaged"


class NewerSampleError(ValueError):
    """Written by a newer version of the proxy: what it means is not known here."""


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
    return Sample(_head(sample_id, comparison, note, redact), control, candidate)


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
            "form": FORM,
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
    """ValueError for anything that is no head, NewerSampleError for one of a later form."""
    try:
        found: dict[str, Any] = orjson.loads(data)
        # The first ones did not say it.
        form = found.get("form", 1)
        if form != FORM:
            kind = NewerSampleError if form > FORM else ValueError
            raise kind(f"form {form!r}; this one knows {FORM}")
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


def _head(sample_id: str, comparison: Comparison, note: str, redact: Redact) -> SampleHead:
    query = comparison.query
    shown = comparison.result.differences[:_MOST_DIFFERENCES]
    return SampleHead(
        id=sample_id,
        at=comparison.at,
        shape=query.shape,
        query=query.as_parameters(),
        outcome=comparison.result.outcome,
        control_side=comparison.control_side,
        differences=tuple(_bounded(one, redact) for one in shown),
        rows=comparison.result.rows,
        note=note,
    )


def _bounded(one: Difference, redact: Redact) -> Difference:
    error = one.relative_error
    names = one.path.split(".")
    return Difference(
        path=_text(one.path, redact),
        field=_text(one.field, redact),
        level=_text(one.level, redact),
        kind=one.kind,
        control=_scalar(one.control, names, redact),
        candidate=_scalar(one.candidate, names, redact),
        relative_error=error if error is not None and math.isfinite(error) else None,
        count=one.count,
        is_deciding=one.is_deciding,
    )


def _scalar(value: Scalar, names: Sequence[str], redact: Redact) -> Scalar:
    """`value` as a body keeps it that has it under `names`, each in the one before."""
    if isinstance(value, str):
        value = _whole(value)
    document: object = value
    for name in reversed(names):
        document = {name: document}
    try:
        found: object = redact(document)
    except (ValueError, TypeError, RecursionError):
        return LEFT_OUT
    for _ in names:
        if not isinstance(found, dict) or len(found) != 1:
            return LEFT_OUT if value is not None else None
        (found,) = found.values()
    return _plain(found)


def _plain(value: object) -> Scalar:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return _cut(str(value))
    if isinstance(value, str):
        return _cut(value)
    return value if value is None or isinstance(value, bool | int | float) else LEFT_OUT


def _text(text: str, redact: Redact) -> str:
    try:
        return _cut(str(redact(_whole(text))))
    except (ValueError, TypeError, RecursionError):
        return LEFT_OUT


def _whole(text: str) -> str:
    """As long as is kept, without the part of an address that a cut has left."""
    if len(text) < LONGEST_TEXT:
        return text
    return _CUT_ADDRESS.sub(LEFT_OUT, text[:LONGEST_TEXT])


def _cut(text: str) -> str:
    # Whole characters only: what is kept goes through JSON.
    return text[:LONGEST_TEXT].encode("utf-8", "replace").decode()
