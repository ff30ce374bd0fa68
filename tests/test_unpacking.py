"""Bodies out of the codings that a legacy may send."""

import gzip
import zlib

import pytest
import zstandard

from proxy.rollout.unpacking import unpack

BODY = b'{"success":true}' * 100


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


PACKED = {
    "": BODY,
    "identity": BODY,
    "gzip": gzip.compress(BODY, mtime=0),
    "x-gzip": gzip.compress(BODY[:7], mtime=0) + gzip.compress(BODY[7:], mtime=0),
    "deflate": zlib.compress(BODY),
    "zstd": zstandard.compress(BODY),
}


@pytest.mark.parametrize(("coding", "data"), PACKED.items())
def test_a_body_is_what_it_was(coding: str, data: bytes) -> None:
    assert unpack([data[:5], data[5:]], coding) == BODY
    assert unpack([data], coding, limit_bytes=len(BODY)) == BODY


def test_a_bare_deflate_stream_is_read_too() -> None:
    assert unpack([raw_deflate(BODY)], "deflate") == BODY


def test_several_zstd_frames_are_one_body() -> None:
    assert unpack([zstandard.compress(b"a"), zstandard.compress(b"b")], "zstd") == b"ab"


@pytest.mark.parametrize(("coding", "data"), PACKED.items())
def test_a_body_longer_than_it_may_be_is_not_unpacked(coding: str, data: bytes) -> None:
    with pytest.raises(ValueError, match="longer than 1599 bytes"):
        unpack([data], coding, limit_bytes=len(BODY) - 1)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_what_is_no_such_coding_is_refused(coding: str) -> None:
    with pytest.raises(ValueError, match="is broken"):
        unpack([b"\xff" * 40], coding)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_what_is_cut_off_is_refused(coding: str) -> None:
    with pytest.raises(ValueError, match="is cut off"):
        unpack([PACKED[coding][:-9]], coding)


@pytest.mark.parametrize("coding", ["br", "gzip, gzip"])
def test_an_unknown_coding_is_refused(coding: str) -> None:
    with pytest.raises(ValueError, match="unknown content coding"):
        unpack([BODY], coding)
