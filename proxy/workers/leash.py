"""Leash: a worker's end of the socket that its supervisor holds the other end of."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from proxy.errors import ProxyError
from proxy.workers.orders import DRAIN, Orders, Report

_PIECE = 65536


class Leash:
    """Hears what the supervisor says and notices when it is gone, killed included.

    It listens in a thread of its own, so that also a worker whose event loop hangs
    does not outlive its supervisor for long.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._heard = b""
        self._is_over = threading.Event()

    def orders(self) -> Orders:
        """The first thing it is told. Raises ProxyError when there is nobody to tell it."""
        line = self._line()
        if line is None:
            raise ProxyError("a worker is started by `serve --workers`, which is gone")
        return Orders.from_line(line)

    def say(self, report: Report) -> None:
        # Who is gone need not be told.
        with suppress(OSError):
            self._connection.sendall(report.as_line())

    def follow(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        on_drain: Callable[[], None],
        on_gone: Callable[[], None],
        leave_s: float,
    ) -> None:
        """Call these in `loop` from now on. When `leave_s` after the second the process is
        still there, it ends at once."""

        def listen() -> None:
            while (line := self._line()) is not None:
                if line == DRAIN:
                    _call(loop, on_drain)
            _call(loop, on_gone)
            if not self._is_over.wait(leave_s):
                os._exit(1)

        threading.Thread(target=listen, name="leash", daemon=True).start()

    def let_go(self) -> None:
        """The process has nothing more to do: it ends by itself."""
        self._is_over.set()

    def _line(self) -> bytes | None:
        while b"\n" not in self._heard:
            try:
                data = self._connection.recv(_PIECE)
            except OSError:
                return None
            if not data:
                return None
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        return line + b"\n"


def _call(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    # The loop may be over already.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call)
