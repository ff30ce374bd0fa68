"""A place for the migration's state in memory that can be down, or hang."""

import asyncio
from collections.abc import Collection, Mapping

from proxy.errors import StoreError
from proxy.rollout.shared_state import merged_into
from proxy.rollout.state import MigrationState
from proxy.rollout.state_codec import tag_of, version_of


class StateInMemory:
    """`is_full`: what is there can be read, but nothing written. A closed `gate` holds writes."""

    def __init__(self, kept: MigrationState | None = None) -> None:
        self.kept = kept
        self.is_down = False
        self.is_full = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0
        self.writes = 0
        self.told: list[tuple[str, str | None]] = []
        self._followers: dict[str, int] = {}

    async def read(self) -> MigrationState | None:
        self._refuse_when_down()
        return self.kept

    async def write(self, state: MigrationState) -> MigrationState:
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        self._refuse_when_down()
        if self.is_full:
            raise StoreError("the disk is full")
        self.writes += 1
        self.kept = merged_into(self.kept, state)
        return self.kept

    async def follow(self, process: str, tag: str | None) -> str | None:
        self._refuse_when_down()
        self.told.append((process, tag))
        found = None if self.kept is None else tag_of(self.kept)
        self._followers[process] = version_of(tag) if tag is not None and tag == found else 0
        return found

    async def followers(self) -> Mapping[str, int]:
        self._refuse_when_down()
        return dict(self._followers)

    async def forget(self, processes: Collection[str]) -> None:
        self._refuse_when_down()
        for process in processes:
            self._followers.pop(process, None)

    def _refuse_when_down(self) -> None:
        if self.is_down:
            raise StoreError("it is down")
