"""History: what was counted in each of the last steps."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from proxy.clock import Clock
from proxy.live.counters import NOTHING, Counters
from proxy.live.overview import MOST_POINTS, point_of

STEP_S = 5


class History:
    """The newest `most` points of `step_s` each: what came to the counters in that time.

    A step that nobody looked at is part of the next point. A clock that was set
    back forgets the points that are in the future now.
    """

    def __init__(self, *, step_s: int = STEP_S, most: int = MOST_POINTS) -> None:
        self.step_s = step_s
        self._points: deque[Mapping[str, Any]] = deque(maxlen=most)
        self._before = NOTHING
        self._last: int | None = None

    @property
    def points(self) -> list[Mapping[str, Any]]:
        """As `point_of` makes them, the newest last."""
        return list(self._points)

    async def follow(self, count: Callable[[], Counters], clock: Clock) -> None:
        """Look once per step, for ever."""
        while True:
            # Read once: a step that began between two readings would be slept through.
            now = clock.now()
            self.look(now, count())
            await asyncio.sleep(self.step_s - now % self.step_s)

    def look(self, now: float, counters: Counters) -> None:
        """`counters` are those of this moment. A second look within a step changes nothing."""
        at = int(now // self.step_s) * self.step_s
        if at == self._last:
            return
        while self._points and self._points[-1]["at"] >= at:
            self._points.pop()
        if self._last is not None:
            self._points.append(point_of(at, counters.since(self._before)))
        self._before, self._last = counters, at

    def __repr__(self) -> str:
        return f"<History {len(self._points)}/{self._points.maxlen} of {self.step_s} s>"
