"""Round trips, and that nothing but a whole entry is ever read as one."""

import struct
from dataclasses import replace
from datetime import date

import orjson
import pytest
import xxhash
import zstandard
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.cache.codec import HEAD_BYTES, MAX_BODY_BYTES, VERSION, CodecError, decode, encode, peek
from proxy.cache.entry import Entry
from proxy.freshness import Watermark
from proxy.payload import Payload
from proxy.query import BREAKDOWNS, LEVELS, Query
from tests.entries import an_entry

HEADER_AT = 17
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
finite = st.floats(allow_nan=False, allow_infinity=False)
queries = st.builds(
    Query,
    shape=st.sampled_from(["dashboard", "analytics"]),
    start=st.dates(),
    end=st.dates(),
    level=st.sampled_from(LEVELS),
    breakdown=st.sampled_from(BREAKDOWNS),
    depth=st.integers(1, 3),
    include_sparkline=st.booleans(),
)
entries = st.builds(
    Entry,
    query=queries,
    payload=st.binary(max_size=400).map(Payload.of),
    watermark=st.builds(Watermark, token=texts, computed_at=st.none() | texts),
    stored_at=finite,
    cost_ms=finite,
    warnings=st.lists(texts, max_size=3).map(tuple),
)

replies = st.builds(
    Entry,
    query=st.none(),
    payload=st.binary(max_size=400).map(Payload.of),
    watermark=st.builds(Watermark, token=texts, computed_at=st.none() | texts),
    stored_at=finite,
    question=texts.filter(bool),
    content_type=texts,
    headers=st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
)


def forged(header: object, frame: bytes) -> bytes:
    """Bytes with a right checksum, as a careless writer of this version would make them."""
    packed = orjson.dumps(header)
    covered = struct.pack(">I", len(packed)) + packed + frame
    return struct.pack(">4sBQ", b"DPxE", VERSION, xxhash.xxh3_64_intdigest(covered)) + covered


def parts_of(data: bytes) -> tuple[dict[str, object], bytes]:
    (length,) = struct.unpack_from(">I", data, 13)
    header = orjson.loads(data[HEADER_AT : HEADER_AT + length])
    assert isinstance(header, dict)
    return header, data[HEADER_AT + length :]


@given(entries)
def test_an_entry_comes_back_as_it_was_and_with_a_zstd_encoding(entry: Entry) -> None:
    found = decode(encode(entry))

    frame = found.payload.encodings["zstd"]
    assert zstandard.ZstdDecompressor().decompress(frame) == entry.payload.body
    assert replace(found, payload=entry.payload) == entry
    assert (found.payload.body, found.payload.etag) == (entry.payload.body, entry.payload.etag)
    assert set(found.payload.encodings) == {"zstd"}


@given(replies)
def test_the_answer_of_a_legacy_route_comes_back_with_its_headers(entry: Entry) -> None:
    data = encode(entry)

    found = decode(data)
    assert replace(found, payload=entry.payload) == entry
    assert (peek(data).query, peek(data).question) == (None, entry.question)


@pytest.mark.parametrize(
    "entry", [replace(an_entry(), query=None), replace(an_entry(), question="x")]
)
def test_an_entry_answers_one_question(entry: Entry) -> None:
    with pytest.raises(CodecError):
        encode(entry)


@pytest.mark.parametrize(
    "headers", [[["a"]], [["a", 1]], ["ab", "cde"], [["a", "b", "c"]], {"a": "b"}]
)
def test_headers_that_are_none_are_no_entry(headers: object) -> None:
    header, frame = parts_of(encode(replace(an_entry(), query=None, question="x")))

    with pytest.raises(CodecError):
        decode(forged({**header, "headers": headers}, frame))


@given(entries)
def test_what_was_decoded_encodes_to_the_same_bytes(entry: Entry) -> None:
    data = encode(entry)

    assert encode(decode(data)) == data


@given(entries, st.data())
def test_a_flipped_bit_is_no_entry(entry: Entry, data: st.DataObject) -> None:
    whole = encode(entry)
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    broken = bytearray(whole)
    broken[bit // 8] ^= 1 << bit % 8

    with pytest.raises(CodecError):
        decode(bytes(broken))


@given(entries, st.data())
def test_bytes_cut_short_are_no_entry(entry: Entry, data: st.DataObject) -> None:
    whole = encode(entry)

    with pytest.raises(CodecError):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(entries, st.binary(min_size=1, max_size=50))
def test_bytes_too_many_are_no_entry(entry: Entry, more: bytes) -> None:
    with pytest.raises(CodecError):
        decode(encode(entry) + more)


@given(st.binary(max_size=200))
def test_random_bytes_are_no_entry(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode(data)


@given(st.binary(max_size=200))
def test_random_bytes_under_a_right_checksum_are_no_entry(covered: bytes) -> None:
    prefix = struct.pack(">4sBQ", b"DPxE", VERSION, xxhash.xxh3_64_intdigest(covered))

    with pytest.raises(CodecError):
        decode(prefix + covered)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**18) | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@given(entries, st.data())
def test_a_header_field_of_another_type_is_no_entry(entry: Entry, data: st.DataObject) -> None:
    header, frame = parts_of(encode(entry))
    field = data.draw(st.sampled_from(sorted(header)))
    value = data.draw(JSON)
    assume(type(value) is not type(header[field]))
    assume(not (field in ("stored_at", "cost_ms") and type(value) in (int, float)))
    assume(not (field == "computed_at" and (value is None or type(value) is str)))

    with pytest.raises(CodecError):
        decode(forged({**header, field: value}, frame))


@given(entries, st.data())
def test_a_header_without_a_field_is_no_entry(entry: Entry, data: st.DataObject) -> None:
    header, frame = parts_of(encode(entry))
    del header[data.draw(st.sampled_from(sorted(header)))]

    with pytest.raises(CodecError):
        decode(forged(header, frame))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", "other"),
        ("start", "2024-02-30"),
        ("end", 20240101),
        ("level", "account"),
        ("breakdown", "city"),
        ("depth", 4),
        ("depth", True),
        ("include_sparkline", 1),
    ],
)
def test_a_question_that_cannot_be_asked_is_no_entry(field: str, value: object) -> None:
    header, frame = parts_of(encode(an_entry()))
    query = header["query"]
    assert isinstance(query, dict)

    with pytest.raises(CodecError):
        decode(forged({**header, "query": {**query, field: value}}, frame))


