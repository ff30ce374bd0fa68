"""What a warm-up needs around the fakes of the read path: a shelf, a duty, jobs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

from proxy.cache.entry import Entry
from proxy.errors import StoreError
from proxy.query import Key, Query
from tests.gates import Gates
from tests.read_path import ReadPath

FIRST = date(2024, 1, 1)


def question(number: int = 0) -> Query:
    """One day's campaigns, a day for each number."""
    day = FIRST + timedelta(days=number)
    return Query("analytics", day, day, "campaign", depth=1)


def write_days(path: ReadPath, count: int) -> None:
    for number in range(count):
        path.looks.write(number + 1, day=question(number).start.isoformat())


@dataclass
class FakeShelf:
    """The memory of a ReadPath; `used` is what the test says of each question's uses."""

    path: ReadPath
    used: dict[Query, int] = field(default_factory=dict)
    limit_bytes: int = 2**30

    def entries(self) -> Iterator[tuple[Key, Entry]]:
        return iter(list(self.path.store.memory.items()))

    def uses(self, key: Key) -> int:
        held = self.held(key)
        return 0 if held is None or held.query is None else self.used.get(held.query, 0)

    def held(self, key: Key) -> Entry | None:
        return self.path.store.memory.get(key)


class FakeDuty:
    """Ours unless `is_theirs`; renewing it finds it lost when it is theirs by then."""

    def __init__(self, gates: Gates) -> None:
        self.gates = gates
        self.ttl_s = 60.0
        self.is_theirs = False
        self.is_down = False
        self.on_refusal: Callable[[], None] = lambda: None

    async def take(self) -> bool:
        await self._come_to("take")
        is_ours = not self.is_theirs
        if not is_ours:
            self.on_refusal()
        return is_ours

    async def renew(self) -> bool:
        await self._come_to("renew")
        return not self.is_theirs

    async def give_back(self) -> None:
        await self._come_to("give back")

    async def _come_to(self, step: str) -> None:
        await self.gates.come_to(step)
        if self.is_down:
            raise StoreError("down")
