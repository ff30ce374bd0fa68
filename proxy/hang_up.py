"""SIGHUP before there is a loop that hears it. Imports nothing that takes time."""

import os
import signal
from types import FrameType


class Terminal:
    """The terminal at `descriptor`, if there is one."""

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor
        self._was_there = os.isatty(descriptor)

    @property
    def is_gone(self) -> bool:
        """It was closed: a SIGHUP then means what it has always meant."""
        return self._was_there and not os.isatty(self._descriptor)


class EarlyHangUp:
    """A handler that remembers that a SIGHUP came, which without one ends the process."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self.has_come = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._terminal.is_gone:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.has_come = True


def remember_hang_ups() -> None:
    """From now on, until another handler takes its place. For the main thread."""
    signal.signal(signal.SIGHUP, EarlyHangUp(Terminal()))


def early_hang_up() -> EarlyHangUp:
    """What is remembered, to be asked when another handler has taken its place."""
    handler = signal.getsignal(signal.SIGHUP)
    return handler if isinstance(handler, EarlyHangUp) else EarlyHangUp(Terminal())
