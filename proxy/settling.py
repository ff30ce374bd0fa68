"""Settling: the news that the pipeline has written and fallen quiet again."""

import asyncio


class Settling:
    """Tells each generation of the data once. Who comes late hears the newest only."""

    def __init__(self) -> None:
        self._told: int | None = None
        self._news = asyncio.Event()

    def tell(self, generation: int) -> None:
        """The data are settled as `generation`; the same one again is no news."""
        if generation == self._told:
            return
        self._told = generation
        # One event per piece of news: who waits for the next must not see this one.
        self._news.set()
        self._news = asyncio.Event()

    async def after(self, known: int | None) -> int:
        """The settled generation, once it is another than `known`."""
        while self._told is None or self._told == known:
            await self._news.wait()
        return self._told

    def __repr__(self) -> str:
        return f"<Settling told={self._told}>"
