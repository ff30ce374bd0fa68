"""Messages whose end can be read in two ways, by raw sockets: from callers, and from the legacy."""

import asyncio
from pathlib import Path

import orjson
import pytest

from proxy.handlers.framing import LARGEST_HEAD, FramingError, ResponseScan, check_fields
from tests.intermediary import RawLegacy, raw_legacy, scripted
from tests.public_port import ask, calling, echo_legacy, get, make_database, message, serving

BODY = b'{"start_date":"2024-06-21","end_date":"2024-06-30"}'
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
CLOSE_S = 20.0


def chunks(size: bytes, *, end: bytes = b"\r\n", after: bytes = b"\r\n") -> bytes:
    return size + end + BODY + after + b"0\r\n\r\n"


SIZE = b"%x" % len(BODY)

# As they follow the first line and Host; both sides share them.
HEADS: dict[str, tuple[list[str], bytes]] = {
    "two lengths, equal": ([LENGTH, LENGTH], BODY),
    "two lengths": ([LENGTH, "Content-Length: 5"], BODY),
    "a list of lengths": ([f"{LENGTH}, {len(BODY)}"], BODY),
    "a negative length": (["Content-Length: -5"], BODY),
    "a signed length": ([f"Content-Length: +{len(BODY)}"], BODY),
    "a length with an underscore": (["Content-Length: 5_1"], BODY),
    "a hexadecimal length": (["Content-Length: 0x33"], BODY),
    "a fraction": ([f"{LENGTH}.0"], BODY),
    "two numbers": ([f"{LENGTH} 5"], BODY),
    "no number": (["Content-Length:"], BODY),
    "a length beyond counting": (["Content-Length: 18446744073709551667"], BODY),
    "a vertical tab before the length": ([f"Content-Length: \x0b{len(BODY)}"], BODY),
    "length, then chunked": ([LENGTH, CHUNKED], CHUNKS),
    "chunked, then length": ([CHUNKED, LENGTH], CHUNKS),
    "a space before the colon": ([f"Content-Length : {len(BODY)}"], BODY),
    "a space before the colon of the coding": (["Transfer-Encoding : chunked"], CHUNKS),
    "a tab before the colon": (["X-Any\t: 1", LENGTH], BODY),
    "a space before the name": ([" Content-Length: 5", LENGTH], BODY),
    "a line folded": (["X-Any: a\r\n b", LENGTH], BODY),
    "the coding folded": (["Transfer-Encoding:\r\n chunked"], CHUNKS),
    "the length folded": ([f"Content-Length:\r\n {len(BODY)}"], BODY),
    "a bare LF between headers": ([f"X-Any: 1\n{LENGTH}"], BODY),
    "a bare CR between headers": ([f"X-Any: 1\r{LENGTH}"], BODY),
    "chunked, identity": (["Transfer-Encoding: chunked, identity"], CHUNKS),
    "identity, chunked": (["Transfer-Encoding: identity, chunked"], CHUNKS),
    "identity": (["Transfer-Encoding: identity"], b""),
    "gzip, chunked": (["Transfer-Encoding: gzip, chunked"], CHUNKS),
    "chunked twice": (["Transfer-Encoding: chunked, chunked"], CHUNKS),
    "two codings": ([CHUNKED, CHUNKED], CHUNKS),
    "two codings, one identity": ([CHUNKED, "Transfer-Encoding: identity"], CHUNKS),
    "a coding nobody knows": (["Transfer-Encoding: xchunked"], CHUNKS),
    "a vertical tab before the coding": (["Transfer-Encoding: \x0bchunked"], CHUNKS),
    "a coding in quotes": (['Transfer-Encoding: "chunked"'], CHUNKS),
    "no coding": (["Transfer-Encoding:"], CHUNKS),
    "a length by its WSGI name": (["Content_Length: 5", LENGTH], BODY),
    "a coding by its WSGI name": (["Transfer_Encoding: chunked", LENGTH], BODY),
    "NUL in a value": (["X-Any: a\0b", LENGTH], BODY),
    "NUL in a name": (["X\0Any: ab", LENGTH], BODY),
    "a control in a value": (["X-Any: a\x01b", LENGTH], BODY),
    "no name": ([": a", LENGTH], BODY),
    "no colon": (["X-Any", LENGTH], BODY),
}
BODIES: dict[str, bytes] = {
    "a size that is none": chunks(b"x"),
    "a size in 0x": chunks(b"0x" + SIZE),
    "a size with a plus": chunks(b"+" + SIZE),
    "a size with a minus": chunks(b"-" + SIZE),
    "a size with an underscore": chunks(b"0_" + SIZE),
    "no size": chunks(b""),
    "a space before the size": chunks(b" " + SIZE),
    "a space after the size": chunks(SIZE + b" "),
    "a size beyond counting": chunks(b"1" + b"0" * 16),
    "a bare LF after the size": chunks(SIZE, end=b"\n"),
    "a bare CR in an extension": chunks(SIZE + b";a\rb"),
    "a bare LF in an extension": chunks(SIZE + b";a\nb"),
    "NUL in an extension": chunks(SIZE + b";a\0b"),
    "a bare LF after the chunk": chunks(SIZE, after=b"\n"),
    "a chunk longer than it says": chunks(b"%x" % (len(BODY) - 1)),
    "a chunk shorter than it says": chunks(b"%x" % (len(BODY) + 1)),
    "a length among the trailers": CHUNKS[:-2] + b"Content-Length: 5\r\n\r\n",
    "a coding among the trailers": CHUNKS[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
}
LINES: dict[str, bytes] = {
    "every line ends in a bare LF": b"GET /other HTTP/1.1\nHost: dash\n\n",
    "the head ends in a bare LF": b"GET /other HTTP/1.1\r\nHost: dash\r\n\n",
    "chunked in HTTP/1.0": b"POST /other HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    + CHUNKS,
    "HTTP/2.0": b"GET /other HTTP/2.0\r\nHost: dash\r\n\r\n",
    "HTTP/0.9": b"GET /other HTTP/0.9\r\nHost: dash\r\n\r\n",
    "two hosts": b"GET /other HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET /other HTTP/1.1\r\n\r\n",
    "a space in the target": b"GET /other x HTTP/1.1\r\nHost: dash\r\n\r\n",
    "NUL in the target": b"GET /oth\0er HTTP/1.1\r\nHost: dash\r\n\r\n",
}
REQUESTS: dict[str, bytes] = {
    **{name: message("POST", "/other", *lines, body=body) for name, (lines, body) in HEADS.items()},
    **{name: message("POST", "/other", CHUNKED, body=body) for name, body in BODIES.items()},
    **LINES,
}
FINE_REQUESTS: dict[str, bytes] = {
    "a length": message("POST", "/other", LENGTH, body=BODY),
    "leading zeros": message("POST", "/other", f"Content-Length: 00{len(BODY)}", body=BODY),
    "chunked": message("POST", "/other", CHUNKED, body=CHUNKS),
    "chunked in capitals": message("POST", "/other", "TRANSFER-ENCODING: CHUNKED", body=CHUNKS),
    "an extension": message("POST", "/other", CHUNKED, body=chunks(SIZE + b";a=b")),
    "a trailer": message("POST", "/other", CHUNKED, body=CHUNKS[:-2] + b"X-Any: 1\r\n\r\n"),
}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "tables.db")


