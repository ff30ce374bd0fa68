"""What looks at the pipeline's database see, and the protocol of whoever takes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from proxy.freshness import Watermark

TableWord = Literal["daily", "breakdown"]
TABLES: tuple[TableWord, ...] = ("daily", "breakdown")
Counter = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GroupState:
    """The rows of one date that stand together: how many, how new, a digest of ids and numbers."""

    rows: int
    computed_at: str | None
    digest: str


DayState = Mapping[str, GroupState]
"""Of one date: level (`daily`) or level/breakdown (`breakdown`) -> state."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a look saw besides the dates. Tokens stand for content: equal tokens, equal content.

    `names` has a token per level. `newest` and `last_row` are where the next
    look begins to search for written rows.
    """

    schema: str
    names: Mapping[str, str]
    hierarchy: str
    meta: str
    newest: Mapping[TableWord, str | None]
    last_row: Mapping[TableWord, int]


@dataclass(frozen=True, slots=True)
class Changes:
    """A look's snapshot and the dates whose rows may have been written since another; None: any."""

    snapshot: Snapshot
    dates: Mapping[TableWord, frozenset[str] | None]


class Looks(Protocol):
    """The looks at the pipeline's database that following it takes. All raise BackendError."""

    def counter(self) -> Counter:
        """Changes with every commit of another connection. Microseconds, on a held connection."""
        ...

    async def changes(self, since: Snapshot | None) -> Changes: ...

    async def states(self, table: TableWord, dates: Sequence[str]) -> Mapping[str, DayState]: ...

    async def counts(self, table: TableWord) -> Mapping[str, int]:
        """Date -> rows for all of history, from an index alone."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """A question's watermark and the daily rows, per level, that its range holds by it.

    `is_rebuilding`: rows of its dates are missing; the watermark is the one from before.
    """

    watermark: Watermark
    rows: Mapping[str, int]
    generation: int
    is_rebuilding: bool = False
