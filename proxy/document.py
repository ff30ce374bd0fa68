"""The top level of an answer: `success`, `data`, `metadata`, as bytes. Pure.

Equal data give equal bytes: nothing here looks at a clock. `generated_at` is
when the pipeline generated the newest number, and what answering took is told
by the Server-Timing header; `query_time_ms` is 0 for that reason.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from proxy.query import Query

DATA_SOURCE = "pre_computed_optimized"

WARNINGS: Mapping[str, str] = {
    "no_rows": "No pre-computed rows in this range.",
    "no_breakdown": "The database has no breakdown table: breakdown_data is empty.",
    "no_hierarchy": "The database has no hierarchy table: rows have no parents or children.",
    "orphans": "{count} rows have no hierarchy row: they stand on their own level only.",
    "narrow": "The daily table is of the narrow form: conversion and refund rates are 0.",
    "no_meta": "No Meta database: spend, impressions, clicks and Meta counts are 0.",
    "narrow_breakdown": (
        "The breakdown table is of the narrow form: conversion and refund rates are 0 there."
    ),
    "no_meta_breakdown": (
        "The Meta database has no table for this breakdown: spend, impressions, clicks and"
        " Meta counts are 0 there."
    ),
    "zero_measures": "The daily table lacks the columns of these measures, which are 0: {names}.",
    "stale": "The newest data could not be read: these are the last known numbers.",
    "unverified": "The database cannot be read: these numbers were true when last looked at.",
    "rebuilding": "The pipeline is rebuilding these dates: numbers may be old or not whole.",
    "legacy_fields": "The legacy API does not send these fields, which are 0: {names}.",
}
"""Word of the `X-Dashboard-Warning` header -> sentence in `metadata.warnings`."""


def render(
    query: Query,
    records: Sequence[Mapping[str, Any]],
    *,
    computed_at: str | None,
    warnings: Sequence[str],
    data_source: str = DATA_SOURCE,
) -> bytes:
    """The JSON of an answer. `warnings` stands last, where `with_warning` finds it."""
    date_range = f"{query.start.isoformat()} to {query.end.isoformat()}"
    if query.shape == "dashboard":
        metadata: dict[str, Any] = {
            "total_records": len(records),
            "query_time_ms": 0,
            "date_range": date_range,
        }
    else:
        metadata = {
            "query_config": query.as_parameters(),
            "record_count": len(records),
            "date_range": date_range,
        }
    metadata |= {
        "generated_at": computed_at,
        "data_source": data_source,
        "computed_at": computed_at,
        "warnings": list(warnings),
    }
    return orjson.dumps({"success": True, "data": records, "metadata": metadata})


def with_warning(body: bytes, word: str) -> bytes:
    """`body`, an answer of `render`, with one more sentence in its warnings."""
    head, tail = body[:-3], body[-3:]
    if tail != b"]}}":
        raise ValueError("not an answer that ends with its warnings")
    comma = b"" if head.endswith(b"[") else b","
    return head + comma + orjson.dumps(WARNINGS[word]) + tail
