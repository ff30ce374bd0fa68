"""Owns every task that outlives the call that started it."""

import asyncio
from collections.abc import Coroutine
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Background:
    """Spawns tasks, keeps them from being collected, and ends them on close.

    On close a task has `drain_s` seconds to finish by itself, then it is
    cancelled and waited for. An exception that nobody awaits is logged once.
    """

    def __init__(self, *, drain_s: float = 5.0) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._endless: set[asyncio.Task[Any]] = set()
        self._drain_s = drain_s
        self._is_closed = False

    def spawn(
        self,
        work: Coroutine[Any, Any, T],
        *,
        name: str,
        endless: bool = False,
        is_shared: bool = False,
    ) -> asyncio.Task[T]:
        """Start `work`. An `endless` one is cancelled at once on close, not waited for.

        It knows the request that it was begun for, unless it is endless or
        `is_shared` with the requests that come later.
        """
        if self._is_closed:
            work.close()
            raise RuntimeError(f"no new task {name!r}: closing")
        context = Context() if endless or is_shared else copy_context()
        task = asyncio.get_running_loop().create_task(work, name=name, context=context)
        self._tasks.add(task)
        if endless:
            self._endless.add(task)
        task.add_done_callback(self._forget)
        return task

    async def drained(self) -> None:
        """Wait until no task is left but the endless ones."""
        while rest := self._tasks - self._endless:
            await asyncio.wait(rest)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_closed = True
        for task in list(self._endless):
            task.cancel()
        try:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=self._drain_s)
        finally:
            # Also when the closing itself is cancelled: no task is left behind.
            for task in list(self._tasks):
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._endless.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background_task_failed", task=task.get_name(), error=repr(error))

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        names = sorted(task.get_name() for task in self._tasks)
        return f"<Background {names} closed={self._is_closed}>"
