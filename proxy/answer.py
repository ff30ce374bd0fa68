"""Answer: what the read path returns. Handlers turn it into a response."""

from dataclasses import dataclass, replace
from typing import Literal

from proxy.cache.entry import Entry
from proxy.document import with_warning
from proxy.payload import Payload
from proxy.query import Key

Source = Literal["optimized", "legacy", "stale"]
Result = Literal["hit", "miss", "stale", "bypass"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A payload, where it comes from and what the cache had to do with it.

    `detail` says why in a word or two (`redis`, `collapsed`, a fallback's
    reason). `stored_at` is None for what is not kept; `watermark` is the
    newest `computed_at`. `status` is not 200 only for the legacy's own answers;
    `headers` are what came with one.
    """

    payload: Payload
    source: Source
    result: Result
    detail: str = ""
    is_stored: bool = False
    is_collapsed: bool = False
    stored_at: float | None = None
    cost_ms: float = 0.0
    watermark: str | None = None
    warnings: tuple[str, ...] = ()
    key: Key | None = None
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def held(cls, key: Key, entry: Entry, detail: str = "") -> "Answer":
        """The answer that a fresh `entry` is."""
        return cls(
            payload=entry.payload,
            source="optimized",
            result="hit",
            detail=detail,
            is_stored=True,
            stored_at=entry.stored_at,
            cost_ms=entry.cost_ms,
            watermark=entry.watermark.computed_at,
            warnings=entry.warnings,
            key=key,
        )

    @classmethod
    def marked(cls, key: Key, entry: Entry, warning: str, detail: str) -> "Answer":
        """The last `entry` we had, saying in its body and headers that it may be old."""
        held = cls.held(key, entry)
        return replace(
            held,
            payload=Payload.of(with_warning(entry.payload.body, warning)),
            source="optimized" if warning == "rebuilding" else "stale",
            result="stale" if warning == "stale" else "hit",
            detail=detail,
            is_stored=False,
            warnings=(*held.warnings, warning),
        )
