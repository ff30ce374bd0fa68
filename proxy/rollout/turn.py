"""Turn: whether this process is the one on duty, asked as seldom as that is safe."""

from contextlib import suppress

from proxy.cache.duty import Duty
from proxy.clock import Clock
from proxy.errors import StoreError


class Turn:
    """Takes the duty when it is free and renews it after a third of its length.

    A holder that dies is followed by another when the duty has run out.
    """

    def __init__(self, duty: Duty, clock: Clock) -> None:
        self._duty = duty
        self._clock = clock
        self._renew_at: float | None = None

    async def is_ours(self) -> bool:
        """Raises StoreError: then it may be anybody's, and is not ours."""
        now = self._clock.monotonic()
        if self._renew_at is not None and now < self._renew_at:
            return True
        was_ours, self._renew_at = self._renew_at is not None, None
        if (was_ours and await self._duty.renew()) or await self._duty.take():
            # From before it was asked for: it is not ours for longer than the store thinks.
            self._renew_at = now + self._duty.ttl_s / 3
        return self._renew_at is not None

    async def leave(self) -> None:
        """Let another process have it at once. One that cannot be told waits until it runs out."""
        if self._renew_at is not None:
            self._renew_at = None
            with suppress(StoreError):
                await self._duty.give_back()

    def __repr__(self) -> str:
        return f"<Turn ours={self._renew_at is not None}>"
