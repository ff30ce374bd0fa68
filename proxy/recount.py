"""Recount: finds deleted rows, which leave no trace but their count."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog

from proxy.background import Background
from proxy.errors import BackendError
from proxy.looks import TABLES, Looks, TableWord

log = structlog.get_logger(__name__)

_MOST_TRIES = 5
"""Counts in a row that a commit may overtake, for whoever waits for one."""


class Recount:
    """Counts the rows of all dates `after_s` after each commit, off the request path.

    `compare` is given what was counted, unless the `generation` of what is
    known has moved on meanwhile: then it is counted again.
    """

    def __init__(
        self,
        looks: Looks,
        background: Background,
        generation: Callable[[], int],
        compare: Callable[[TableWord, Mapping[str, int]], None],
        *,
        after_s: float,
    ) -> None:
        self._looks = looks
        self._background = background
        self._generation = generation
        self._compare = compare
        self._after_s = after_s
        self._task: asyncio.Task[None] | None = None
        self._is_due = False

    def again(self) -> None:
        """There was a commit: deletes in it are known when this has come round."""
        self._is_due = True
        if self._task is None:
            # While the proxy leaves there are no new tasks, and nobody to count for.
            with suppress(RuntimeError):
                self._task = self._background.spawn(self._run(), name="recount", endless=True)

    async def now(self) -> None:
        """Count at once, if a commit came since the last count.

        Raises BackendError, also when commits come faster than rows can be counted.
        """
        if self._task is not None:
            for table in TABLES:
                await self._count_in_peace(table)

    async def _run(self) -> None:
        try:
            while self._is_due:
                await asyncio.sleep(self._after_s)
                # A commit from here on asks for another count.
                self._is_due = False
                try:
                    for table in TABLES:
                        await self._count(table)
                except BackendError as error:
                    log.warning("recount_failed", error=str(error))
                    self._is_due = True
        finally:
            self._task = None

    async def _count_in_peace(self, table: TableWord) -> None:
        for _ in range(_MOST_TRIES):
            if await self._count(table):
                return
        raise BackendError("the tables change faster than they are counted", reason="unsettled")

    async def _count(self, table: TableWord) -> bool:
        generation = self._generation()
        counts = await self._looks.counts(table)
        if generation != self._generation():
            # What is known has moved on while the rows were counted.
            self._is_due = True
            return False
        self._compare(table, counts)
        return True

    def __repr__(self) -> str:
        return f"<Recount due={self._is_due} running={self._task is not None}>"
