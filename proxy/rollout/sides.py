"""The other side of a sampled question: asked with a time limit, at nobody's expense."""

import asyncio
from typing import Protocol

from proxy.answer import Answer
from proxy.backends.backend import Fetched
from proxy.clock import Clock
from proxy.errors import BackendError
from proxy.live_loads import LiveLoads
from proxy.query import Query
from proxy.rollout.outcome import NEUTRAL, outcome_of_error
from proxy.rollout.pace import Pace
from proxy.rollout.uncompared import DiscardedError, SideFailedError

_ASKING_S = 0.002
"""Processor time on the event loop for one question to the legacy, about."""
_READING_S_PER_BYTE = 2e-9
_LIVE_PATIENCE_S = 10.0


class LegacyApi(Protocol):
    async def answer(self, query: Query) -> Answer:
        """The legacy's answer to `query`. Raises BackendError."""
        ...


class ReadPath(Protocol):
    """What the shadow asks of ReadThrough."""

    @property
    def live(self) -> LiveLoads: ...

    async def answer(self, query: Query, *, is_live: bool = True) -> Answer: ...


class Tables(Protocol):
    async def fetch(self, query: Query) -> Fetched: ...


class Trials(Protocol):
    def tried(self, is_ok: bool, seconds: float) -> None:
        """Our side was tried beside the legacy and took `seconds`."""
        ...


class LegacySide:
    """The legacy, asked through an API of the shadow's own: its failures close no caller's way."""

    def __init__(self, api: LegacyApi, pace: Pace, *, timeout_s: float) -> None:
        self._api = api
        self._pace = pace
        self._timeout_s = timeout_s

    async def ask(self, query: Query) -> bytes:
        """Its answer's body. Raises SideFailedError."""
        size = 0
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._api.answer(query)
            size = len(answer.payload.body)
        except TimeoutError as error:
            raise SideFailedError("legacy_timeout") from error
        except BackendError as error:
            raise SideFailedError(error.reason) from error
        finally:
            self._pace.spent(_ASKING_S + size * _READING_S_PER_BYTE)
        return answer.payload.body


class OptimizedSide:
    """Our side, asked as callers ask it, after those who wait and one question at a time.

    The readers of the database are few: a slow question of the shadow leaves
    one of them to the callers.
    """

    def __init__(
        self,
        read_path: ReadPath,
        trials: Trials,
        clock: Clock,
        pace: Pace,
        *,
        timeout_s: float,
        other_mode: Tables | None = None,
    ) -> None:
        self._read_path = read_path
        self._trials = trials
        self._clock = clock
        self._pace = pace
        self._timeout_s = timeout_s
        self._other_mode = other_mode
        self._turn = asyncio.Lock()

    async def ask(self, query: Query) -> bytes:
        """The body of an answer from the tables. Raises UncomparedError.

        Only an answer that is kept is of one state of the data for certain.
        """
        async with self._turn:
            await self._read_path.live.none(_LIVE_PATIENCE_S)
            started = self._clock.monotonic()
            try:
                async with asyncio.timeout(self._timeout_s):
                    answer = await self._read_path.answer(query, is_live=False)
            except (BackendError, TimeoutError) as error:
                word = error.reason if isinstance(error, BackendError) else "timeout"
                if isinstance(error, BackendError) and outcome_of_error(error) is None:
                    # The tables had nothing, and the legacy behind them failed.
                    raise DiscardedError(word) from error
                self._trials.tried(False, self._clock.monotonic() - started)
                raise SideFailedError(word) from error
        took_s = self._clock.monotonic() - started
        if answer.result != "hit":
            self._pace.spent(answer.cost_ms / 1000)
        if answer.source == "optimized" and answer.is_stored:
            self._trials.tried(True, took_s)
            return answer.payload.body
        word = answer.detail or "not_kept"
        if answer.source == "optimized" or word in NEUTRAL:
            raise DiscardedError(word)
        self._trials.tried(False, took_s)
        raise SideFailedError(word)

    async def in_other_mode(self, query: Query) -> bytes | None:
        """The same question's answer in the rate mode that is not configured, if it can be had."""
        if self._other_mode is None:
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                fetched = await self._other_mode.fetch(query)
        except (BackendError, TimeoutError):
            return None
        self._pace.spent(fetched.cost_ms / 1000)
        return fetched.payload.body
