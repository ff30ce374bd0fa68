"""Counts: what each worker has counted, fetched while it can still tell."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import structlog

from proxy.workers.link import LinkError
from proxy.workers.post import Post
from proxy.workers.totals import Totals

log = structlog.get_logger(__name__)


class Counts:
    """Fills the totals. What a worker says last counts, whatever is under way when it leaves."""

    def __init__(self, totals: Totals) -> None:
        self.totals = totals

    async def look(self, posts: Iterable[Post]) -> None:
        """Ask all of `posts` at once. Of one that does not answer the look before stands."""
        await asyncio.gather(*(self._look(post) for post in posts))

    def note(self, number: int, text: str) -> None:
        """`text` is what /metrics of that worker says."""
        try:
            self.totals.report(number, text)
        except ValueError as error:
            log.error("metrics_not_understood", worker=number, error=str(error))

    def leave(self, number: int) -> None:
        self.totals.leave(number)

    async def _look(self, post: Post) -> None:
        with suppress(LinkError):
            text = (await post.worker.link.read("/metrics")).decode()
            # It may have left meanwhile, with a last word that counts.
            if not post.is_over:
                self.note(post.number, text)

    def __repr__(self) -> str:
        return f"<Counts {self.totals!r}>"
