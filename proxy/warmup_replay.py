"""Replay: one pass over a list of questions, through read_through, one after the other."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Protocol

from proxy.cache.entry import Entry
from proxy.errors import BackendError, BackendUnavailable
from proxy.freshness import Verdict, judge
from proxy.jobs import Job, JobCancelledError
from proxy.keys import key_for
from proxy.query import Key, Query
from proxy.read_through import ReadThrough
from proxy.watermarks import Watermarks

MOST_ERRORS_IN_A_ROW = 3

_LIVE_PATIENCE_S = 10.0


class Shelf(Protocol):
    """The memory tier, looked at without that being a use."""

    @property
    def limit_bytes(self) -> int: ...

    def entries(self) -> Iterator[tuple[Key, Entry]]: ...

    def uses(self, key: Key) -> int: ...

    def held(self, key: Key) -> Entry | None: ...


class Replay:
    """Asks what memory does not hold fresh, each time after the callers who wait just then.

    Raises JobCancelledError when a rebuild begins or the duty is lost, and
    BackendError after a few errors in a row: a source that is down must not
    be asked for hundreds of answers. It brings half of the memory tier at
    most: what callers asked for themselves stays. `written` waits until the
    shared tier has what was put; `overlook` is told how often a question was
    got by now, for the replay itself is no caller.
    """

    def __init__(
        self,
        read_through: ReadThrough,
        watermarks: Watermarks,
        shelf: Shelf,
        *,
        fingerprint: Callable[[], str],
        written: Callable[[], Awaitable[None]],
        overlook: Callable[[Query, int], None],
    ) -> None:
        self._read_through = read_through
        self._watermarks = watermarks
        self._shelf = shelf
        self._fingerprint = fingerprint
        self._written = written
        self._overlook = overlook

    async def run(
        self, job: Job, questions: Sequence[Query], is_on_duty: Callable[[], Awaitable[bool]]
    ) -> None:
        job.total = len(questions)
        room = self._shelf.limit_bytes // 2
        errors_in_a_row = 0
        for query in questions:
            await self._read_through.live.none(_LIVE_PATIENCE_S)
            if not await is_on_duty():
                raise JobCancelledError("another process took over")
            if self._watermarks.state == "rebuilding":
                raise JobCancelledError("the pipeline is rebuilding")
            try:
                room -= await self._bring(query)
                errors_in_a_row = 0
            except BackendError as error:
                job.errors += 1
                job.note = str(error)
                errors_in_a_row += 1
                if errors_in_a_row == MOST_ERRORS_IN_A_ROW:
                    raise
            job.done += 1
            if room < 0:
                job.note = f"half of the memory tier is filled: {job.total - job.done} left out"
                job.total = job.done
                return

    async def _bring(self, query: Query) -> int:
        """Bytes that `query` brought; 0 when it was held fresh or has no rows to answer from."""
        reading = await self._watermarks.current(query)
        if reading is None:
            raise BackendUnavailable("the database cannot be looked at")
        if reading.is_rebuilding:
            raise JobCancelledError("the pipeline is rebuilding")
        if not any(reading.rows.values()):
            # The legacy would be asked, and its answer not kept.
            return 0
        key = key_for(query, self._fingerprint())
        held = self._shelf.held(key)
        if held is not None and judge(held.watermark, reading.watermark) is Verdict.FRESH:
            return 0
        answer = await self._read_through.answer(query, is_live=False)
        self._overlook(query, self._shelf.uses(key))
        if "rebuilding" in (*answer.warnings, answer.detail):
            raise JobCancelledError("the pipeline is rebuilding")
        if answer.source != "optimized":
            raise BackendError(f"the tables did not answer: {answer.detail}", reason=answer.detail)
        await self._written()
        return answer.payload.size
