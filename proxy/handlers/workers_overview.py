"""/admin/overview and /admin/events of several workers: what each says, added up."""

import asyncio
from collections.abc import Mapping
from typing import Any

from proxy.errors import BackendUnavailable
from proxy.live.overview import merge
from proxy.workers.link import LinkError
from proxy.workers.post import Post
from proxy.workers.supervisor import Supervisor

_PATH = "/admin/overview"


class WorkersOverview:
    """Collects what AdminLive tells. What workers that are gone last said of their past stays."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._last: dict[int, Mapping[str, Any]] = {}
        self._past: Mapping[str, Any] | None = None

    async def snapshot(self) -> Mapping[str, Any]:
        """Raises BackendUnavailable when no worker answers."""
        told = await asyncio.gather(*(self._ask(post) for post in self._supervisor.answering()))
        here = [one for one in told if one is not None]
        if not here:
            raise BackendUnavailable("no worker is there to answer: try again in a moment")
        self._let_go()
        if self._past is None:
            return merge(here)
        # How it is now, only those know that are there.
        return merge([*here, {**self._past, "freshness": here[0]["freshness"]}])

    async def remember(self, post: Post) -> None:
        """Hear `post` once more, for it is about to leave."""
        await self._ask(post)

    async def pipeline(self) -> Mapping[str, Any] | None:
        """The lead's: all workers follow the same pipeline."""
        lead = self._supervisor.lead
        if lead is None:
            return None
        try:
            return await lead.worker.link.read_json("/admin/pipeline")
        except LinkError:
            return None

    async def _ask(self, post: Post) -> Mapping[str, Any] | None:
        try:
            told = await post.worker.link.read_json(_PATH)
        except LinkError:
            return None
        self._last[post.number] = told
        return told

    def _let_go(self) -> None:
        here = {post.number for post in self._supervisor}
        for number in [number for number in self._last if number not in here]:
            past = _past_of(self._last.pop(number))
            self._past = past if self._past is None else merge([self._past, past])


def _past_of(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """What it has done, without what it held and how it was."""
    nothing = dict.fromkeys(told["cache"], 0)
    past = {**told, "uptime_s": 0, "cache": nothing, "jobs": [], "sources": {}}
    past.pop("split", None)
    past.pop("rollout", None)
    return past
