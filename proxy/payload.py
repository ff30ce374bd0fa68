"""Payload: the bytes of an answer, ready to send, in each encoding that was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import xxhash

_NO_ENCODINGS: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Payload:
    """JSON `body`, its strong `etag` (quoted, as in the header) and compressed variants.

    `encodings` maps an HTTP content coding (`gzip`, `zstd`) to bytes.
    """

    body: bytes
    etag: str
    encodings: Mapping[str, bytes] = field(default_factory=lambda: _NO_ENCODINGS)

    @classmethod
    def of(cls, body: bytes) -> "Payload":
        """The payload of `body`. The etag is made here, once: never on a hit."""
        return cls(body, f'"{xxhash.xxh3_128_hexdigest(body)}"')

    def with_encoding(self, coding: str, data: bytes) -> "Payload":
        return replace(self, encodings=MappingProxyType({**self.encodings, coding: data}))

    @property
    def size(self) -> int:
        """Bytes held, all encodings together."""
        return len(self.body) + sum(map(len, self.encodings.values()))
