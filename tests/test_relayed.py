"""Framing and headers of answers, as bytes on the wire."""

import pytest

from tests.intermediary import answer_to, passing, raw_legacy, scripted

GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HEAD = GET.replace(b"GET", b"HEAD")
OLD = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"


async def relayed(answer: bytes, request: bytes = GET) -> tuple[list[bytes], bytes]:
    """Header lines (without Date and Connection) and body that the caller gets for `answer`."""
    async with raw_legacy(scripted(answer)) as legacy, passing(legacy.url) as proxy:
        head, _, body = (await answer_to(proxy.port, request)).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    return [line for line in lines if not line.startswith((b"Date:", b"Connection:"))], body


@pytest.mark.parametrize(
    ("answer", "request_", "lines", "body"),
    [
        (
            b"HTTP/1.1 200 Fine\r\nContent-Length: 3\r\n\r\nabc",
            GET,
            [b"HTTP/1.1 200 Fine", b"Content-Length: 3"],
            b"abc",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
            GET,
            [b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked"],
            b"3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            b"HTTP/1.0 200 OK\r\n\r\nabc",
            GET,
            [b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked"],
            b"3\r\nabc\r\n0\r\n\r\n",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", OLD, [b"HTTP/1.0 200 OK"], b"abc"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n",
            HEAD,
            [b"HTTP/1.1 200 OK", b"Content-Length: 999"],
            b"",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\n", HEAD, [b"HTTP/1.1 200 OK"], b""),
        (
            b'HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\nEtag: "a"\r\n\r\n',
            GET,
            [b"HTTP/1.1 304 Not Modified", b'Etag: "a"', b"Content-Length: 999"],
            b"",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", GET, [b"HTTP/1.1 204 No Content"], b""),
        (
            b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/9\r\n"
            b"Content-Length: 2\r\n\r\nbc",
            GET,
            [
                b"HTTP/1.1 206 Partial Content",
                b"Content-Range: bytes 1-2/9",
                b"Content-Length: 2",
            ],
            b"bc",
        ),
        (
            b"HTTP/1.1 599 Odd One\r\nContent-Length: 0\r\n\r\n",
            GET,
            [b"HTTP/1.1 599 Odd One", b"Content-Length: 0"],
            b"",
        ),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
            GET,
            [b"HTTP/1.1 200 OK", b"Content-Length: 1"],
            b"a",
        ),
    ],
)
async def test_an_answer_keeps_its_status_length_and_body(
    answer: bytes, request_: bytes, lines: list[bytes], body: bytes
) -> None:
    assert await relayed(answer, request_) == (lines, body)


async def test_the_legacys_own_server_and_date_stand() -> None:
    date = b"Date: Tue, 01 Jan 2019 00:00:00 GMT"
    answer = b"HTTP/1.1 200 OK\r\nServer: Werkzeug/3\r\n" + date + b"\r\nContent-Length: 0\r\n\r\n"
    async with raw_legacy(scripted(answer)) as legacy, passing(legacy.url) as proxy:
        lines = (await answer_to(proxy.port, GET)).split(b"\r\n")
    assert [line for line in lines if line.startswith((b"Date", b"Server"))] == [
        b"Server: Werkzeug/3",
        date,
    ]


async def test_header_bytes_that_are_no_utf_8_arrive_as_they_were() -> None:
    lines, body = await relayed(
        b"HTTP/1.1 200 Tr\xe8s bien\r\nX-Name: Jos\xe9\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nab\r\n0\r\n\r\n"
    )
    assert lines[:2] == [b"HTTP/1.1 200 Tr\xe8s bien", b"X-Name: Jos\xe9"]
    assert body == b"2\r\nab\r\n0\r\n\r\n"


async def test_utf_8_in_headers_arrives_as_it_was() -> None:
    lines, _ = await relayed(
        "HTTP/1.1 200 OK\r\nX-Name: José\r\nContent-Length: 0\r\n\r\n".encode()
    )
    assert lines[1] == "X-Name: José".encode()


async def test_long_headers_go_through_both_ways() -> None:
    long = b"x" * 20000
    answer = b"HTTP/1.1 200 OK\r\nX-Long: " + long + b"\r\nContent-Length: 0\r\n\r\n"
    lines, _ = await relayed(answer, GET.replace(b"Host: x", b"Host: x\r\nCookie: " + long))
    assert lines[1] == b"X-Long: " + long
