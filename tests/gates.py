"""A transcript of the steps that fakes take, and gates to hold them at one."""

import asyncio
from collections import Counter


class Gates:
    """`steps` names each step in the order taken. A shut gate holds whoever comes to its step."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.waiting: Counter[str] = Counter()
        self._shut: dict[str, asyncio.Event] = {}

    def shut(self, step: str) -> None:
        self._shut[step] = asyncio.Event()

    def open(self, step: str) -> None:
        self._shut.pop(step).set()

    def hold_back(self, step: str) -> asyncio.Event:
        """Open the gate for newcomers only; the event lets those go who wait there now."""
        return self._shut.pop(step)

    async def come_to(self, step: str) -> None:
        self.steps.append(step)
        gate = self._shut.get(step)
        if gate is None:
            return
        self.waiting[step] += 1
        try:
            await gate.wait()
        finally:
            self.waiting[step] -= 1
