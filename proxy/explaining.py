"""Explains what would become of a question, without asking it and without counting it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from proxy.cache.store import Found
from proxy.freshness import Verdict, judge
from proxy.keys import key_for
from proxy.looks import Reading
from proxy.query import Key, Query
from proxy.watermarks import Watermarks

Side = Literal["optimized", "legacy"]


class Looked(Protocol):
    async def look(self, key: Key) -> Found | None:
        """What is held under `key`; looking is no use."""
        ...


@dataclass(frozen=True, slots=True)
class Explanation:
    """`reading` is None while the database cannot be looked at, `found` when nothing is held.

    `side` is who would answer a caller whom the split deals to us: `split_percent` of them.
    """

    query: Query
    key: Key
    reading: Reading | None
    found: Found | None
    is_fresh: bool
    side: Side
    split_percent: float


class Explainer:
    """Looks where the read path would look. Takes a look at the database, as any question does."""

    def __init__(
        self,
        watermarks: Watermarks,
        store: Looked,
        fingerprint: Callable[[], str],
        *,
        has_legacy: bool,
        split_percent: Callable[[], float],
    ) -> None:
        self._watermarks = watermarks
        self._store = store
        self._fingerprint = fingerprint
        self._has_legacy = has_legacy
        self._split_percent = split_percent

    async def explain(self, query: Query) -> Explanation:
        reading = await self._watermarks.current(query)
        key = key_for(query, self._fingerprint())
        found = await self._store.look(key)
        watermark = None if reading is None else reading.watermark
        is_fresh = found is not None and judge(found.entry.watermark, watermark) is Verdict.FRESH
        side = side_of(reading, is_fresh=is_fresh, has_legacy=self._has_legacy)
        return Explanation(query, key, reading, found, is_fresh, side, self._split_percent())


def side_of(reading: Reading | None, *, is_fresh: bool, has_legacy: bool) -> Side:
    """Who would answer: the tables, unless they cannot and the legacy may know more."""
    if is_fresh or not has_legacy:
        return "optimized"
    if reading is None or reading.is_rebuilding or not any(reading.rows.values()):
        return "legacy"
    return "optimized"
