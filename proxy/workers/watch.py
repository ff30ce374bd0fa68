"""Watch: ends workers that hang, and notes what they count while they can still tell."""

import asyncio

import structlog

from proxy.background import Background
from proxy.clock import Clock
from proxy.workers.counts import Counts
from proxy.workers.post import Post, Times
from proxy.workers.roster import Stage

log = structlog.get_logger(__name__)


class Watch:
    """Looks at each worker that serves until it does no more, and has `counts` look too."""

    def __init__(
        self,
        background: Background,
        clock: Clock,
        times: Times,
        counts: Counts,
    ) -> None:
        self._background = background
        self._clock = clock
        self._times = times
        self._counts = counts

    def follow(self, post: Post) -> None:
        """From now on, while it serves."""
        self._background.spawn(self._follow(post), name=f"watch {post.number}", endless=True)

    def limit(self, post: Post, seconds: float, stage: Stage, why: str) -> None:
        """End it if it is still in that stage then."""

        async def limit() -> None:
            await asyncio.sleep(seconds)
            self._end(post, stage, why)

        self._background.spawn(limit(), name=f"limit {stage} {post.number}", endless=True)

    async def _follow(self, post: Post) -> None:
        times = self._times
        heard_at = scraped_at = self._clock.monotonic()
        missed = 0
        while post.member.stage == "serving" and not post.is_over:
            await asyncio.sleep(times.probe_s)
            if await post.worker.link.is_live(times.hang_s / 2):
                heard_at = self._clock.monotonic()
                missed = 0
            else:
                missed += 1
            now = self._clock.monotonic()
            # In the round that is nearest: a moment too early must not cost a whole one.
            if not missed and now - scraped_at >= times.scrape_s - times.probe_s / 2:
                await self._counts.look([post])
                scraped_at = now
            # Twice: when this process itself was held up, the first answer looks late.
            if missed >= 2 and now - heard_at >= times.hang_s:
                self._end(post, "serving", f"it has not answered for {times.hang_s:g} s")

    def _end(self, post: Post, stage: Stage, why: str) -> None:
        if post.member.stage == stage and not post.is_over:
            log.error("worker_killed", worker=post.number, pid=post.worker.pid, why=why)
            post.killed = why
            post.worker.kill()
