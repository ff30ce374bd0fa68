"""Content codings of a body, each made once: small ones at once, large ones off the event loop."""

import asyncio

import zstandard
from isal import igzip

from proxy.payload import Payload

_ZSTD_LEVEL = 1
_GZIP_LEVEL = 1
SMALLEST_BYTES = 1024
"""Shorter bodies are sent as they are: a packet is a packet."""
_LARGE_BYTES = 64 * 1024


def compress(coding: str, body: bytes) -> bytes:
    """`body` in `coding` (`gzip` or `zstd`); equal bodies give equal bytes."""
    if coding == "zstd":
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(body)
    return bytes(igzip.compress(body, compresslevel=_GZIP_LEVEL, mtime=0))


async def encoded(payload: Payload, coding: str) -> bytes:
    """The bytes of `payload` in `coding`, made now if it has none."""
    if (known := payload.encodings.get(coding)) is not None:
        return known
    if len(payload.body) < _LARGE_BYTES:
        return compress(coding, payload.body)
    return await asyncio.to_thread(compress, coding, payload.body)
