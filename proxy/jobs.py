"""Jobs: long work that runs beside the answers, one at a time, and what became of it."""

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import structlog

from proxy.background import Background
from proxy.clock import Clock
from proxy.errors import ProxyError

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
Work = Callable[["Job"], Awaitable[None]]

log = structlog.get_logger(__name__)


class JobCancelledError(ProxyError):
    """The work found a reason not to go on; it is no failure."""


class JobsFullError(ProxyError):
    """Too many jobs wait already."""


@dataclass(slots=True, eq=False)
class Job:
    """`done` of `total` steps are over, `errors` of them went wrong. Times are since the epoch.

    `about` says what of its kind it does, `note` why it ended as it did.
    """

    id: str
    kind: str
    about: str
    state: JobState = "queued"
    done: int = 0
    total: int = 0
    errors: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    note: str = ""

    @property
    def is_over(self) -> bool:
        return self.state not in ("queued", "running")


class Jobs:
    """Runs the jobs it is given in order and remembers the last `most_kept` of them.

    On close the running one is cancelled and waited for, those behind it are
    cancelled. A failing job does not keep the next from running.
    """

    def __init__(
        self, background: Background, clock: Clock, *, most_queued: int = 16, most_kept: int = 100
    ) -> None:
        self._background = background
        self._clock = clock
        self._most_queued = most_queued
        self._most_kept = most_kept
        self._jobs: dict[str, Job] = {}
        self._queue: deque[tuple[Job, Work]] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._is_closed = False

    def add(self, kind: str, about: str, work: Work) -> Job:
        """Queue `work`. Raises JobsFullError when too many wait, or when the proxy leaves."""
        if self._is_closed:
            raise JobsFullError("no new job: the proxy leaves")
        if len(self._queue) >= self._most_queued:
            raise JobsFullError(f"{len(self._queue)} jobs wait already: try again later")
        job = Job(f"{kind}-{uuid.uuid4().hex[:12]}", kind, about)
        self._jobs[job.id] = job
        self._queue.append((job, work))
        self._forget_old()
        if self._runner is None:
            self._runner = self._background.spawn(self._run(), name="jobs", endless=True)
        return job

    def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def latest(self, limit: int | None = None) -> list[Job]:
        """The newest first."""
        return list(reversed(self._jobs.values()))[:limit]

    def is_queued(self, about: str) -> bool:
        """Whether one that does the same waits, not having begun."""
        return any(job.about == about for job, _ in self._queue)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_closed = True
        runner = self._runner
        if runner is not None:
            runner.cancel()
            await asyncio.wait([runner])
        for job, _ in self._queue:
            self._end(job, "cancelled", "the proxy leaves")
        self._queue.clear()

    async def _run(self) -> None:
        try:
            while self._queue:
                await self._run_one(*self._queue.popleft())
        finally:
            self._runner = None

    async def _run_one(self, job: Job, work: Work) -> None:
        job.state = "running"
        job.started_at = self._clock.now()
        # A task of its own: an error nobody foresaw is logged there, and the next job runs.
        task = self._background.spawn(_awaited(work, job), name=job.id, endless=True)
        try:
            await asyncio.wait([task])
        finally:
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
            self._settle(job, task)

    def _settle(self, job: Job, task: "asyncio.Task[ProxyError | None]") -> None:
        if not task.done() or task.cancelled():
            self._end(job, "cancelled", "the proxy leaves")
            return
        # Asked for in any case: an error that is never looked at is reported as lost.
        error = task.exception() or task.result()
        match error:
            case None:
                has_worked = job.errors < job.total or not job.total
                self._end(job, "done" if has_worked else "failed", job.note)
            case JobCancelledError():
                self._end(job, "cancelled", str(error))
            case ProxyError():
                self._end(job, "failed", str(error))
            case _:
                self._end(job, "failed", "an error of ours: see the log")

    def _end(self, job: Job, state: JobState, note: str) -> None:
        job.state = state
        job.note = note
        job.finished_at = self._clock.now()
        log.info(
            "job_over", job=job.id, about=job.about, state=state, done=job.done,
            total=job.total, errors=job.errors, note=note,
        )  # fmt: skip

    def _forget_old(self) -> None:
        over = [job.id for job in self._jobs.values() if job.is_over]
        for job_id in over[: max(0, len(self._jobs) - self._most_kept)]:
            del self._jobs[job_id]

    def __repr__(self) -> str:
        return f"<Jobs kept={len(self._jobs)} queued={len(self._queue)}>"


async def _awaited(work: Work, job: Job) -> ProxyError | None:
    """The error that the work ended with, if it is one of ours: those are news, not faults."""
    try:
        await work(job)
    except ProxyError as error:
        return error
    return None
