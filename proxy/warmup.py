"""Decides what to have ready and when: on start, after each pipeline run, and when asked."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import date, datetime
from typing import Literal

from proxy.cache.duty import Duty
from proxy.clock import Clock
from proxy.errors import StoreError
from proxy.jobs import Job, JobCancelledError, Jobs, JobsFullError
from proxy.popularity import Popularity, Sample
from proxy.query import Breakdown, Query
from proxy.read_through import ReadThrough
from proxy.usual import usual_questions
from proxy.warmup_replay import Replay, Shelf
from proxy.watermarks import Watermarks

Which = Literal["usual", "popular", "all"]

KIND = "warm"
SAMPLE_S = 60.0
"""Seconds between two looks at what was asked."""

_DUTY_PAUSE_S = 0.25
_MOST_POPULAR = 200
_SAMPLED_AT_ONCE = 1000


class Warmup:
    """Queues jobs that bring the most valuable recent questions and the usual ones into memory.

    Processes that share a Redis take the duty in turn, so that one computes and the
    others find it there. A duty that does not come within its own length ends
    the job as `cancelled`. See Replay for what else ends one.
    """

    def __init__(
        self,
        read_through: ReadThrough,
        watermarks: Watermarks,
        shelf: Shelf,
        jobs: Jobs,
        duty: Duty,
        clock: Clock,
        *,
        fingerprint: Callable[[], str],
        breakdowns: Callable[[], Awaitable[Sequence[Breakdown]]],
        written: Callable[[], Awaitable[None]],
        sample_s: float = SAMPLE_S,
    ) -> None:
        self._settling = watermarks.settling
        self._shelf = shelf
        self._jobs = jobs
        self._duty = duty
        self._clock = clock
        self._breakdowns = breakdowns
        self._sample_s = sample_s
        self._popularity = Popularity()
        self._replay = Replay(
            read_through,
            watermarks,
            shelf,
            fingerprint=fingerprint,
            written=written,
            overlook=self._popularity.overlook,
        )
        self._renew_at = 0.0

    async def follow(self) -> None:
        """Warm up on start and after each pipeline run that has settled, for ever."""
        known: int | None = None
        while True:
            about = "start" if known is None else "run"
            try:
                async with asyncio.timeout(self._sample_s):
                    known = await self._settling.after(known)
            except TimeoutError:
                await self._sample()
                continue
            if not self._jobs.is_queued(about):
                with suppress(JobsFullError):
                    self._jobs.add(KIND, about, self._work(self._all))

    def ask(self, which: Which) -> Job:
        """Queue a job for these questions. Raises JobsFullError."""
        choose = {"usual": self._usual, "popular": self._popular, "all": self._all}[which]
        return self._jobs.add(KIND, which, self._work(choose))

    def ask_for(self, queries: Sequence[Query]) -> Job:
        """Queue a job for `queries`, in this order. Raises JobsFullError."""

        async def choose() -> list[Query]:
            return list(dict.fromkeys(queries))

        return self._jobs.add(KIND, "queries", self._work(choose))

    def _work(
        self, choose: Callable[[], Awaitable[list[Query]]]
    ) -> Callable[[Job], Awaitable[None]]:
        async def work(job: Job) -> None:
            try:
                await self._take_duty()
                await self._replay.run(job, await choose(), self._is_on_duty)
            finally:
                # Also when cancelled while asking for it: it may be ours already.
                with suppress(StoreError):
                    await self._duty.give_back()

        return work

    async def _take_duty(self) -> None:
        # One whose holder died is free after its own length.
        give_up_at = self._clock.monotonic() + self._duty.ttl_s + 1
        try:
            while not await self._duty.take():
                if self._clock.monotonic() >= give_up_at:
                    raise JobCancelledError("another process is warming up")
                await asyncio.sleep(_DUTY_PAUSE_S)
        except StoreError:
            # Nothing is shared while Redis is down: each warms its own memory.
            pass
        self._renew_at = self._clock.monotonic() + self._duty.ttl_s / 6

    async def _is_on_duty(self) -> bool:
        if self._clock.monotonic() < self._renew_at:
            return True
        self._renew_at = self._clock.monotonic() + self._duty.ttl_s / 6
        try:
            return await self._duty.renew() or await self._duty.take()
        except StoreError:
            return True

    async def _usual(self) -> list[Query]:
        return usual_questions(_today(self._clock), await self._breakdowns())

    async def _popular(self) -> list[Query]:
        await self._sample()
        return self._popularity.most_valuable(self._clock.now(), _MOST_POPULAR)

    async def _all(self) -> list[Query]:
        return list(dict.fromkeys([*await self._popular(), *await self._usual()]))

    async def _sample(self) -> None:
        samples = []
        for number, (key, entry) in enumerate(self._shelf.entries(), 1):
            # A legacy route's answer has no question that could be replayed.
            if entry.query is not None:
                samples.append(Sample(entry.query, self._shelf.uses(key), entry.cost_ms))
            if number % _SAMPLED_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._popularity.observe(samples, self._clock.now())

    def __repr__(self) -> str:
        return f"<Warmup {self._popularity!r} {self._jobs!r}>"


def _today(clock: Clock) -> date:
    """The day where the proxy runs: the legacy application beside it has the same."""
    return datetime.fromtimestamp(clock.now()).date()
