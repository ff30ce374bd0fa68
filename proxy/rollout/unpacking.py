"""A body out of its content coding, in bounded memory. Pure."""

import zlib
from collections.abc import Sequence
from io import BytesIO

import zstandard

_MOST_OUT = 128 * 2**20
_GZIP, _ZLIB, _RAW = 31, 15, -15
"""How zlib is told what wraps the stream."""


def unpack(chunks: Sequence[bytes], coding: str, *, limit_bytes: int = _MOST_OUT) -> bytes:
    """The body that `chunks` are in the content coding `coding` (empty: as it is).

    Raises ValueError when the coding is unknown, the data are broken or cut
    off, or the body is longer than `limit_bytes`.
    """
    data = b"".join(chunks)
    match coding:
        case "" | "identity":
            body = data
        case "gzip" | "x-gzip":
            body = _members(data, limit_bytes)
        case "deflate":
            try:
                body = _inflated(data, _ZLIB, limit_bytes)
            except zlib.error:
                # Many send the bare stream, against the word of RFC 9110, 8.4.1.2.
                body = _inflated(data, _RAW, limit_bytes)
        case "zstd":
            body = _frames(data, limit_bytes)
        case _:
            raise ValueError(f"unknown content coding {coding[:40]!r}")
    if len(body) > limit_bytes:
        raise ValueError(f"the body is longer than {limit_bytes} bytes")
    return body


def _inflated(data: bytes, form: int, limit_bytes: int) -> bytes:
    stream = zlib.decompressobj(form)
    try:
        body = stream.decompress(data, limit_bytes + 1)
    except zlib.error as error:
        if form == _ZLIB:
            raise
        raise ValueError("the compressed body is broken") from error
    if not stream.eof and len(body) <= limit_bytes:
        raise ValueError("the compressed body is cut off")
    return body


def _members(data: bytes, limit_bytes: int) -> bytes:
    parts = []
    room = limit_bytes
    while data:
        stream = zlib.decompressobj(_GZIP)
        try:
            part = stream.decompress(data, room + 1)
        except zlib.error as error:
            raise ValueError("the compressed body is broken") from error
        parts.append(part)
        room -= len(part)
        if room < 0:
            break
        if not stream.eof:
            raise ValueError("the compressed body is cut off")
        data = stream.unused_data
    return b"".join(parts)


def _frames(data: bytes, limit_bytes: int) -> bytes:
    reader = zstandard.ZstdDecompressor().stream_reader(BytesIO(data), read_across_frames=True)
    try:
        body: bytes = reader.read(limit_bytes + 1)
    except zstandard.ZstdError as error:
        raise ValueError("the compressed body is broken") from error
    return body
