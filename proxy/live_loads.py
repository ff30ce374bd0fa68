"""LiveLoads: whether a caller waits for a load just now, so that work that can wait does."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class LiveLoads:
    """Counts the callers that wait for a load. For one event loop only."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A caller waits as long as the context lasts."""
        self._count += 1
        self._none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._none.set()

    async def none(self, patience_s: float) -> bool:
        """Wait until no caller waits; False when one still does after `patience_s`."""
        try:
            async with asyncio.timeout(patience_s):
                await self._none.wait()
        except TimeoutError:
            return False
        return True

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<LiveLoads {self._count}>"
