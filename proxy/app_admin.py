"""Composes what operators talk to: the rooms of /admin and the warm-up they can ask for."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from proxy.audit import Audit
from proxy.canonical import Limits
from proxy.clock import Clock
from proxy.explaining import Explainer
from proxy.handlers.admin import Admin, Held, Room, make_admin
from proxy.handlers.admin_cache import AdminCache, PurgeableStore
from proxy.handlers.admin_jobs import AdminJobs
from proxy.jobs import Jobs
from proxy.settings import Settings
from proxy.telemetry import Telemetry
from proxy.warmup import Warmup
from proxy.watermarks import Watermarks

LARGEST_BODY = 2**20


@dataclass(frozen=True, slots=True)
class AdminRooms:
    """What is mounted at /admin. Others add their rooms and their part of the status."""

    rooms: list[Room]
    sections: dict[str, Callable[[], object]]
    audit: Audit
    telemetry: Telemetry
    clock: Clock
    status: Callable[[], Awaitable[Mapping[str, object]]]

    def application(self, settings: Settings) -> web.Application:
        token = settings.admin_token
        secret = None if token is None else token.get_secret_value()
        return make_admin(self.rooms, secret, LARGEST_BODY)


def make_admin_rooms(
    settings: Settings,
    *,
    watermarks: Watermarks,
    store: PurgeableStore,
    memory: Held,
    explainer: Explainer,
    warmup: Warmup,
    jobs: Jobs,
    before_purge: Callable[[], None],
    sources: Callable[[], Awaitable[Mapping[str, str]]],
    telemetry: Telemetry,
    clock: Clock,
) -> AdminRooms:
    audit = Audit(clock)
    limits = Limits(settings.max_range_days)
    sections: dict[str, Callable[[], object]] = {}
    room = Admin(
        watermarks, memory, jobs, audit, telemetry, clock, sources=sources, sections=sections
    )
    rooms: list[Room] = [
        room,
        AdminCache(
            store,
            explainer,
            audit,
            clock,
            limits,
            believed=watermarks.believed,
            before_purge=before_purge,
        ),
        AdminJobs(warmup, jobs, audit, limits),
    ]
    return AdminRooms(rooms, sections, audit, telemetry, clock, room.status)
