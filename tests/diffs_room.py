"""/admin with the room of the diffs alone, on a port, over a ledger in memory."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.handlers.admin import make_admin
from proxy.handlers.admin_diffs import AdminDiffs, Pair
from proxy.rollout.journal import Journal
from proxy.telemetry import Telemetry
from tests.clocks import HandClock
from tests.comparisons import AT, as_it_is
from tests.kept_in_memory import LedgerInMemory


@dataclass(frozen=True, slots=True)
class Toml:
    text: str

    def as_toml(self) -> str:
        return self.text


@dataclass(slots=True)
class DiffsRoom:
    """`proposed`: the pairs of documents that a contract was asked for."""

    url: str
    ledger: LedgerInMemory
    journal: Journal
    proposed: list[Pair] = field(default_factory=list)
    toml: str = '[shapes.analytics.fields]\nreach = "clicks"\n'

    def propose(self, samples: Sequence[Pair]) -> Toml:
        self.proposed += samples
        return Toml(self.toml if samples else "")


@asynccontextmanager
async def diffs_room() -> AsyncIterator[DiffsRoom]:
    ledger = LedgerInMemory()
    journal = Journal(
        ledger, HandClock(AT), Telemetry(), redact=as_it_is, latencies=dict, flush_s=0.001
    )
    room = DiffsRoom("", ledger, journal)
    app = web.Application()
    diffs = AdminDiffs(ledger, flush=journal.flush, propose=room.propose)
    app.add_subapp("/admin", make_admin([diffs], None, 1024))
    async with TestServer(app) as server:
        room.url = str(server.make_url("")).rstrip("/")
        yield room