def test_another_version_is_not_read() -> None:
    data = bytearray(encode(an_entry()))
    data[4] = VERSION + 1

    with pytest.raises(CodecError, match=f"version {VERSION + 1}; this reads {VERSION}"):
        decode(bytes(data))


def test_a_frame_that_unpacks_to_more_than_the_header_says_is_refused() -> None:
    header, _ = parts_of(encode(an_entry()))
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))

    with pytest.raises(CodecError, match="does not hold"):
        decode(forged(header, bomb))


def test_a_header_that_announces_more_than_the_limit_is_refused() -> None:
    header, _ = parts_of(encode(an_entry()))
    # A frame's first bytes are enough to claim any size.
    huge = bytes.fromhex("28b52ffde0") + struct.pack("<Q", MAX_BODY_BYTES + 1)
    assert zstandard.frame_content_size(huge) == MAX_BODY_BYTES + 1

    with pytest.raises(CodecError, match="does not hold"):
        decode(forged({**header, "body_bytes": MAX_BODY_BYTES + 1}, huge))


def test_a_frame_that_does_not_say_its_size_is_refused() -> None:
    entry = an_entry()
    header, _ = parts_of(encode(entry))
    packer = zstandard.ZstdCompressor().compressobj()
    silent = packer.compress(entry.payload.body) + packer.flush()

    with pytest.raises(CodecError, match="does not hold"):
        decode(forged(header, silent))


def test_two_frames_are_refused() -> None:
    header, frame = parts_of(encode(an_entry()))

    with pytest.raises(CodecError):
        decode(forged(header, frame + frame))


def test_a_zstd_encoding_that_is_there_is_used_as_it_is() -> None:
    entry = an_entry(size=1000)
    frame = zstandard.ZstdCompressor(level=9).compress(entry.payload.body)

    found = decode(encode(entry.with_encoding("zstd", frame).with_encoding("gzip", b"left out")))

    assert dict(found.payload.encodings) == {"zstd": frame}


@pytest.mark.parametrize("useless", [b"", b"no frame", zstandard.ZstdCompressor().compress(b"ab")])
def test_a_zstd_encoding_that_is_not_the_body_is_made_anew(useless: bytes) -> None:
    entry = an_entry()

    assert decode(encode(entry.with_encoding("zstd", useless))).payload.body == entry.payload.body


@pytest.mark.parametrize(
    "entry",
    [
        replace(an_entry(), stored_at=float("nan")),
        replace(an_entry(), cost_ms=float("inf")),
        replace(an_entry(), watermark=Watermark("\ud800")),
    ],
)
def test_an_entry_that_could_not_be_read_back_is_not_written(entry: Entry) -> None:
    with pytest.raises(CodecError):
        encode(entry)


def test_a_body_over_the_limit_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cache.codec.MAX_BODY_BYTES", 100)

    with pytest.raises(CodecError, match="the most is 100"):
        encode(an_entry(size=101))


def test_a_body_that_packs_well_is_written_small() -> None:
    assert len(encode(an_entry(size=100_000))) < 2_000


def test_dates_keep_their_order_of_writing() -> None:
    query = Query("dashboard", date(2023, 12, 31), date(2024, 2, 29), "ad")

    assert decode(encode(replace(an_entry(), query=query))).query == query


def test_the_head_can_be_told_from_the_first_bytes_alone() -> None:
    entry = an_entry("rows", size=100_000)
    head = peek(encode(entry)[:HEAD_BYTES])
    assert (head.query, head.watermark, head.stored_at) == (
        entry.query,
        entry.watermark,
        entry.stored_at,
    )
    assert (head.cost_ms, head.body_bytes) == (entry.cost_ms, len(entry.payload.body))


@pytest.mark.parametrize("data", [b"", b"garbage", encode(an_entry())[:40], b"DPxE" + b"\0" * 60])
def test_bytes_without_a_head_are_told_apart(data: bytes) -> None:
    with pytest.raises(CodecError):
        peek(data)
