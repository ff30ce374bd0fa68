import gzip

import pytest
import zstandard

from proxy.compression import compress, encoded
from proxy.payload import Payload

BODY = b'{"data":[1,2,3]}' * 200


def unpacked(coding: str, data: bytes) -> bytes:
    return zstandard.decompress(data) if coding == "zstd" else gzip.decompress(data)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("body", [b"", b"x", BODY, BODY * 100])
def test_what_is_packed_comes_out_again_and_equal_bodies_give_equal_bytes(
    coding: str, body: bytes
) -> None:
    packed = compress(coding, body)
    assert unpacked(coding, packed) == body
    assert compress(coding, body) == packed


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("times", [1, 100])
async def test_small_and_large_bodies_are_encoded_alike(coding: str, times: int) -> None:
    body = BODY * times
    assert await encoded(Payload.of(body), coding) == compress(coding, body)


async def test_an_encoding_that_is_there_is_not_made_again() -> None:
    payload = Payload.of(BODY).with_encoding("gzip", b"made before")
    assert await encoded(payload, "gzip") == b"made before"
    assert unpacked("zstd", await encoded(payload, "zstd")) == BODY


def test_a_packed_body_is_shorter() -> None:
    assert len(compress("gzip", BODY)) < len(BODY) / 5
    assert len(compress("zstd", BODY)) < len(BODY) / 5
