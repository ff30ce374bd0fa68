"""The bytes of an answer, their name and their weight."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from proxy.payload import Payload


@given(st.binary(), st.binary())
def test_equal_bodies_have_equal_etags_and_others_do_not(one: bytes, other: bytes) -> None:
    assert (Payload.of(one).etag == Payload.of(other).etag) == (one == other)


def test_an_etag_is_a_quoted_strong_one() -> None:
    etag = Payload.of(b"{}").etag

    assert etag[0] == etag[-1] == '"'
    assert etag[1:-1].isalnum()


def test_an_etag_is_the_same_in_another_process() -> None:
    code = "from proxy.payload import Payload; print(Payload.of(b'{}').etag, end='')"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout == Payload.of(b"{}").etag


def test_an_encoding_is_added_and_the_payload_before_stays_as_it_was() -> None:
    plain = Payload.of(b"body")
    packed = plain.with_encoding("gzip", b"gz").with_encoding("zstd", b"zst")

    assert dict(plain.encodings) == {}
    assert dict(packed.encodings) == {"gzip": b"gz", "zstd": b"zst"}
    assert (packed.body, packed.etag) == (plain.body, plain.etag)


def test_an_encoding_of_the_same_coding_is_replaced() -> None:
    packed = Payload.of(b"body").with_encoding("gzip", b"one").with_encoding("gzip", b"two")

    assert dict(packed.encodings) == {"gzip": b"two"}


def test_its_size_is_the_body_and_every_encoding() -> None:
    assert Payload.of(b"").size == 0
    assert Payload.of(b"body").with_encoding("gzip", b"gz").with_encoding("zstd", b"z").size == 7
