"""One read-only SQLite connection and the thread it lives on."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import apsw

from proxy.backends.database import Database, translated
from proxy.clock import Clock
from proxy.errors import BackendError, SettingsError

T = TypeVar("T")

_STEPS_BETWEEN_LOOKS = 20_000
"""SQLite's own steps between two looks at the deadline: well under a millisecond."""


class Reader:
    """A connection that only its own thread uses.

    `run` gives work to the thread and raises BackendError for what SQLite
    says. Work past `timeout_s`, or whose caller was cancelled, is interrupted
    inside SQLite: it is never left running behind a caller who has gone.
    Opened on first use, and again after an error or once the database says so.
    """

    def __init__(self, database: Database, clock: Clock, *, timeout_s: float) -> None:
        self._database = database
        self._clock = clock
        self._timeout_s = timeout_s
        self._connection: apsw.Connection | None = None
        self._opening = database.opening
        self._deadline = 0.0
        self._asked = 0
        self._running = 0
        self._abandoned = 0
        self._is_closing = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        database.holders.append(self._let_go)

    @property
    def opening(self) -> int:
        """Which opening of the database the connection is of."""
        return self._opening

    async def run(self, work: Callable[[apsw.Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        self._asked += 1
        number = self._asked
        try:
            return await loop.run_in_executor(self._thread, self._run, work, number)
        except asyncio.CancelledError:
            # Nobody waits for it any more: those behind it do.
            self._abandoned = number
            raise

    def close(self) -> None:
        """Interrupt what runs, wait for it, close the connection."""
        if self._is_closing:
            return
        self._is_closing = True
        self._thread.submit(self._drop)
        self._thread.shutdown(wait=True)

    def _run(self, work: Callable[[apsw.Connection], T], number: int) -> T:
        self._running = number
        self._deadline = self._clock.monotonic() + self._timeout_s
        try:
            try:
                return work(self._opened())
            except apsw.SQLError:
                # A table or column that was there may be gone: look again, once.
                self._database.read_schema(self._opened())
                return work(self._opened())
        except apsw.Error as error:
            if not isinstance(error, apsw.InterruptError | apsw.BusyError):
                self._drop()
            raise translated(error) from error
        except SettingsError as error:
            raise BackendError(f"the database: {error}", reason="schema") from error

    def _opened(self) -> apsw.Connection:
        if self._opening != self._database.opening:
            self._drop()
        if self._connection is None:
            self._opening = self._database.opening
            connection = self._database.open()
            connection.set_progress_handler(self._is_overdue, _STEPS_BETWEEN_LOOKS)
            self._connection = connection
        if self._database.schema is None:
            self._database.read_schema(self._connection)
        return self._connection

    def _is_overdue(self) -> bool:
        return (
            self._is_closing
            or self._abandoned == self._running
            or self._clock.monotonic() > self._deadline
        )

    def _let_go(self) -> None:
        if not self._is_closing:
            self._thread.submit(self._drop)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __repr__(self) -> str:
        state = "open" if self._connection is not None else "closed"
        return f"<Reader {self._database.path.name} {state}>"
