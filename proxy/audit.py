"""Audit: who changed what on the admin port. In memory, the newest so many."""

from collections import deque
from dataclasses import dataclass

import structlog

from proxy.clock import Clock

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """One change, `at` in seconds since the epoch. `before` and `after` are JSON values."""

    at: float
    author: str
    action: str
    before: object
    after: object
    reason: str


class Audit:
    """Keeps the last `most_kept` records; each is logged as well, which outlives the process."""

    def __init__(self, clock: Clock, *, most_kept: int = 1000) -> None:
        self._clock = clock
        self._records: deque[Record] = deque(maxlen=most_kept)

    def note(
        self, action: str, *, author: str, reason: str, before: object = None, after: object = None
    ) -> Record:
        record = Record(self._clock.now(), author, action, before, after, reason)
        self._records.append(record)
        log.info("audit", action=action, author=author, reason=reason, before=before, after=after)
        return record

    def latest(self, limit: int | None = None) -> list[Record]:
        """The newest first."""
        return list(reversed(self._records))[:limit]

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"<Audit {len(self)}/{self._records.maxlen}>"
