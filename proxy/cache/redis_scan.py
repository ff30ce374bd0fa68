"""Walks over what Redis holds of ours, a bounded step at a time."""

from collections.abc import AsyncGenerator, Mapping
from functools import partial

from proxy.cache.codec import HEAD_BYTES, CodecError, Head, peek
from proxy.cache.redis_connection import RedisConnection
from proxy.errors import StoreError
from proxy.query import Key

_LOOKED_AT = 500
"""Keys of the server, ours or not, that one step looks at."""
_MOST_STEPS = 20_000


async def heads(connection: RedisConnection) -> AsyncGenerator[Mapping[Key, Head | None], None]:
    """The entries that are there all along, in batches; None for rubbish. Raises StoreError."""
    async for names in _names(connection, connection.entries):
        values = await connection.ask("GETRANGE", partial(_beginnings, connection, names))
        yield {
            Key(name.removeprefix(connection.entries)): _head_in(value)
            for name, value in zip(names, values, strict=True)
            # Expired between the two calls.
            if value != b""
        }


async def drop_fences(connection: RedisConnection) -> None:
    """Refuse every fill that is under way now, in any process. Raises StoreError."""
    async for names in _names(connection, connection.fence_name(Key(""))):
        await connection.ask("DEL", partial(connection.client.delete, *names))


async def _names(connection: RedisConnection, prefix: str) -> AsyncGenerator[list[str], None]:
    cursor = 0
    for _ in range(_MOST_STEPS):
        cursor, names = await connection.ask("SCAN", partial(_step, connection, prefix, cursor))
        if names:
            yield names
        if not cursor:
            return
    raise StoreError(f"redis holds more than {_MOST_STEPS * _LOOKED_AT} keys")


async def _step(connection: RedisConnection, prefix: str, cursor: int) -> tuple[int, list[str]]:
    found = await connection.client.scan(cursor, match=f"{prefix}*", count=_LOOKED_AT)
    return int(found[0]), [name.decode() for name in found[1] if isinstance(name, bytes)]


async def _beginnings(connection: RedisConnection, names: list[str]) -> list[object]:
    async with connection.client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.getrange(name, 0, HEAD_BYTES - 1)
        found: list[object] = await pipeline.execute(raise_on_error=False)
        return found


def _head_in(value: object) -> Head | None:
    if not isinstance(value, bytes):
        return None
    try:
        return peek(value)
    except CodecError:
        return None
