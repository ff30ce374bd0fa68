"""/admin/overview and /admin/events of several workers: how they are, and what all have counted."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from proxy.clock import Clock
from proxy.errors import BackendUnavailable
from proxy.live.counters import Counters, counters_of
from proxy.live.history import History
from proxy.live.overview import merge, overview_of
from proxy.workers.counted import counted_of
from proxy.workers.link import LinkError
from proxy.workers.post import Post
from proxy.workers.supervisor import Supervisor

_PATH = "/admin/overview"
_PATIENCE_S = 2.0
"""One that hangs must hold up nobody who looks, nor cost the history a step."""


class WorkersOverview:
    """Collects what AdminLive tells.

    Requests, times and history come from the totals, as /metrics does: workers that
    are gone are part of them. How it is now, only those say that are there.
    """

    def __init__(self, supervisor: Supervisor, clock: Clock) -> None:
        self._supervisor = supervisor
        self._clock = clock
        self._history = History()

    async def follow(self) -> None:
        """Look once per step of the history, for ever."""
        while True:
            began = self._clock.monotonic()
            # A look may last into the next step, which must not be slept through.
            left_s = self._history.step_s - await self.look() % self._history.step_s
            await asyncio.sleep(max(0.0, began + left_s - self._clock.monotonic()))

    async def look(self) -> float:
        """Put into the history what was counted since the look before. Returns when it began."""
        now = self._clock.now()
        await self._scrape()
        self._history.look(now, self._counters())
        return now

    async def snapshot(self) -> Mapping[str, Any]:
        """Raises BackendUnavailable when no worker answers."""
        posts = self._supervisor.answering()
        *told, _ = await asyncio.gather(*map(_ask, posts), self._scrape())
        here = [one for one in told if one is not None]
        if not here:
            raise BackendUnavailable("no worker is there to answer: try again in a moment")
        merged = merge(here)
        return overview_of(
            self._counters(),
            self._history.points,
            self._history.step_s,
            merged,
            max_bytes=merged["cache"]["max_bytes"],
        )

    async def pipeline(self) -> Mapping[str, Any] | None:
        """The lead's: all workers follow the same pipeline."""
        lead = self._supervisor.lead
        if lead is None:
            return None
        try:
            return await lead.worker.link.read_json("/admin/pipeline")
        except LinkError:
            return None

    async def _scrape(self) -> None:
        """What is known stands when one of them cannot say how it is now."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._supervisor.scrape()

    def _counters(self) -> Counters:
        return counters_of(counted_of(self._supervisor.totals.families()))


async def _ask(post: Post) -> Mapping[str, Any] | None:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await post.worker.link.read_json(_PATH)
    except (LinkError, TimeoutError):
        return None