@pytest.mark.parametrize("path", ["/other", "/data"])
@pytest.mark.parametrize("data", REQUESTS.values(), ids=REQUESTS.keys())
async def test_an_ambiguous_request_is_refused_and_nothing_after_it_is_one(
    database: Path, data: bytes, path: str
) -> None:
    smuggled = get("/smuggled")
    async with echo_legacy() as legacy, serving(database, legacy_url=str(legacy.url)) as running:
        async with asyncio.timeout(CLOSE_S), calling(running.url) as caller:
            caller.send(data.replace(b"/other", path.encode()) + smuggled)
            reply = await caller.reply()
            assert reply.status == 400
            assert orjson.loads(reply.body)["success"] is False
            assert await closed(caller.reader)
        assert legacy.asked == []


async def closed(reader: asyncio.StreamReader) -> bool:
    """Whether the connection ends with nothing more; a reset is an end too."""
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("data", FINE_REQUESTS.values(), ids=FINE_REQUESTS.keys())
async def test_a_clear_request_is_passed_on_and_the_next_one_is_one(
    database: Path, data: bytes
) -> None:
    async with (
        echo_legacy() as legacy,
        serving(database, legacy_url=str(legacy.url)) as running,
        calling(running.url) as caller,
    ):
        caller.send(data + get("/next"))
        assert (await caller.reply()).body == b"POST /other\n" + BODY
        assert (await caller.reply()).body == b"GET /next\n"


