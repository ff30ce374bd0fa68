"""The way to one Redis: a bounded call, a circuit, and names. What is asked is not known here."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

import structlog
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from proxy.cache.codec import VERSION
from proxy.circuit import Circuit
from proxy.clock import Clock
from proxy.errors import SettingsError, StoreError
from proxy.patience import patience
from proxy.query import Key

LEDGER_FORM = 1
"""Goes up with every change of what the ledger keeps. Versions of different forms count apart."""

T = TypeVar("T")
log = structlog.get_logger(__name__)


class WrongTypeError(StoreError):
    """Redis holds something else under the name than was expected there."""


class RedisConnection:
    """Calls to one Redis server, shared by all who keep something there.

    No call waits longer than `timeout_s`, connecting and queueing for one of
    `max_connections` included, and none is repeated. A server that does not
    answer raises StoreError; the calls after it raise at once, until one has
    been tried after a pause and went well. A server that answers with an
    error (out of memory, read-only) raises StoreError for that call alone.
    SettingsError when `url` cannot be one of Redis.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        timeout_s: float,
        connect_timeout_s: float,
        max_connections: int,
        prefix: str,
    ) -> None:
        self.client: Redis = Redis.from_pool(_pool(url, connect_timeout_s, max_connections))
        self.circuit = Circuit(clock)
        self.entries = f"{prefix}:{VERSION}:"
        self._prefix = prefix
        self._timeout_s = timeout_s
        # Queueing is done here, not by redis-py's blocking pool, which loses a
        # connection when a caller that waits for it is cancelled.
        self._places = asyncio.Semaphore(max_connections)

    def entry_name(self, key: Key) -> str:
        return self.entries + key

    def lease_name(self, key: Key, watermark: str) -> str:
        # Beside the entries, not among them: who walks over those meets no lease.
        return f"{self._prefix}:lease:{VERSION}:{key}:{watermark}"

    def fence_name(self, key: Key) -> str:
        return f"{self._prefix}:fence:{VERSION}:{key}"

    def migration_name(self, what: str) -> str:
        # Without a version: a rollback counts in all of them.
        return f"{self._prefix}:migration:{what}"

    def ledger_name(self, what: str) -> str:
        return f"{self._prefix}:ledger:{LEDGER_FORM}:{what}"

    def duty_name(self, what: str) -> str:
        # Likewise: one process at a time, of whatever version.
        return f"{self._prefix}:duty:{what}"

    async def ask(self, command: str, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` brings. `command` stands for it in errors."""
        ticket = self.circuit.admit()
        if ticket is None:
            raise StoreError("redis is down")
        try:
            async with patience(self._timeout_s), self._places:
                # Cancelled in here, redis-py closes the connection: the reply
                # that is still to come never answers another call.
                answer = await call()
        except ResponseError as error:
            self._heard(ticket)
            kind = WrongTypeError if "WRONGTYPE" in str(error) else StoreError
            raise kind(f"redis refused {command}: {error}") from error
        except (RedisError, OSError, TimeoutError) as error:
            if self.circuit.failed(ticket):
                log.warning("redis_down", error=f"{type(error).__name__}: {error}")
            raise StoreError(
                f"redis did not answer {command}: {type(error).__name__}: {error}"
            ) from error
        self._heard(ticket)
        return answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A server that went first must not keep us from leaving.
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                await self.client.aclose()

    def _heard(self, ticket: int) -> None:
        if self.circuit.succeeded(ticket):
            log.info("redis_back")

    def __repr__(self) -> str:
        return f"<RedisConnection {self._prefix} {self.circuit!r}>"


def _pool(url: str, connect_timeout_s: float, max_connections: int) -> ConnectionPool:
    """A pool for `url` that repeats nothing. SettingsError when `url` cannot be one of Redis."""
    try:
        # No timeout of its own for reading and writing: there redis-py would
        # start a task per command. RedisConnection bounds the whole call.
        pool: ConnectionPool = ConnectionPool.from_url(
            url,
            protocol=2,
            max_connections=max_connections,
            socket_timeout=None,
            socket_connect_timeout=connect_timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
        # Whatever the URL says: what is stored is no text.
        pool.connection_kwargs["decode_responses"] = False
        # Made, not connected: an option in the URL that no connection takes
        # stops the start, not the first question.
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, RedisError) as error:
        # The URL may hold a password, and the parser's own words a part of it.
        raise SettingsError(
            "PROXY_REDIS_URL is not one of redis://HOST:PORT/0, rediss://… or unix:///PATH"
        ) from error
    return pool
