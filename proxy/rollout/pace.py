"""Pace: work that may take only a small share of one core, and rests in proportion."""

import asyncio
from collections.abc import Awaitable, Callable

from proxy.clock import Clock


class Pace:
    """After work of `c` seconds of processor time the next may begin c / share - c seconds later.

    Shared by all who work at it: together they keep to the share.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        share: float = 0.05,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._rest_per_s = 1 / share - 1
        self._sleep = sleep
        self._free_at = clock.monotonic()

    async def turn(self) -> None:
        """Wait until what was spent has been rested from."""
        while (wait_s := self._free_at - self._clock.monotonic()) > 0:
            await self._sleep(wait_s)

    def spent(self, processor_s: float) -> None:
        now = self._clock.monotonic()
        self._free_at = max(self._free_at, now) + processor_s * self._rest_per_s

    def __repr__(self) -> str:
        wait_s = max(0.0, self._free_at - self._clock.monotonic())
        return f"<Pace next turn in {wait_s:.2f} s>"
