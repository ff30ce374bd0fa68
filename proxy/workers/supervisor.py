"""Supervisor: starts workers, replaces those that end, and rolls to new settings."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

import structlog

from proxy.background import Background
from proxy.clock import Clock
from proxy.errors import ProxyError, SettingsError
from proxy.workers.backoff import Backoff
from proxy.workers.counts import Counts
from proxy.workers.orders import BAD_USAGE, Report
from proxy.workers.post import USUAL, Launch, Plan, Post, Times
from proxy.workers.roster import Drain, Ending, Member, Roster, Start, Wait
from proxy.workers.totals import Totals
from proxy.workers.watch import Watch

log = structlog.get_logger(__name__)

Why = Literal["crash", "hang", "rolling"]

_BETWEEN_QUESTIONS_S = 0.1


class Supervisor:
    """Keeps as many workers serving as the plan wants.

    A worker that ends by itself is replaced at once, more slowly when that happens
    again and again; one that hangs is ended first. `turn_to` replaces all, one by one:
    each is told to leave when another serves in its place. Nothing here is waited for
    by a request.
    """

    def __init__(
        self,
        plan: Plan,
        launch: Launch,
        totals: Totals,
        background: Background,
        clock: Clock,
        *,
        times: Times = USUAL,
        backoff: Backoff | None = None,
        restarted: Callable[[Why], None] = lambda why: None,
    ) -> None:
        self.plan = plan
        self.totals = totals
        self.roster = Roster(plan.settings.workers, backoff or Backoff())
        self._launch = launch
        self._background = background
        self._clock = clock
        self._times = times
        self._restarted = restarted
        self._counts = Counts(totals)
        self._watch = Watch(background, clock, times, self._counts)
        self._last_generation = self.roster.generation
        self._plans = {self._last_generation: plan}
        self._posts: dict[int, Post] = {}
        self._stir = asyncio.Event()
        self._changed = asyncio.Event()
        self._has_begun = False
        self._is_rolling = False
        self._failure: ProxyError | None = None

    async def start(self) -> bool:
        """Returns when all workers serve; False: told to leave meanwhile.

        Raises what keeps the first ones from it.
        """
        self._background.spawn(self._attend(), name="attend to workers", endless=True)
        while not (self.roster.is_complete or self._failure or self.roster.is_stopping):
            await self._change()
        if self._failure is not None:
            raise self._failure
        self._has_begun = not self.roster.is_stopping
        return self._has_begun

    def leave(self) -> None:
        """Start nothing more. Those there are leave with `stop`."""
        self.roster.is_stopping = True
        self._tell()

    @property
    def is_leaving(self) -> bool:
        return self.roster.is_stopping

    async def stop(self) -> None:
        """Have all leave, and wait until they have; one that does not is ended."""
        self.leave()
        for post in self:
            post.worker.terminate()
        try:
            async with asyncio.timeout(self._times.leave_s):
                await self._empty()
        except TimeoutError:
            for post in self:
                log.error("worker_killed", worker=post.number, why="it did not leave")
                post.worker.kill()
            await self._empty()

    def turn_to(self, plan: Plan) -> None:
        """Replace all workers by such of `plan`. If the first one cannot begin, all stays.

        To be called after `start` has returned.
        """
        self._last_generation += 1
        generation = self._last_generation
        needed = {self.roster.proven, *(one.generation for one in self.roster)}
        self._plans = {one: kept for one, kept in self._plans.items() if one in needed}
        self._plans[generation] = plan
        self.roster.turn_to(generation, plan.settings.workers, self._clock.monotonic())
        self._is_rolling = True
        log.info("rolling", workers=plan.settings.workers, generation=generation)
        self._stir.set()

    @property
    def lead(self) -> Post | None:
        """Who answers what any of them could."""
        lead = self.roster.lead
        return None if lead is None else self._posts.get(lead.number)

    def answering(self) -> list[Post]:
        """All that can be asked, the lead first, and last who did not answer when last asked."""
        lead = self.lead
        able = [post for post in self if post.is_listening]
        return sorted(
            able, key=lambda post: (post.worker.link.is_silent, post is not lead, post.number)
        )

    async def scrape(self) -> None:
        """Have the totals know what all that can be asked have counted by now."""
        await self._counts.look(self.answering())

    async def _attend(self) -> None:
        while True:
            self._stir.clear()
            match self.roster.due(self._clock.monotonic()):
                case Start():
                    await self._start()
                case Drain(number):
                    self._drain(self._posts[number])
                case Wait(until):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(max(0.0, until - self._clock.monotonic())):
                            await self._stir.wait()
                case None:
                    await self._stir.wait()

    async def _start(self) -> None:
        member = self.roster.starts(self._clock.monotonic())
        plan = self._plans[member.generation]
        try:
            worker = await self._launch(plan, member.number)
        except OSError as error:
            self._over(member, f"no process could be made: {error}")
            return
        post = self._posts[member.number] = Post(member, plan, worker)
        self._background.spawn(self._mind(post), name=f"worker {post.number}")
        self._watch.limit(post, self._times.start_s, "starting", "it was not ready in time")
        if self.roster.is_stopping:
            # All were told to leave while this one was not among them.
            worker.terminate()

    def _drain(self, post: Post) -> None:
        # In one step with the question what is due: it may be the only one a moment later.
        self.roster.drains(post.number)
        post.worker.drain()
        seconds = self._times.grace_s + self._times.leave_s
        self._watch.limit(post, seconds, "draining", "it did not leave")
        log.info("worker_draining", worker=post.number, pid=post.worker.pid)

    async def _mind(self, post: Post) -> None:
        """Hear what it says until it is gone."""
        failed: Report | None = None
        try:
            async for report in post.worker.reports():
                match report.what:
                    case "listening":
                        post.is_listening = True
                        self._background.spawn(
                            self._bring_in(post), name=f"bring in {post.number}", endless=True
                        )
                    case "left":
                        self._counts.note(post.number, report.text)
                    case "failed":
                        failed = report
            code = await post.worker.ended()
        finally:
            await post.worker.close()
        text = post.killed or f"it ended with exit code {code}"
        if failed is not None:
            text, code = failed.text, failed.exit_code
        self._over(post.member, text, code)

    async def _bring_in(self, post: Post) -> None:
        """Count on it as soon as it is as good as those there are."""
        is_first = not self._has_begun or not self.roster.is_rolling
        while not (is_first or post.is_over or await post.worker.link.is_ready()):
            if not await self._is_any_ready():
                break
            await asyncio.sleep(_BETWEEN_QUESTIONS_S)
        if post.is_over or post.member.stage != "starting":
            return
        self.roster.serves(post.number)
        self.plan = self._plans[self.roster.proven]
        log.info("worker_serves", worker=post.number, pid=post.worker.pid)
        self._watch.follow(post)
        self._tell()

    async def _is_any_ready(self) -> bool:
        links = [post.worker.link for post in self if post.member.stage == "serving"]
        return any(await asyncio.gather(*(link.is_ready() for link in links)))

    def _over(self, member: Member, text: str, code: int = 1) -> None:
        """It is gone. In one step: what it counted is never counted twice, nor left out."""
        post = self._posts.pop(member.number, None)
        if post is not None:
            post.is_over = True
        self._counts.leave(member.number)
        ending = self.roster.ended(member.number, self._clock.monotonic())
        if ending == "crashed":
            self._restarted("hang" if post is not None and post.killed else "crash")
        elif ending == "left" and member.is_replaced and not self.roster.is_stopping:
            self._restarted("rolling")
        if not self._has_begun and ending in ("failed", "abandoned"):
            self._failure = (SettingsError if code == BAD_USAGE else ProxyError)(text)
            # Another one would only fail in the same way.
            self.roster.is_stopping = True
        else:
            _log_ending(member, ending, text)
            if ending == "abandoned":
                self._is_rolling = False
        self._tell()

    def _tell(self) -> None:
        if self._is_rolling and self.roster.is_complete and not self.roster.is_rolling:
            self._is_rolling = False
            log.info("rolled", workers=[post.number for post in self])
        self._stir.set()
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _empty(self) -> None:
        while len(self.roster):
            await self._change()

    def __iter__(self) -> Iterator[Post]:
        return iter(list(self._posts.values()))

    def __repr__(self) -> str:
        return f"<Supervisor {self.roster!r}>"


def _log_ending(member: Member, ending: Ending, text: str) -> None:
    match ending:
        case "left":
            log.info("worker_left", worker=member.number)
        case "crashed":
            log.error("worker_crashed", worker=member.number, error=text)
        case "failed":
            log.error("worker_failed", worker=member.number, error=text)
        case "abandoned":
            log.error(
                "rolling_given_up",
                worker=member.number,
                error=text,
                why="the workers there are stay as they are",
            )
