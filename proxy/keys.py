"""Query to Key. The version and the fingerprint keep answers of another program or SQL apart."""

import orjson
import xxhash

from proxy import __version__
from proxy.query import Key, Query


def key_for(query: Query, fingerprint: str) -> Key:
    """The key of `query`. `fingerprint` stands for all else that shapes the answer.

    All but the program: a version that computes otherwise must not find what another computed.
    """
    question = orjson.dumps(
        [
            __version__,
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
