"""Query to Key. The fingerprint keeps answers of another program, shape or SQL apart."""

import orjson
import xxhash

from proxy.query import Key, Query


def key_for(query: Query, fingerprint: str) -> Key:
    """The key of `query`. `fingerprint` stands for everything else that shapes the answer."""
    question = orjson.dumps(
        [
            fingerprint,
            query.shape,
            query.start.isoformat(),
            query.end.isoformat(),
            query.level,
            query.breakdown,
            query.depth,
            query.include_sparkline,
        ]
    )
    return Key(xxhash.xxh3_128_hexdigest(question))


def fingerprint_of(*parts: str) -> str:
    """A digest of `parts`; order counts, and no two lists of parts run together."""
    return xxhash.xxh3_128_hexdigest(orjson.dumps(parts))
