"""The protocol of a source that can answer a question."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from proxy.payload import Payload
from proxy.query import Query


@dataclass(frozen=True, slots=True)
class Fetched:
    """A payload and what was read to make it.

    `rows_read` counts the rows of the range per (table word, level) and
    `computed_at` is the newest of them, so that the fill can be held against
    the watermark it is labelled with. `warnings` are words for the header.
    `shortfall` says why another source may know more (`no_rows`), else None.
    """

    payload: Payload
    cost_ms: float
    rows_read: Mapping[tuple[str, str], int] = field(default_factory=dict)
    computed_at: str | None = None
    warnings: tuple[str, ...] = ()
    shortfall: str | None = None


class Backend(Protocol):
    async def fetch(self, query: Query) -> Fetched:
        """Answer `query`. Raises BackendError; a cancelled caller stops the work."""
        ...