OK = b"HTTP/1.1 200 OK\r\n"


def answer(*lines: str, body: bytes, first: bytes = OK) -> bytes:
    return first + b"".join(f"{line}\r\n".encode("latin-1") for line in lines) + b"\r\n" + body


ANSWERS: dict[str, bytes] = {
    **{name: answer(*lines, body=body) for name, (lines, body) in HEADS.items()},
    "every line ends in a bare LF": answer(LENGTH, body=BODY).replace(b"\r\n", b"\n"),
    "the head ends in a bare LF": OK + b"Content-Length: 5\r\n\n" + BODY,
    "chunked in HTTP/1.0": answer(CHUNKED, body=CHUNKS, first=b"HTTP/1.0 200 OK\r\n"),
    "HTTP/2.0": answer(LENGTH, body=BODY, first=b"HTTP/2.0 200 OK\r\n"),
    "no status line": BODY + b"\r\n\r\n",
    "a status of two digits": answer(LENGTH, body=BODY, first=b"HTTP/1.1 20 OK\r\n"),
    "a status below 100": answer(LENGTH, body=BODY, first=b"HTTP/1.1 099 OK\r\n"),
    "an ambiguous answer after an interim one": answer(body=b"", first=b"HTTP/1.1 103 Hints\r\n")
    + answer(CHUNKED, CHUNKED, body=CHUNKS),
    "a head without an end": OK + b"X-Any: 1\r\n" * (LARGEST_HEAD // 10 + 1),
}
FINE_ANSWERS: dict[str, bytes] = {
    "a length": answer(LENGTH, body=BODY),
    "chunked": answer(CHUNKED, body=CHUNKS),
    "an extension": answer(CHUNKED, body=chunks(SIZE + b";a=b")),
    "a trailer": answer(CHUNKED, body=CHUNKS[:-2] + b"X-Any: 1\r\n\r\n"),
    "until it closes": answer(body=BODY, first=b"HTTP/1.0 200 OK\r\n"),
    "after an interim one": answer(body=b"", first=b"HTTP/1.1 103 Hints\r\n")
    + answer(LENGTH, body=BODY),
}


@pytest.mark.parametrize("data", ANSWERS.values(), ids=ANSWERS.keys())
async def test_an_ambiguous_answer_of_the_legacy_is_none(database: Path, data: bytes) -> None:
    async with (
        raw_legacy(scripted(data, closes=False)) as legacy,
        serving(database, legacy_url=str(legacy.url)) as running,
    ):
        reply = await ask(running.url, get("/other"))
        assert reply.status == 502
        assert b"malformed" in reply.body
        assert not any(name.startswith("x-any") for name in reply.headers)
        # Nothing on its connection is believed any more.
        await legacy.gone.wait()


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_an_answer_whose_chunks_are_ambiguous_is_cut_off(database: Path, body: bytes) -> None:
    async def in_two(
        legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await legacy.head(reader)
        writer.write(answer(CHUNKED, body=b"5\r\nfirst\r\n"))
        await go_on.wait()
        writer.write(body)
        await reader.read()
        legacy.gone.set()

    go_on = asyncio.Event()
    async with (
        raw_legacy(in_two) as legacy,
        serving(database, legacy_url=str(legacy.url)) as running,
        calling(running.url) as caller,
    ):
        caller.send(get("/other"))
        assert await caller.reader.readuntil(b"5\r\nfirst\r\n")
        go_on.set()
        rest = await caller.reader.read()
        assert not rest.endswith(b"0\r\n\r\n")
        await legacy.gone.wait()


@pytest.mark.parametrize("data", FINE_ANSWERS.values(), ids=FINE_ANSWERS.keys())
async def test_a_clear_answer_is_passed_on(database: Path, data: bytes) -> None:
    async with (
        raw_legacy(scripted(data)) as legacy,
        serving(database, legacy_url=str(legacy.url)) as running,
    ):
        reply = await ask(running.url, get("/other"))
        assert (reply.status, reply.body) == (200, BODY)


async def test_what_follows_an_answer_unasked_is_nobodys_answer(database: Path) -> None:
    evil = answer("Content-Length: 4", body=b"evil")
    async with (
        raw_legacy(scripted(answer(LENGTH, body=BODY) + evil, closes=False)) as legacy,
        serving(database, legacy_url=str(legacy.url)) as running,
    ):
        for _ in range(3):
            assert (await ask(running.url, get("/other"))).body == BODY
        assert legacy.connections == 3


def feed(scan: ResponseScan, data: bytes, step: int) -> None:
    for at in range(0, len(data), step):
        scan.feed(data[at : at + step])


@pytest.mark.parametrize("step", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("data", FINE_ANSWERS.values(), ids=FINE_ANSWERS.keys())
def test_a_clear_answer_is_clear_in_any_pieces(data: bytes, step: int) -> None:
    feed(ResponseScan(has_body=True), data + b"\nwhat comes after", step)


AMBIGUOUS = {
    **ANSWERS,
    **{name: answer(CHUNKED, body=body) for name, body in BODIES.items()},
}


@pytest.mark.parametrize("step", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("data", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_an_ambiguous_answer_is_seen_in_any_pieces(data: bytes, step: int) -> None:
    with pytest.raises(FramingError):
        feed(ResponseScan(has_body=True), data, step)


@pytest.mark.parametrize(
    ("first", "has_body"),
    [(OK, False), (b"HTTP/1.1 304 Not Modified\r\n", True), (b"HTTP/1.1 101 Upgrade\r\n", True)],
)
def test_an_answer_without_a_body_has_no_chunks(first: bytes, has_body: bool) -> None:
    scan = ResponseScan(has_body=has_body)
    scan.feed(answer(CHUNKED, body=b"no chunks", first=first))


def test_a_line_between_chunks_has_its_limit() -> None:
    scan = ResponseScan(has_body=True)
    scan.feed(answer(CHUNKED, body=b"5;" + b"a" * 16_000))
    with pytest.raises(FramingError, match="too long"):
        scan.feed(b"a" * 1000)


def test_the_last_word_on_a_length_is_in_its_digits() -> None:
    assert check_fields((1, 1), [(b"Transfer-Encoding", b"Chunked")])
    assert not check_fields((1, 0), [(b"content-length", b"12")])
    with pytest.raises(FramingError):
        check_fields((1, 1), [(b"Content-Length", "٢".encode())])


async def test_what_is_sent_behind_a_declined_upgrade_is_looked_at_too(database: Path) -> None:
    upgrade = get("/other", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 8")
    ambiguous = message("POST", "/other", "Transfer-Encoding: gzip, chunked", body=CHUNKS)
    async with echo_legacy() as legacy, serving(database, legacy_url=str(legacy.url)) as running:
        async with asyncio.timeout(CLOSE_S), calling(running.url) as caller:
            caller.send(upgrade + ambiguous + get("/smuggled"))
            assert (await caller.reply()).status == 200
            assert (await caller.reply()).status == 400
            assert await closed(caller.reader)
        assert legacy.asked == [b"GET /other\n"]


async def test_an_ambiguous_request_is_refused_before_its_body_has_come(database: Path) -> None:
    async with asyncio.timeout(5), serving(database) as running, calling(running.url) as caller:
        caller.send(message("POST", "/data", "Transfer-Encoding: gzip, chunked"))
        assert (await caller.reply()).status == 400
        assert await closed(caller.reader)


async def test_what_came_before_an_ambiguous_request_is_answered(database: Path) -> None:
    ambiguous = message("POST", "/other", "Transfer-Encoding: gzip, chunked", body=CHUNKS)
    async with echo_legacy() as legacy, serving(database, legacy_url=str(legacy.url)) as running:
        async with asyncio.timeout(CLOSE_S), calling(running.url) as caller:
            caller.send(get("/first") + ambiguous + get("/smuggled"))
            assert (await caller.reply()).body == b"GET /first\n"
            assert (await caller.reply()).status == 400
            assert await closed(caller.reader)
        assert legacy.asked == [b"GET /first\n"]
