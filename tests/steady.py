"""A steady load of questions whose right answers are known, and a record of what callers saw."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
from yarl import URL

from tests.oracle import expect
from tests.oracle_measures import Cell, Shape
from tests.public_port import Caller, Reply, calling, post

_CENT = Decimal("0.0051")
"""What a sum of money may be off: half of its last place and a little."""
_WAIT_S = 30.0
_REFUSED_S = 0.02
_NUMBERS: dict[Shape, tuple[str, ...]] = {
    "dashboard": ("trials", "purchases", "spend", "estimated_revenue"),
    "analytics": (
        "trial_users_count", "purchase_users_count", "spend", "estimated_revenue_adjusted",
    ),
}  # fmt: skip

Numbers = Mapping[str, tuple[Decimal, ...]]
"""Row, by its ids from the top down -> trials, purchases, spend, revenue."""


@dataclass(frozen=True, slots=True)
class Known:
    """A question, and the sums that each row of a right answer has, whoever gives it."""

    word: str
    request: bytes
    shape: Shape
    expected: Numbers

    def faults_in(self, body: bytes) -> str:
        """What is wrong with an answer; empty when nothing is."""
        try:
            found = numbers_in(orjson.loads(body)["data"], self.shape)
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            return f"no answer: {error!r} {body[:80]!r}"
        if found.keys() != self.expected.keys():
            return f"rows {sorted(found.keys() ^ self.expected.keys())[:5]}"
        for name, numbers in self.expected.items():
            if any(abs(a - b) > _CENT for a, b in zip(numbers, found[name], strict=True)):
                return f"{name}: {found[name]}, expected {numbers}"
        return ""


def known(path: str, database: Path, **parameters: Any) -> Known:
    """A question to `path`, answered by the oracle from the rows that are there now.

    Before any proxy in this process has the database open.
    """
    shape: Shape = "analytics" if "analytics" in path else "dashboard"
    expected = expect(database, None, parameters, "mean", shape)
    word = " ".join([path.rpartition("/")[2], *map(str, parameters.values())])
    request = post(path, orjson.dumps(parameters))
    return Known(word, request, shape, numbers_in(expected.data, shape))


def numbers_in(rows: Sequence[Mapping[str, Any]], shape: Shape) -> Numbers:
    """The sums of every row and child, and of every breakdown row, with the path to it."""
    return dict(_walk(rows, shape, ""))


def _walk(
    rows: Sequence[Mapping[str, Any]], shape: Shape, above: str
) -> Iterator[tuple[str, tuple[Decimal, ...]]]:
    for row in rows:
        name = f"{above}/{row.get('breakdown_value', row.get('id'))}"
        yield name, tuple(_exact(row[number]) for number in _NUMBERS[shape])
        yield from _walk(row.get("children", ()), shape, name)
        if shape == "dashboard":
            yield from _walk(row.get("breakdown_data", ()), shape, name)
        # The legacy knows the older spelling only.
        for kind in row.get("breakdowns", ()):
            values = [{**value, "breakdown_value": value["name"]} for value in kind["values"]]
            yield from _walk(values, shape, name)


def _exact(value: Any) -> Decimal:
    return Decimal(value.exact) if isinstance(value, Cell) else Decimal(repr(value))


@dataclass(frozen=True, slots=True)
class Seen:
    """What one caller saw. `status` 0: the connection broke, or nothing came in time."""

    word: str
    status: int
    source: str
    warning: str
    cache: str
    latency_s: float
    fault: str = ""

    @property
    def is_bad(self) -> bool:
        return self.status == 0 or self.status >= 500 or bool(self.fault)


@dataclass
class Steady:
    """`callers` connections that each ask the next question, wait `pause_s`, and so on.

    For the time of the context. A question may take `limit_s`, which has to be
    above what the proxy allows itself. On leaving, what was asked is answered.
    """

    url: URL
    questions: Sequence[Known]
    callers: int = 3
    pause_s: float = 0.02
    limit_s: float = 5.0
    _begun: int = 0
    _seen: list[tuple[int, Seen]] = field(default_factory=list)
    _is_over: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def seen(self) -> list[Seen]:
        """What callers saw, all of it."""
        return self._since(0)

    async def round(self, rounds: int = 1) -> list[Seen]:
        """What callers see from now on, until each has asked every question `rounds` times.

        Questions begun before the call are not among it.
        """
        first = self._begun
        wanted = rounds * len(self.questions) * self.callers
        await self._until(lambda: len(self._since(first)) >= wanted)
        return self._since(first)

    async def sees(self, is_it: Callable[[Seen], bool]) -> Seen:
        """The next answer, of a question begun from now on, that is as wanted."""
        first = self._begun
        await self._until(lambda: any(map(is_it, self._since(first))))
        return next(seen for seen in self._since(first) if is_it(seen))

    def problems(self) -> list[str]:
        """One line for each kind of thing no caller should have seen, with how often."""
        bad = Counter(f"{one.word}: {one.status} {one.fault}" for one in self.seen if one.is_bad)
        return [f"{line} (x{times})" for line, times in bad.items()]

    def tally(self) -> Counter[str]:
        """How often which source answered; with its warning, where there was one."""
        return tally(self.seen)

    @property
    def slowest_s(self) -> float:
        return max(seen.latency_s for seen in self.seen)

    async def __aenter__(self) -> Self:
        questions = cycle(self.questions)
        self._tasks = [
            asyncio.create_task(self._call(questions), name="caller") for _ in range(self.callers)
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over = True
        async with asyncio.timeout(self.limit_s + _WAIT_S):
            await asyncio.gather(*self._tasks)

    def _since(self, first: int) -> list[Seen]:
        return [seen for number, seen in self._seen if number >= first]

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(_WAIT_S):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def _call(self, questions: Iterator[Known]) -> None:
        async with AsyncExitStack() as stack:
            caller: Caller | None = None
            while not self._is_over:
                question, number = next(questions), self._begun
                self._begun += 1
                if caller is None:
                    caller = await self._connected(stack)
                seen, is_open = await self._ask(caller, question)
                if not is_open:
                    caller = None
                self._seen.append((number, seen))
                self._news.set()
                await asyncio.sleep(self.pause_s or (0 if is_open else _REFUSED_S))

    async def _connected(self, stack: AsyncExitStack) -> Caller | None:
        with suppress(OSError):
            return await stack.enter_async_context(calling(self.url))
        return None

    async def _ask(self, caller: Caller | None, question: Known) -> tuple[Seen, bool]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            if caller is None:
                raise ConnectionRefusedError("nobody listens")
            async with asyncio.timeout(self.limit_s):
                reply = await caller.ask(question.request)
        except (OSError, EOFError, TimeoutError) as error:
            took_s = loop.time() - began
            return Seen(question.word, 0, "", "", "", took_s, repr(error)), False
        return self._judged(question, reply, loop.time() - began), not _is_last(reply)

    def _judged(self, question: Known, reply: Reply, took_s: float) -> Seen:
        fault = question.faults_in(reply.body) if reply.status == 200 else reply.body[:120].decode()
        return Seen(
            question.word,
            reply.status,
            reply.headers.get("x-dashboard-source", ""),
            reply.headers.get("x-dashboard-warning", ""),
            reply.headers.get("cache-status", "").removeprefix("dashboard-proxy; "),
            took_s,
            fault,
        )


def tally(seen: Sequence[Seen]) -> Counter[str]:
    return Counter(f"{each.source} {each.warning}".strip() for each in seen)


def _is_last(reply: Reply) -> bool:
    return reply.headers.get("connection", "").lower() == "close"
