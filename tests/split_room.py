"""/admin with the room of the split alone, on a port, over a file in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.audit import Audit
from proxy.background import Background
from proxy.handlers.admin import make_admin
from proxy.handlers.admin_split import AdminSplit
from proxy.rollout.ramp import Event
from proxy.rollout.steering import Steering
from proxy.telemetry import Telemetry
from tests.clocks import HandClock
from tests.state_in_memory import StateInMemory


@dataclass(frozen=True, slots=True)
class SplitRoom:
    url: str
    file: StateInMemory
    steering: Steering
    audit: Audit
    telemetry: Telemetry
    clock: HandClock
    told: list[Event]


@asynccontextmanager
async def split_room() -> AsyncIterator[SplitRoom]:
    clock, telemetry, file = HandClock(), Telemetry(), StateInMemory()
    told: list[Event] = []
    audit = Audit(clock)
    async with Background(drain_s=0) as background:
        steering = Steering(
            file,
            None,
            background,
            clock,
            process="one",
            percent=100,
            shadow_rate=0.25,
            poll_s=0.005,
        )
        await steering.start(is_damaged=lambda: False, has_legacy=True)
        background.spawn(steering.follow(), name="follow", endless=True)
        app = web.Application()
        room = AdminSplit(steering, audit, clock, telemetry, tell=told.append)
        app.add_subapp("/admin", make_admin([room], None, 10_000))
        async with TestServer(app) as server:
            url = str(server.make_url("")).rstrip("/")
            yield SplitRoom(url, file, steering, audit, telemetry, clock, told)
