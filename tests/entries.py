"""Entries for tests of whatever holds them."""

from datetime import date

import orjson

from proxy.cache.entry import Entry
from proxy.freshness import Watermark
from proxy.payload import Payload
from proxy.query import Query

QUERY = Query("analytics", date(2024, 1, 1), date(2024, 1, 31), "campaign")


def an_entry(
    text: str = "rows", *, size: int = 0, token: str = "w1", stored_at: float = 1_700_000_000.0
) -> Entry:
    """An entry whose body tells `text` and is at least `size` bytes long, of bytes that pack."""
    body = orjson.dumps({"data": text, "fill": "x" * size})
    return Entry(
        query=QUERY,
        payload=Payload.of(body),
        watermark=Watermark(token, "2024-02-01 06:00:00"),
        stored_at=stored_at,
        cost_ms=12.5,
        warnings=("rebuilding",),
    )
