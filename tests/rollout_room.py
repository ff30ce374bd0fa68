"""/admin with the room of the rollout alone, on a port, over a guard in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.audit import Audit
from proxy.handlers.admin import make_admin
from proxy.handlers.admin_rollout import AdminRollout
from tests.guarding import Guarded, guarded


@dataclass(frozen=True, slots=True)
class RolloutRoom:
    url: str
    world: Guarded
    audit: Audit
    room: AdminRollout


@asynccontextmanager
async def rollout_room(*, has_plan: bool = True) -> AsyncIterator[RolloutRoom]:
    async with guarded(is_following=False) as world:
        audit = Audit(world.clock)
        guard = world.guard if has_plan else None
        room = AdminRollout(guard, audit, world.clock, state=lambda: world.state)
        app = web.Application()
        app.add_subapp("/admin", make_admin([room], None, 1024))
        async with TestServer(app) as server:
            yield RolloutRoom(str(server.make_url("")).rstrip("/"), world, audit, room)
