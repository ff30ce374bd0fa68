"""Post: a worker as the supervisor has it, and what it was started with."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from proxy.settings import Settings
from proxy.workers.orders import Report
from proxy.workers.roster import Member


class Link(Protocol):
    """A worker's own admin port. See WorkerLink."""

    is_silent: bool

    async def is_live(self, timeout_s: float) -> bool: ...

    async def is_ready(self) -> bool: ...

    async def probe(self, path: str, *, timeout_s: float = ...) -> tuple[int, bytes]: ...

    async def read(self, path: str, *, timeout_s: float = ...) -> bytes: ...

    async def read_json(self, path: str) -> dict[str, Any]: ...

    async def open(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> aiohttp.ClientResponse: ...


class Worker(Protocol):
    """A process that serves. See WorkerProcess."""

    @property
    def pid(self) -> int: ...

    @property
    def link(self) -> Link: ...

    def reports(self) -> AsyncIterator[Report]: ...

    async def ended(self) -> int: ...

    def drain(self) -> None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What workers are started with: `text` is that of the configuration file `config`."""

    settings: Settings
    config: str | None
    text: str | None


Launch = Callable[[Plan, int], Awaitable[Worker]]


@dataclass(frozen=True, slots=True)
class Times:
    """How long things may take, in seconds.

    A worker is asked each `probe_s` whether it lives and is ended when it has not
    answered for `hang_s`; about each `scrape_s` for its metrics: what a crash may lose.
    `start_s` to be ready, `grace_s` for idle connections of one that is replaced,
    `leave_s` to answer what it has begun.
    """

    probe_s: float = 1.0
    scrape_s: float = 2.0
    hang_s: float = 10.0
    start_s: float = 60.0
    grace_s: float = 5.0
    leave_s: float = 30.0


USUAL = Times()


@dataclass(slots=True)
class Post:
    """A member of the roster, with the process behind it. `killed` says why we ended it."""

    member: Member
    plan: Plan
    worker: Worker
    is_listening: bool = False
    is_over: bool = False
    killed: str = ""

    @property
    def number(self) -> int:
        return self.member.number
