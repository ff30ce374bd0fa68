"""Comparing: the work on two bodies that takes a processor, in a thread of its own."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import orjson

from proxy.query import Query
from proxy.rollout.result import Result
from proxy.rollout.split import Variant
from proxy.rollout.uncompared import DiscardedError, SideFailedError, UncomparedError
from proxy.rollout.unpacking import unpack

Closer = Mapping[str, tuple[int, int, int]]


class Compare(Protocol):
    def __call__(self, control: object, candidate: object, *, query: Query) -> Result: ...


class CompareModes(Protocol):
    def __call__(self, legacy: object, mean: object, ratio: object, *, query: Query) -> Closer:
        """Rate -> in how many rows `mean`, `ratio` or neither came nearer to the legacy."""
        ...


@dataclass(frozen=True, slots=True)
class Bodies:
    """What both sides sent. The control's `chunks` are in the content coding `coding`.

    `again` is the legacy's answer to the same question a second time, `other_mode`
    ours in the rate mode that is not the configured one.
    """

    query: Query
    control_side: Variant
    chunks: Sequence[bytes]
    coding: str
    candidate: bytes
    again: bytes | None = None
    other_mode: bytes | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """`control` is the control's body as JSON text."""

    control: bytes
    result: Result
    noise: Result | None
    closer: Closer | None


class Comparing:
    """Parses and compares, one sample at a time, off the event loop.

    `judge` raises SideFailedError for a legacy answer that is none (malformed,
    a failure, empty where we have rows), DiscardedError for one that cannot be
    unpacked, and once the context has ended. `spent` is told the processor
    time of each, whatever came of it. The thread ends with the context; what
    it was given before is let go.
    """

    def __init__(
        self,
        compare: Compare,
        closer: CompareModes | None = None,
        *,
        rate_mode: Literal["mean", "ratio"] = "mean",
        spent: Callable[[float], None],
    ) -> None:
        self._compare = compare
        self._closer = closer
        self._rate_mode = rate_mode
        self._spent = spent
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shadow")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    async def judge(self, bodies: Bodies) -> Judged:
        loop = asyncio.get_running_loop()
        try:
            work = loop.run_in_executor(self._thread, self._timed, bodies)
        except RuntimeError as error:
            raise DiscardedError("closing") from error
        judged, processor_s = await work
        self._spent(processor_s)
        if isinstance(judged, Exception):
            raise judged
        return judged

    def _timed(self, bodies: Bodies) -> tuple[Judged | Exception, float]:
        started = time.thread_time()
        judged: Judged | Exception
        try:
            judged = self._judge(bodies)
        except Exception as error:  # noqa: BLE001 (raised again in the loop, with the time it took)
            judged = error
        return judged, time.thread_time() - started

    def _judge(self, bodies: Bodies) -> Judged:
        control_body = _unpacked(bodies)
        is_ours = bodies.control_side == "optimized"
        legacy = _legacy_answer(bodies.candidate if is_ours else control_body)
        ours: Any = orjson.loads(control_body if is_ours else bodies.candidate)
        if ours["data"] and not legacy["data"]:
            # It hides its database errors as empty answers.
            raise SideFailedError("legacy_empty")
        control, candidate = (ours, legacy) if is_ours else (legacy, ours)
        return Judged(
            control_body,
            self._compare(control, candidate, query=bodies.query),
            self._noise(bodies, legacy),
            self._closest(bodies, legacy, ours),
        )

    def _noise(self, bodies: Bodies, legacy: Mapping[str, Any]) -> Result | None:
        if bodies.again is None:
            return None
        try:
            again = _legacy_answer(bodies.again)
        except UncomparedError:
            return None
        if legacy["data"] and not again["data"]:
            return None
        return self._compare(legacy, again, query=bodies.query)

    def _closest(self, bodies: Bodies, legacy: object, ours: object) -> Closer | None:
        if bodies.other_mode is None or self._closer is None:
            return None
        other = orjson.loads(bodies.other_mode)
        mean, ratio = (ours, other) if self._rate_mode == "mean" else (other, ours)
        return self._closer(legacy, mean, ratio, query=bodies.query)


def _unpacked(bodies: Bodies) -> bytes:
    try:
        return unpack(bodies.chunks, bodies.coding)
    except ValueError as error:
        raise DiscardedError("unreadable") from error


def _legacy_answer(body: bytes) -> Mapping[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SideFailedError("malformed") from error
    if not isinstance(parsed, dict) or parsed.get("success") is not True:
        raise SideFailedError("legacy_error")
    if not isinstance(parsed.get("data"), list):
        raise SideFailedError("malformed")
    return parsed
