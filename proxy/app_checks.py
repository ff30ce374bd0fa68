"""Whether each source is there: what health and the status say of it."""

import asyncio

from yarl import URL

from proxy.backends.legacy import LegacyBackend
from proxy.backends.looks import SqliteLooks
from proxy.cache.redis import RedisStore
from proxy.errors import BackendError, StoreError
from proxy.handlers.operations import Check, State
from proxy.watermarks import Watermarks


def database_check(looks: SqliteLooks, watermarks: Watermarks) -> Check:
    async def check() -> State:
        try:
            looks.counter()
        except BackendError as error:
            return "up" if error.reason == "locked" else "down"
        # It is there; whether questions can be answered from it, the last look knows.
        return "down" if watermarks.state == "unknown" else "up"

    return check


def redis_check(redis: RedisStore | None) -> Check:
    async def check() -> State:
        if redis is None:
            return "off"
        try:
            await redis.ping()
        except StoreError:
            return "down"
        return "up"

    return check


def legacy_check(url: URL | None, legacy: LegacyBackend | None) -> Check:
    async def check() -> State:
        if url is None or legacy is None:
            return "off"
        if not legacy.is_up:
            return "down"
        try:
            async with asyncio.timeout(1.0):
                _, writer = await asyncio.open_connection(url.host, url.port)
        except (OSError, TimeoutError):
            return "down"
        writer.close()
        return "up"

    return check
