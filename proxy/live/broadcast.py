"""Broadcast: one collecting for all who watch, and none while nobody does."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from proxy.background import Background
from proxy.errors import BackendUnavailable, ProxyError

log = structlog.get_logger(__name__)

Told = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Topic:
    """Something to watch. `collect` says how it is now, None where there is nothing to say.

    It is news when what `lasting` makes of it has changed. `is_event`: it tells what
    happened, so what is there already when somebody begins to watch is no news either.
    """

    name: str
    collect: Callable[[], Awaitable[Told | None]]
    lasting: Callable[[Told], object] = lambda told: told
    is_event: bool = False


@dataclass(frozen=True, slots=True)
class News:
    topic: str
    told: Told
    number: int
    """Grows with each change of the topic."""


@dataclass(slots=True, eq=False)
class Watch:
    """How far somebody has seen. He gets the newest of each topic, not what came in between."""

    _of: "Broadcast"
    _seen: dict[str, int] = field(default_factory=dict)

    async def next(self) -> list[News] | None:
        """What is new, after a round at the latest; None once all is over."""
        if not (news := self._unseen()):
            await self._of.round()
            news = self._unseen()
        if self._of.is_closed:
            return None
        for one in news:
            self._seen[one.topic] = one.number
        return news

    def _unseen(self) -> list[News]:
        return [one for one in self._of.newest() if one.number > self._seen.get(one.topic, 0)]


class Broadcast:
    """Collects all topics every `every_s` for as long as somebody watches.

    A topic that cannot be collected, or takes more than `longest_s`, keeps its last
    news; the log has each kind of unforeseen error once. `close` ends all watches.
    """

    def __init__(
        self,
        topics: Sequence[Topic],
        background: Background,
        *,
        every_s: float = 1.0,
        longest_s: float = 30.0,
    ) -> None:
        self._topics = topics
        self._background = background
        self._every_s = every_s
        self._longest_s = longest_s
        self._news: dict[str, News] = {}
        self._broken: set[tuple[str, type[BaseException]]] = set()
        self._round = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._watches = 0
        self.is_closed = False

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """Raises BackendUnavailable when the proxy leaves."""
        if self._task is None:
            self._task = self._begin()
        seen = {topic.name: self._number(topic.name) for topic in self._topics if topic.is_event}
        self._watches += 1
        try:
            yield Watch(self, seen)
        finally:
            self._watches -= 1
            if not self._watches:
                self._task.cancel()
                self._task = None
                self._news.clear()
                self._broken.clear()

    def newest(self) -> list[News]:
        return list(self._news.values())

    async def round(self) -> None:
        """Return when a topic has been looked at again, or all is over."""
        if not self.is_closed:
            await self._round.wait()

    def close(self) -> None:
        self.is_closed = True
        self._wake()

    def _begin(self) -> asyncio.Task[None]:
        if self.is_closed:
            raise BackendUnavailable("no watch is begun any more", reason="closing")
        try:
            return self._background.spawn(self._follow(), name="broadcast", endless=True)
        except RuntimeError as error:
            raise BackendUnavailable("no watch is begun any more", reason="closing") from error

    async def _follow(self) -> None:
        while True:
            for topic in self._topics:
                await self._collect(topic)
                self._wake()
            await asyncio.sleep(self._every_s)

    async def _collect(self, topic: Topic) -> None:
        try:
            async with asyncio.timeout(self._longest_s):
                self._note(topic, await topic.collect())
        except ProxyError as error:
            log.debug("not_collected", topic=topic.name, error=str(error))
        except asyncio.CancelledError as error:
            # Ours, unless it was something collected that somebody cancelled.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._complain(topic, error)
        except Exception as error:  # noqa: BLE001 (whatever it is, those who watch must hear more)
            self._complain(topic, error)

    def _note(self, topic: Topic, told: Told | None) -> None:
        before = self._news.get(topic.name)
        if before is None:
            # Numbers begin at 1, so that it is news to whoever has seen nothing.
            number = 0 if topic.is_event else 1
            self._news[topic.name] = News(topic.name, told or {}, number)
        elif told is not None and topic.lasting(told) != topic.lasting(before.told):
            self._news[topic.name] = News(topic.name, told, before.number + 1)

    def _complain(self, topic: Topic, error: BaseException) -> None:
        kind = (topic.name, type(error))
        if kind not in self._broken:
            self._broken.add(kind)
            log.error("not_collected", topic=topic.name, error=repr(error), exc_info=error)

    def _number(self, name: str) -> int:
        return self._news[name].number if name in self._news else 0

    def _wake(self) -> None:
        # One event per round: who waits for the next must not see this one.
        self._round.set()
        self._round = asyncio.Event()

    def __len__(self) -> int:
        return self._watches

    def __repr__(self) -> str:
        return f"<Broadcast watches={self._watches} closed={self.is_closed}>"
