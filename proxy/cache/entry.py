"""Entry: what a store holds under a key."""

from dataclasses import dataclass, replace

from proxy.freshness import Watermark
from proxy.payload import Payload
from proxy.query import Query


@dataclass(frozen=True, slots=True)
class Entry:
    """A payload and the watermark that was read before its data.

    So it may be labelled older than it is, never newer. `stored_at` is in
    seconds since the epoch, `cost_ms` is what making the payload took, and
    `query` is the question it answers: people look entries up by it. None for
    the answer of a legacy route, which `question` then names; only such a one
    has `headers` of its own.
    """

    query: Query | None
    payload: Payload
    watermark: Watermark
    stored_at: float
    cost_ms: float = 0.0
    warnings: tuple[str, ...] = ()
    question: str = ""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    def with_encoding(self, coding: str, data: bytes) -> "Entry":
        return replace(self, payload=self.payload.with_encoding(coding, data))
