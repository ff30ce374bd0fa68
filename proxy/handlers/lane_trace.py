"""The spans of answers that the lane gave: made when all is known, from what was measured."""

from proxy.handlers.request_span import described
from proxy.tracing.http import STATUS
from proxy.tracing.tracer import Position, Tracer


class LaneTrace:
    """One remembered request, told of each time it was answered.

    Made once per question from its bytes, so that a hit pays for no more than
    the span itself, and for the draw alone where that decides against it.
    """

    __slots__ = ("_attributes", "_name", "_tracer")

    def __init__(self, tracer: Tracer, raw: bytes, word: str) -> None:
        method, target, _ = raw.split(b" ", 2)
        path = target.partition(b"?")[0].decode("latin-1")
        self._tracer = tracer
        self._name, self._attributes = described(method.decode("latin-1"), path, word)
        self._attributes |= {"proxy.source": "optimized", "proxy.cache": "hit", "proxy.lane": True}

    def __call__(self, status: int, *, at: float, seconds: float) -> Position | None:
        """`at` is when it came, in seconds since the epoch. None: not recorded."""
        self._attributes[STATUS] = status
        return self._tracer.served(self._name, self._attributes, at=at, seconds=seconds)
