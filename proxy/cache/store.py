"""The protocol of a cache tier. One conformance suite runs over all of them."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from proxy.cache.codec import Head
from proxy.cache.entry import Entry
from proxy.freshness import Watermark
from proxy.query import Key, Query


@dataclass(frozen=True, slots=True)
class Found:
    """An entry and the word for the tier that held it (`memory`, `redis`)."""

    entry: Entry
    tier: str


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry as a list tells of it. `uses`: how often this process's memory gave it."""

    key: Key
    query: Query | None
    watermark: Watermark
    bytes: int
    stored_at: float
    uses: int
    tier: str
    question: str = ""


@dataclass(frozen=True, slots=True)
class Purged:
    """How many entries are gone. Not `is_complete`: the shared tier could not be asked."""

    count: int
    is_complete: bool


class Store(Protocol):
    """Holds entries by key. It neither judges them nor makes them.

    An outage raises StoreError: it must not be taken for a miss. Rubbish
    under a key is a counted miss.
    """

    async def get(self, key: Key) -> Found | None: ...

    async def put(self, key: Key, entry: Entry) -> None: ...

    async def delete(self, keys: Iterable[Key]) -> int:
        """Forget `keys`; return how many were held."""
        ...


class SharedStore(Store, Protocol):
    """A tier that others write to: what it holds has to be asked for."""

    def heads(self) -> AsyncGenerator[Mapping[Key, Head | None], None]:
        """All that is held, in batches; None for rubbish. A key may come twice."""
        ...

    async def refuse_fills(self) -> None:
        """Let nothing land that is being loaded now, in whatever process."""
        ...
