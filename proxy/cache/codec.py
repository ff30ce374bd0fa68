"""An entry as bytes and back. What cannot be read whole is no entry.

    magic (4) | version (1) | xxh3_64 of all that follows (8)
    | header length (4) | header, JSON | body, one zstd frame

The frame is a valid `zstd` content coding as it stands, so a decoded entry
can be sent compressed without compressing it again. Other codings are not
kept: they are cheaper made than fetched.
"""

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import TypeVar, get_args

import orjson
import xxhash
import zstandard

from proxy.cache.entry import Entry
from proxy.errors import ProxyError
from proxy.freshness import Watermark
from proxy.payload import Payload
from proxy.query import BREAKDOWNS, LEVELS, Query, ShapeName

VERSION = 2
"""Goes up with every change of the layout; an unknown one is not read.

It also stands in the names of entries, leases and fences, so it goes up when
those of the latter two change: what versions of another number keep is apart.
"""

MAX_BODY_BYTES = 256 * 2**20
"""The largest body that is written, and the most that a read may unpack."""

_MAGIC = b"DPxE"
_LEVEL = 1
_PREFIX = struct.Struct(">4sBQ")
_LENGTH = struct.Struct(">I")

HEAD_BYTES = 4096
"""So many first bytes of a value hold its head: questions and labels are short."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Head:
    """What can be told of an entry without unpacking its body."""

    query: Query | None
    watermark: Watermark
    stored_at: float
    cost_ms: float
    body_bytes: int
    question: str = ""


class CodecError(ProxyError):
    """Bytes that are no entry of this version, or an entry that cannot be bytes.

    Not a StoreError: the store answered, and what it holds is rubbish.
    """


def encode(entry: Entry) -> bytes:
    """The bytes of `entry`; CodecError when its body is too large or a field is no JSON."""
    body = entry.payload.body
    if len(body) > MAX_BODY_BYTES:
        raise CodecError(f"body of {len(body)} bytes; the most is {MAX_BODY_BYTES}")
    if not (math.isfinite(entry.stored_at) and math.isfinite(entry.cost_ms)):
        raise CodecError(f"stored_at={entry.stored_at} cost_ms={entry.cost_ms}: not finite")
    if (entry.query is None) != bool(entry.question):
        raise CodecError(f"query={entry.query} question={entry.question!r}: one of them is needed")
    try:
        header = orjson.dumps(
            {
                "query": None if entry.query is None else _fields(entry.query),
                "question": entry.question,
                "content_type": entry.content_type,
                "headers": entry.headers,
                "etag": entry.payload.etag,
                "token": entry.watermark.token,
                "computed_at": entry.watermark.computed_at,
                "stored_at": entry.stored_at,
                "cost_ms": entry.cost_ms,
                "warnings": entry.warnings,
                "body_bytes": len(body),
            }
        )
    except orjson.JSONEncodeError as error:
        raise CodecError(f"header: {error}") from error
    covered = b"".join((_LENGTH.pack(len(header)), header, _frame(entry.payload)))
    return _PREFIX.pack(_MAGIC, VERSION, xxhash.xxh3_64_intdigest(covered)) + covered


def decode(data: bytes) -> Entry:
    """The entry that `data` are the bytes of, offered as identity and as `zstd`.

    CodecError for anything else: cut short, too long, changed, of another
    version, or unpacking to more than it says or than MAX_BODY_BYTES.
    """
    try:
        magic, version, checksum = _PREFIX.unpack_from(data)
        if magic != _MAGIC:
            raise CodecError("no entry")
        if version != VERSION:
            raise CodecError(f"version {version}; this reads {VERSION}")
        covered = memoryview(data)[_PREFIX.size :]
        if xxhash.xxh3_64_intdigest(covered) != checksum:
            raise CodecError("checksum differs")
        (length,) = _LENGTH.unpack_from(covered)
        if len(covered) < _LENGTH.size + length:
            raise CodecError("header cut short")
        frame = bytes(covered[_LENGTH.size + length :])
        return _entry(orjson.loads(covered[_LENGTH.size : _LENGTH.size + length]), frame)
    except (struct.error, KeyError, TypeError, ValueError, zstandard.ZstdError) as error:
        raise CodecError(f"{type(error).__name__}: {error}") from error


def peek(data: bytes) -> Head:
    """The head of an entry, from the first HEAD_BYTES of its bytes. Raises CodecError.

    Whether the rest is whole is not known: that takes `decode`.
    """
    try:
        magic, version, _ = _PREFIX.unpack_from(data)
        if (magic, version) != (_MAGIC, VERSION):
            raise CodecError("no entry of this version")
        (length,) = _LENGTH.unpack_from(data, _PREFIX.size)
        first = _PREFIX.size + _LENGTH.size
        return _head(orjson.loads(data[first : first + length]))
    except (struct.error, KeyError, TypeError, ValueError) as error:
        raise CodecError(f"{type(error).__name__}: {error}") from error


def _fields(query: Query) -> dict[str, object]:
    return {
        "shape": query.shape,
        "start": query.start.isoformat(),
        "end": query.end.isoformat(),
        "level": query.level,
        "breakdown": query.breakdown,
        "depth": query.depth,
        "include_sparkline": query.include_sparkline,
    }


def _frame(payload: Payload) -> bytes:
    held = payload.encodings.get("zstd")
    if held is not None and _frame_bytes(held) == len(payload.body):
        return held
    # One compressor per call: they must not be shared between threads.
    return zstandard.ZstdCompressor(level=_LEVEL).compress(payload.body)


def _frame_bytes(frame: bytes) -> int:
    """Bytes the frame says it unpacks to, -1 where it does not say."""
    try:
        return zstandard.frame_content_size(frame)
    except zstandard.ZstdError:
        return -1


def _entry(header: dict[str, object], frame: bytes) -> Entry:
    head = _head(header)
    body_bytes = head.body_bytes
    # Compared before anything is unpacked: the frame's own word is what zstd
    # would allocate.
    if body_bytes > MAX_BODY_BYTES or _frame_bytes(frame) != body_bytes:
        raise CodecError(f"a frame that does not hold {body_bytes} bytes")
    body = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    return Entry(
        query=head.query,
        payload=Payload(body, _typed(header["etag"], str), MappingProxyType({"zstd": frame})),
        watermark=head.watermark,
        stored_at=head.stored_at,
        cost_ms=head.cost_ms,
        warnings=tuple(_typed(word, str) for word in _typed(header["warnings"], list)),
        question=head.question,
        content_type=_typed(header["content_type"], str),
        headers=tuple(
            (_typed(name, str), _typed(value, str))
            for name, value in _typed(header["headers"], list)
        ),
    )


def _head(header: Mapping[str, object]) -> Head:
    asked = header["query"]
    question = _typed(header["question"], str)
    if (asked is None) != bool(question):
        raise CodecError("an answer to no question, or to two")
    computed_at = header["computed_at"]
    return Head(
        query=None if asked is None else _query(_typed(asked, dict)),
        watermark=Watermark(
            _typed(header["token"], str),
            None if computed_at is None else _typed(computed_at, str),
        ),
        stored_at=_number(header["stored_at"]),
        cost_ms=_number(header["cost_ms"]),
        body_bytes=_typed(header["body_bytes"], int),
        question=question,
    )


def _query(asked: Mapping[str, object]) -> Query:
    return Query(
        shape=_one_of(asked["shape"], get_args(ShapeName)),
        start=date.fromisoformat(_typed(asked["start"], str)),
        end=date.fromisoformat(_typed(asked["end"], str)),
        level=_one_of(asked["level"], LEVELS),
        breakdown=_one_of(asked["breakdown"], BREAKDOWNS),
        depth=_one_of(asked["depth"], range(1, len(LEVELS) + 1)),
        include_sparkline=_typed(asked["include_sparkline"], bool),
    )


def _typed(value: object, kind: type[T]) -> T:
    # `type is`, for a bool is an int too.
    if type(value) is not kind:
        raise CodecError(f"{type(value).__name__} where a {kind.__name__} was expected")
    return value


def _number(value: object) -> float:
    return float(value) if type(value) is int else _typed(value, float)


def _one_of(value: object, options: Iterable[T]) -> T:
    for option in options:
        if type(option) is type(value) and option == value:
            return option
    raise CodecError(f"{value!r} is none of {options}")
