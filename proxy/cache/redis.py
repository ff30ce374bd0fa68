"""The tier shared between processes and lives: entries as bytes in Redis."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from types import TracebackType
from typing import Self

import structlog

from proxy.cache.codec import CodecError, Head
from proxy.cache.entry import Entry
from proxy.cache.packing import pack, unpack
from proxy.cache.redis_connection import RedisConnection, WrongTypeError
from proxy.cache.redis_scan import drop_fences, heads
from proxy.cache.store import Found
from proxy.clock import Clock
from proxy.errors import StoreError
from proxy.query import Key
from proxy.telemetry import Telemetry

log = structlog.get_logger(__name__)


class RedisStore:
    """Entries under `prefix`:VERSION:key, for `entry_ttl_s` seconds from their put.

    Its `connection` says what a call may cost and what an outage does; a
    `get`, a `delete` or a `ping` is what tries whether the server is back.
    What is found but is no entry is counted and a miss.
    """

    def __init__(
        self,
        url: str,
        *,
        telemetry: Telemetry,
        clock: Clock,
        entry_ttl_s: float,
        timeout_s: float = 0.5,
        connect_timeout_s: float = 0.25,
        max_connections: int = 16,
        prefix: str = "dashboard-proxy",
    ) -> None:
        self.connection = RedisConnection(
            url,
            clock=clock,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            max_connections=max_connections,
            prefix=prefix,
        )
        self._client = self.connection.client
        self._telemetry = telemetry
        self._ttl_ms = max(1, int(entry_ttl_s * 1000))

    @property
    def is_up(self) -> bool:
        """Whether the last that was heard of the server was an answer."""
        return not self.connection.circuit.is_open

    async def get(self, key: Key) -> Found | None:
        name = self.connection.entry_name(key)
        try:
            data = await self.connection.ask("GET", lambda: self._client.get(name))
        except WrongTypeError:
            data = b""
        if not isinstance(data, bytes):
            return None
        try:
            return Found(await unpack(data), "redis")
        except CodecError as error:
            self._telemetry.store_rubbish.labels("redis").inc()
            log.warning("store_rubbish", tier="redis", key=key, error=str(error))
            return None

    async def put(self, key: Key, entry: Entry) -> None:
        # Not worth the packing, and never the call that tries whether the
        # server is back: towards one that hangs, a large value would stay in
        # the socket's buffer.
        if not self.is_up:
            raise StoreError("redis is down")
        data = await pack(entry)
        name = self.connection.entry_name(key)
        await self.connection.ask("SET", lambda: self._client.set(name, data, px=self._ttl_ms))

    async def delete(self, keys: Iterable[Key]) -> int:
        wanted = list(keys)
        if not wanted:
            return 0
        # Fences first: a fill under way in any process is refused from then
        # on, so none lands after its entry has been deleted.
        fences = [self.connection.fence_name(key) for key in wanted]
        entries = [self.connection.entry_name(key) for key in wanted]

        async def both() -> int:
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.delete(*fences)
                pipeline.delete(*entries)
                held: int = (await pipeline.execute())[1]
                return held

        return await self.connection.ask("DEL", both)

    def heads(self) -> AsyncGenerator[Mapping[Key, Head | None], None]:
        return heads(self.connection)

    async def refuse_fills(self) -> None:
        await drop_fences(self.connection)

    async def ping(self) -> None:
        """StoreError when the server does not answer."""
        await self.connection.ask("PING", lambda: self._client.ping())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.connection.__aexit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"<RedisStore {self.connection.entries}* {self.connection.circuit!r}>"
