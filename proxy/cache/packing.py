"""Entries to bytes and back without holding up the event loop."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from proxy.cache.codec import CodecError, decode, encode
from proxy.cache.entry import Entry
from proxy.errors import StoreError

OFF_LOOP_BYTES = 64 * 1024
"""From here on packing and unpacking takes long enough to do it in a thread."""

A = TypeVar("A")
T = TypeVar("T")


async def pack(entry: Entry) -> bytes:
    """The bytes of `entry`; StoreError when it cannot be bytes."""
    try:
        return await _heavy(entry.payload.size, encode, entry)
    except CodecError as error:
        raise StoreError(f"not an entry that can be kept: {error}") from error


async def unpack(data: bytes) -> Entry:
    """The entry that `data` are the bytes of; CodecError for anything else."""
    return await _heavy(len(data), decode, data)


async def _heavy(size: int, work: Callable[[A], T], argument: A) -> T:
    if size < OFF_LOOP_BYTES:
        return work(argument)
    return await asyncio.to_thread(work, argument)
