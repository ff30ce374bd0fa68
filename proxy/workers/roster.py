"""Roster: which workers there are, and what is to be done next. Pure: it starts nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from proxy.workers.backoff import Backoff

Stage = Literal["starting", "serving", "draining"]
Ending = Literal["left", "crashed", "failed", "abandoned"]
"""`left`: it was told to. `crashed`: it served and ended by itself. `failed`: it never
served. `abandoned`: it never served, and with it its whole generation is given up."""


@dataclass(slots=True)
class Member:
    """One worker. Its number is never given again; `generation` says of which settings it is."""

    number: int
    generation: int
    began_at: float
    stage: Stage = "starting"
    is_replaced: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    generation: int


@dataclass(frozen=True, slots=True)
class Drain:
    number: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing before `until`."""

    until: float


Step = Start | Drain | Wait


class Roster:
    """Looks at what there is, not at what happened: whatever ends when, the next step is right.

    `count` workers of the newest generation are wanted. A new generation is brought
    in one by one, each before an old one goes. One whose first worker never
    serves is given up, and the last one that did is wanted again.
    """

    def __init__(self, count: int, backoff: Backoff) -> None:
        self.count = count
        self.generation = 1
        self.is_stopping = False
        self._backoff = backoff
        self._members: dict[int, Member] = {}
        self._last_number = 0
        # The newest generation that has served, and how many of it were wanted.
        self._proven: tuple[int, int] | None = None

    def due(self, now: float) -> Step | None:
        """What to do next; None: nothing until something happens."""
        if self.is_stopping:
            return None
        starting = self._in("starting")
        serving = self._in("serving")
        old = [one for one in serving if one.generation != self.generation]
        if len(serving) + len(starting) < self.count:
            if starting and not self._is_proven:
                # What is wrong with the settings is then told once.
                return None
            return self._start(now)
        if len(serving) > self.count:
            # The youngest of the old ones: the oldest leads, and leads on for as long as it can.
            return Drain((old or serving)[-1].number)
        if old and not starting and not self._in("draining"):
            return self._start(now)
        return None

    def turn_to(self, generation: int, count: int, now: float) -> None:
        """Want `count` workers of `generation`, newer than all there were."""
        self.generation = generation
        self.count = count
        # What made the others end may be what has changed.
        self._backoff.forgive(now)

    def starts(self, now: float) -> Member:
        """A worker of the wanted generation is being started."""
        self._last_number += 1
        member = Member(self._last_number, self.generation, now)
        self._members[member.number] = member
        return member

    def serves(self, number: int) -> None:
        member = self._members[number]
        member.stage = "serving"
        if self._proven is None or member.generation >= self._proven[0]:
            count = self.count if member.generation == self.generation else self._proven_count
            self._proven = (member.generation, count)

    def drains(self, number: int) -> None:
        member = self._members[number]
        member.stage = "draining"
        member.is_replaced = member.generation != self.generation

    def ended(self, number: int, now: float) -> Ending:
        """It is gone, for whatever reason."""
        member = self._members.pop(number)
        if self.is_stopping or member.stage == "draining":
            return "left"
        self._backoff.ended(now - member.began_at, now)
        if member.stage == "serving":
            return "crashed"
        if member.generation != self.generation or self._is_proven:
            return "failed"
        if self._proven is not None:
            self.generation, self.count = self._proven
            # Those of before are as good as they were: nothing to wait for.
            self._backoff.forgive(now)
        return "abandoned"

    @property
    def lead(self) -> Member | None:
        """The one that is asked what any of them could answer: the oldest that serves."""
        return next(
            (one for stage in ("serving", "draining") for one in self._members.values()
             if one.stage == stage), None,
        )  # fmt: skip

    @property
    def proven(self) -> int:
        """The newest generation that has served."""
        assert self._proven is not None
        return self._proven[0]

    @property
    def is_complete(self) -> bool:
        return len(self._in("serving")) >= self.count

    @property
    def is_rolling(self) -> bool:
        return any(one.generation != self.generation for one in self)

    def get(self, number: int) -> Member | None:
        return self._members.get(number)

    @property
    def _is_proven(self) -> bool:
        return self._proven is not None and self._proven[0] >= self.generation

    @property
    def _proven_count(self) -> int:
        return self.count if self._proven is None else self._proven[1]

    def _start(self, now: float) -> Step:
        if now < self._backoff.may_start_at:
            return Wait(self._backoff.may_start_at)
        return Start(self.generation)

    def _in(self, stage: Stage) -> list[Member]:
        return [one for one in self._members.values() if one.stage == stage]

    def __iter__(self) -> Iterator[Member]:
        """The oldest first."""
        return iter(list(self._members.values()))

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        told = " ".join(f"{one.number}:{one.stage}/{one.generation}" for one in self)
        return f"<Roster {self.count}/{self.generation} [{told}]>"
