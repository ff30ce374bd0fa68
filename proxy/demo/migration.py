"""The demo's second play: a migration from the first look to the last percent, with one trouble.

Callers ask all the time. Act by act the operator's calls are made over the
admin API, and the legacy application is told to get one number wrong.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random
from typing import Any

import aiohttp

from proxy.background import Background
from proxy.clock import Clock
from proxy.demo.asking import AskingError, ask
from proxy.demo.show import Stage
from proxy.errors import ProxyError

USERS = 400
_CALLERS = 4
_PAUSE_S = 0.04
_BETWEEN_LOOKS_S = 0.25
_PERCENT_OF_TROUBLE = 50


class PlayError(ProxyError):
    """An act did not come to its end in time, or the proxy refused a call."""


@dataclass(frozen=True, slots=True)
class Programme:
    """How fast it goes. `act_s` bounds each act; all times are in seconds."""

    steps: tuple[int, ...] = (5, 25, 50, 100)
    interval_s: float = 5.0
    min_samples: int = 30
    noise_every: int = 3
    watched: int = 60
    act_s: float = 120.0

    def as_toml(self) -> str:
        """The proxy's configuration file. Times are lenient: other work may share the machine."""
        return (
            "split_percent = 0\n"
            '[split]\nidentity = "header:X-User-Id"\nsalt = "demo"\n'
            f"[shadow]\nrate = 1.0\nqueue = 4\nnoise_every = {self.noise_every}\n"
            f"[rollout]\nsteps = {list(self.steps)}\ninterval_s = {self.interval_s}\n"
            f"min_samples = {self.min_samples}\np95_ms = 1000\n"
        )


@dataclass(slots=True)
class Traffic:
    """What the callers were answered since the last `lap`."""

    failed: int = 0
    _lap: Counter[str] = field(default_factory=Counter)

    def answered(self, variant: str) -> None:
        self._lap[variant] += 1

    def lap(self) -> Counter[str]:
        done, self._lap = self._lap, Counter()
        return done


@dataclass(frozen=True, slots=True)
class Now:
    """One look at the migration, as the admin API tells it."""

    act: str
    percent: float
    state: str
    verdict: str
    reason: str
    compared: int
    mismatched: int
    dropped: int
    worst: str
    share: float | None
    failed: int


@dataclass(frozen=True, slots=True)
class Told:
    """Something that happened, to be read afterwards too."""

    text: str


class Play:
    """Drives one stage. `looks` yields Now all the time and Told when something has happened."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        stage: Stage,
        end: date,
        clock: Clock,
        programme: Programme,
    ) -> None:
        self._session = session
        self._stage = stage
        self._end = end
        self._clock = clock
        self._programme = programme
        self._traffic = Traffic()
        self._random = Random(7)

    async def looks(self) -> AsyncGenerator[Now | Told, None]:
        """Raises PlayError when an act does not end."""
        async with Background(drain_s=0) as background:
            for number in range(_CALLERS):
                background.spawn(self._ask_on(), name=f"caller {number}", endless=True)
            steps = self._programme.steps
            yield Told("0 % to the optimized side: both sides are asked, the legacy's is sent")
            async for now in self._until(
                "1 watch", lambda now: now.compared >= self._programme.watched
            ):
                yield now
            yield Told(f"{now.compared} answers compared, {now.mismatched} mismatched")
            await self._post("/rollout", action="start", reason="the numbers agree")
            yield Told(f"the rollout starts: {', '.join(map(str, steps))} %")
            trouble = max(step for step in steps if step <= _PERCENT_OF_TROUBLE)
            async for now in self._until("2 ramp", lambda now: now.percent >= trouble):
                yield now
            yield Told(f"{now.percent:g} % now, and the two sides begin to differ: spend by 5 %")
            before, began = now.compared, self._clock.monotonic()
            await self._misbehave(field="spend", factor=1.05)
            async for now in self._until("3 trouble", lambda now: now.state == "rolled_back"):
                yield now
            took_s = self._clock.monotonic() - began
            yield Told(
                f"rolled back by itself after {took_s:.1f} s and {now.compared - before}"
                f" comparisons: {now.reason}"
            )
            await self._misbehave()
            await self._call("DELETE", "/rollback", reason="spend is right again")
            await self._post("/rollout", action="start", reason="once more")
            yield Told("repaired, lifted, and started again from the first step")
            async for now in self._until("4 once more", lambda now: now.state == "complete"):
                yield now
            yield Told("100 %: the legacy is no longer asked, but for what it is compared with")

    async def _until(self, act: str, is_over: Callable[[Now], bool]) -> AsyncIterator[Now]:
        limit_s = self._programme.act_s
        ends = self._clock.monotonic() + limit_s
        while True:
            now = await self._look(act)
            yield now
            if is_over(now):
                return
            if self._clock.monotonic() > ends:
                raise PlayError(f"act {act!r} did not end within {limit_s:g} s; last seen: {now}")
            self._stage.pipeline.check()
            await asyncio.sleep(_BETWEEN_LOOKS_S)

    async def _look(self, act: str) -> Now:
        rollout = await self._call("GET", "/rollout")
        diffs = await self._call("GET", "/diffs?limit=1")
        totals = diffs["totals"]
        lap = self._traffic.lap()
        answered = sum(lap.values())
        fields = [found for found in diffs["fields"] if found["max_relative_error"]]
        worst = max(fields, key=lambda found: found["max_relative_error"], default=None)
        return Now(
            act=act,
            percent=rollout["percent"],
            state=rollout["state"],
            verdict=rollout["verdict"],
            reason=rollout["reason"] or "",
            compared=totals["compared"],
            mismatched=totals["mismatched"],
            dropped=totals["dropped"],
            worst="" if worst is None else f"{worst['field']} {worst['max_relative_error']:.1%}",
            share=lap["optimized"] / answered if answered else None,
            failed=self._traffic.failed,
        )

    async def _ask_on(self) -> None:
        while True:
            days = self._random.choice((1, 3, 7, 14))
            end = self._end - timedelta(days=self._random.randrange(20))
            question = {
                "start_date": str(end - timedelta(days=days - 1)),
                "end_date": str(end),
                "group_by": self._random.choice(("campaign", "adset", "ad")),
            }
            user = f"user-{self._random.randrange(USERS)}"
            try:
                timed = await ask(self._session, self._stage.url, question, self._clock, user=user)
            except AskingError:
                self._traffic.failed += 1
            else:
                self._traffic.answered(timed.variant)
            await asyncio.sleep(_PAUSE_S)

    async def _misbehave(self, **how: object) -> None:
        url = f"{self._stage.legacy_url}/__demo/misbehave"
        async with self._session.post(url, json=how) as response:
            response.raise_for_status()

    async def _post(self, path: str, **body: object) -> Mapping[str, Any]:
        return await self._call("POST", path, **body)

    async def _call(self, method: str, path: str, **body: object) -> Mapping[str, Any]:
        asked = {**body, "author": "demo"} if body else None
        url = f"{self._stage.admin_url}/admin{path}"
        async with self._session.request(method, url, json=asked) as response:
            told: Mapping[str, Any] = await response.json()
        if response.status >= 400:
            raise PlayError(f"{method} {path} is refused: {told.get('error')}")
        return told
