"""Processes in one: leases and a shared tier that live in a dict, and hands on the clock."""

import asyncio

from proxy.cache.entry import Entry
from proxy.cache.lease import Lease, Taken
from proxy.cache.store import Found
from proxy.errors import StoreError
from proxy.query import Key
from tests.clocks import HandClock
from tests.gates import Gates


class SharedRedis:
    """What Redis knows: who holds what, and the entries. `is_down`: nothing of it can be asked."""

    def __init__(self) -> None:
        self.holders: dict[tuple[Key, str], str] = {}
        self.entries: dict[Key, Entry] = {}
        self.is_down = False

    def expire(self) -> None:
        """The time of every lease has passed."""
        self.holders.clear()

    def ask(self) -> None:
        if self.is_down:
            raise StoreError("down")


class FakeLeases:
    """One process's leases. Each step does its work, then comes to its gate: an answer may hang."""

    def __init__(self, redis: SharedRedis, gates: Gates) -> None:
        self.redis = redis
        self.gates = gates

    async def take(self, lease: Lease, *, again: bool = False) -> Taken:
        taken = self._taken(lease, again)
        await self.gates.come_to("take again" if again else "take")
        return taken

    async def renew(self, lease: Lease) -> bool:
        await self.gates.come_to("renew")
        self.redis.ask()
        return self._is_held(lease)

    async def put(self, lease: Lease, entry: Entry) -> bool:
        await self.gates.come_to("put")
        self.redis.ask()
        if not self._is_held(lease):
            return False
        del self.redis.holders[lease.key, lease.watermark]
        self.redis.entries[lease.key] = entry
        return True

    async def give_back(self, lease: Lease) -> None:
        await self.gates.come_to("give back")
        self.redis.ask()
        if self._is_held(lease):
            del self.redis.holders[lease.key, lease.watermark]

    def _taken(self, lease: Lease, again: bool) -> Taken:
        self.redis.ask()
        held = self.redis.entries.get(lease.key)
        if not again and held is not None and held.watermark.token == lease.watermark:
            return Taken.ANSWERED
        if (lease.key, lease.watermark) in self.redis.holders:
            return Taken.HELD
        self.redis.holders[lease.key, lease.watermark] = lease.token
        return Taken.GRANTED

    def _is_held(self, lease: Lease) -> bool:
        return self.redis.holders.get((lease.key, lease.watermark)) == lease.token


class FakeTiers:
    """One process's memory, and the shared tier. `is_blind`: what is there cannot be read."""

    def __init__(self, redis: SharedRedis, gates: Gates) -> None:
        self.redis = redis
        self.gates = gates
        self.memory: dict[Key, Entry] = {}
        self.is_blind = False

    async def get_shared(self, key: Key) -> Found | None:
        await self.gates.come_to("get shared")
        entry = self.redis.entries.get(key)
        return None if entry is None or self.is_blind else Found(entry, "redis")

    async def put(self, key: Key, entry: Entry) -> None:
        self.gates.steps.append("put unleased")
        self.memory[key] = entry

    def put_now(self, key: Key, entry: Entry) -> None:
        self.memory[key] = entry


class HandSleep:
    """Sleeps until the test lets time pass; `pauses` are those that were asked for, in order."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self._sleepers: list[tuple[float, asyncio.Event]] = []
        self.pauses: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)
        woken = asyncio.Event()
        sleeper = (self._clock.monotonic() + seconds, woken)
        self._sleepers.append(sleeper)
        try:
            await woken.wait()
        finally:
            self._sleepers.remove(sleeper)

    def pass_s(self, seconds: float) -> None:
        """Move the clock and wake whose time has come."""
        self._clock.pass_s(seconds)
        for at, woken in self._sleepers:
            if at <= self._clock.monotonic() + 1e-9:
                woken.set()

    def __len__(self) -> int:
        return len(self._sleepers)
