"""Fakes around the read path: two tiers of store, a backend that reads the scripted database."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson

from proxy.answer import Answer
from proxy.backends.backend import Fetched
from proxy.background import Background
from proxy.cache.entry import Entry
from proxy.cache.store import Found
from proxy.document import render
from proxy.errors import BackendError
from proxy.freshness import Watermark
from proxy.payload import Payload
from proxy.query import Key, Query
from proxy.read_through import ReadThrough
from proxy.shared_flight import SharedFlight
from proxy.single_flight import SingleFlight
from proxy.telemetry import Telemetry
from proxy.watermarks import Watermarks
from tests.clocks import HandClock
from tests.gates import Gates
from tests.scripted_looks import ScriptedLooks
from tests.shared_leases import FakeLeases, HandSleep, SharedRedis


class FakeStore:
    """Memory and what others share, without any tie between them but `put`."""

    def __init__(self, gates: Gates) -> None:
        self.gates = gates
        self.memory: dict[Key, Entry] = {}
        self.shared: dict[Key, Entry] = {}

    def get_now(self, key: Key) -> Entry | None:
        return self.memory.get(key)

    async def get(self, key: Key) -> Found | None:
        await self.gates.come_to("get")
        entry = self.memory.get(key)
        return await self.get_shared(key) if entry is None else Found(entry, "memory")

    async def get_shared(self, key: Key) -> Found | None:
        await self.gates.come_to("get shared")
        entry = self.shared.get(key)
        return None if entry is None else Found(entry, "redis")

    async def put(self, key: Key, entry: Entry) -> None:
        await self.gates.come_to("put")
        self.memory[key] = entry

    def put_now(self, key: Key, entry: Entry) -> None:
        self.gates.steps.append("put now")
        self.memory[key] = entry


class FakeBackend:
    """Answers with the number that the database held when it was called, then waits at `fetch`."""

    def __init__(self, looks: ScriptedLooks) -> None:
        self.looks = looks
        self.failure: BackendError | None = None
        self.change: Callable[[Fetched], Fetched] = lambda fetched: fetched

    def fingerprint(self) -> str:
        return "program 1"

    async def fetch(self, query: Query) -> Fetched:
        rows, stamp, number = self.looks.numbers["daily"][query.start.isoformat()]["campaign"]
        body = render(query, [{"number": number}], computed_at=stamp, warnings=[])
        await self.looks.gates.come_to("fetch")
        if self.failure is not None:
            raise self.failure
        return self.change(
            Fetched(
                payload=Payload.of(body),
                cost_ms=3.0,
                rows_read={("daily", "campaign"): rows},
                computed_at=stamp,
            )
        )


class FakeLegacy:
    """Sends number 99, or no rows, or fails."""

    def __init__(self, gates: Gates) -> None:
        self.gates = gates
        self.failure: BackendError | None = None
        self.is_empty = False

    async def answer(self, query: Query) -> Answer:
        await self.gates.come_to("legacy")
        if self.failure is not None:
            raise self.failure
        records = [] if self.is_empty else [{"number": 99}]
        body = orjson.dumps({"success": True, "data": records})
        warnings = ("no_rows",) if self.is_empty else ()
        return Answer(Payload.of(body), "legacy", "miss", warnings=warnings)


@dataclass
class ReadPath:
    gates: Gates
    looks: ScriptedLooks
    store: FakeStore
    backend: FakeBackend
    legacy: FakeLegacy
    clock: HandClock
    telemetry: Telemetry
    background: Background
    watermarks: Watermarks
    read_through: ReadThrough
    sleep: HandSleep
    """Of those who wait for another process."""

    async def ask(self, query: Query) -> Answer:
        """As the handler does: first without waiting."""
        held = self.read_through.held_now(query)
        return held if held is not None else await self.read_through.answer(query)

    async def fill(self, query: Query) -> Entry:
        """Ask once, and return what is held for it."""
        answer = await self.ask(query)
        assert answer.key is not None
        return self.store.memory[answer.key]

    def taken(self) -> list[str]:
        """The steps since the last call, without what runs beside the question."""
        steps = [step for step in self.gates.steps if not step.startswith("count")]
        self.gates.steps.clear()
        return steps

    def fallbacks(self, reason: str, source: str) -> float | None:
        labels = {"reason": reason, "source": source}
        return self.telemetry.registry.get_sample_value("proxy_fallbacks_total", labels)


def make_read_path(
    background: Background, *, has_legacy: bool = False, redis: SharedRedis | None = None
) -> ReadPath:
    """Of a process of its own; with `redis` one that shares it with others."""
    gates, clock, telemetry = Gates(), HandClock(), Telemetry()
    looks = ScriptedLooks(gates)
    store, backend, legacy = FakeStore(gates), FakeBackend(looks), FakeLegacy(gates)
    watermarks = Watermarks(looks, background, telemetry, clock, recount_s=3600)
    sleep = HandSleep(clock)
    shared = None
    if redis is not None:
        store.shared = redis.entries
        shared = SharedFlight(
            FakeLeases(redis, gates),
            store,
            background,
            telemetry,
            clock,
            wait_s=10,
            renew_s=2,
            new_token=lambda: f"token {len(gates.steps)}",
            sleep=sleep,
        )
    read_through = ReadThrough(
        watermarks,
        store,
        SingleFlight(background),
        backend,
        legacy if has_legacy else None,
        telemetry,
        clock,
        shared=shared,
    )
    return ReadPath(
        gates, looks, store, backend, legacy, clock, telemetry, background, watermarks,
        read_through, sleep,
    )  # fmt: skip


def number_in(answer: Answer) -> int:
    number: int = orjson.loads(answer.payload.body)["data"][0]["number"]
    return number


def sentences_in(answer: Answer) -> list[str]:
    sentences: list[str] = orjson.loads(answer.payload.body)["metadata"]["warnings"]
    return sentences


def labelled(entry: Entry, token: str) -> Entry:
    """The same entry from another state of the data."""
    return replace(entry, watermark=Watermark(token))
