"""Lease: the right to answer one question for all processes that share a tier. Protocol only."""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from proxy.cache.entry import Entry
from proxy.query import Key


@dataclass(frozen=True, slots=True)
class Lease:
    """One try at the question `key` in the state of the data that `watermark` (a token) names.

    `token` tells this try from all others. Whether it is granted, and still
    held, only the server of the leases knows.
    """

    key: Key
    watermark: str
    token: str


class Taken(Enum):
    """What came of a try."""

    GRANTED = "granted"
    HELD = "held by another"
    ANSWERED = "the entry is there"


class Leases(Protocol):
    """Grants each question in each state of the data to one process at a time, for a while.

    All raise StoreError when that cannot be asked.
    """

    async def take(self, lease: Lease, *, again: bool = False) -> Taken:
        """`again`: the entry that is there was looked at and is not the one."""
        ...

    async def renew(self, lease: Lease) -> bool:
        """Whether it is still held, now for its whole time again."""
        ...

    async def put(self, lease: Lease, entry: Entry) -> bool:
        """Keep `entry` and give the lease back, both or none.

        Refused (False) when the lease is no longer held, when a later holder
        has put an entry for the same question, or when the entry was deleted
        since: a late write must not undo those.
        """
        ...

    async def give_back(self, lease: Lease) -> None:
        """Let another try at once. Nothing happens when it is not held."""
        ...
