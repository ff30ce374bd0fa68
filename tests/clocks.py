"""A clock that stands still until the test moves it."""


class HandClock:
    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._passed_s = 0.0

    def now(self) -> float:
        return self._now + self._passed_s

    def monotonic(self) -> float:
        return self._passed_s

    def pass_s(self, seconds: float) -> None:
        self._passed_s += seconds
