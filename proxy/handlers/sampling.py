"""What of the split route's answers goes to the shadow, and what the guard hears of them."""

from typing import Protocol

from proxy.answer import Answer
from proxy.errors import BackendError
from proxy.query import Query
from proxy.read_through import ReadThrough
from proxy.rollout.outcome import outcome_of, outcome_of_error
from proxy.rollout.shadow import Shadow


class Outcomes(Protocol):
    def served(self, is_ok: bool) -> None:
        """Our side answered a caller, or had to and could not."""
        ...


class Sampling:
    """Told of each answer on our side that the lane did not give. Nothing here waits or raises.

    Answers that a tester forced are answers like any other.
    """

    def __init__(self, shadow: Shadow, read_through: ReadThrough, outcomes: Outcomes) -> None:
        self.shadow = shadow
        self._read_through = read_through
        self._outcomes = outcomes

    def wants(self) -> bool:
        """Whether to sample this question."""
        return bool(self.shadow.rate) and self.shadow.wants()

    def answered(self, query: Query, answer: Answer) -> None:
        self._count(outcome_of(answer))
        # One that is not kept is of no one state of the data, or says that it may be old.
        is_kept = answer.is_stored and answer.source == "optimized"
        if not is_kept or not self.wants():
            return
        held = self._read_through.entry_now(query)
        if held is not None and held[1].payload.etag == answer.payload.etag:
            self.shadow.offer(query, answer.payload.body, held[1].watermark.token)

    def failed(self, error: BackendError) -> None:
        self._count(outcome_of_error(error))

    def _count(self, is_ok: bool | None) -> None:
        if is_ok is not None:
            self._outcomes.served(is_ok)
