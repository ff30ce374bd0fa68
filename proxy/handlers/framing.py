"""Where a message ends, said once and clearly, or the message is refused. Pure; RFC 9112 §6.

aiohttp's parser is strict with requests and lenient with responses. What it
lets through and an application behind or in front might read otherwise is
found here.
"""

import re
from collections.abc import Iterable

from aiohttp.http import HttpVersion10, HttpVersion11

LARGEST_HEAD = 256 * 1024
"""Bytes of all header lines of a message together."""
_LONGEST_LINE = 16 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})( [^\x00-\x08\x0a-\x1f\x7f]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_BODILESS = frozenset({204, 304})
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


class FramingError(Exception):
    """The message can be read in two ways, or in none."""


def check_fields(version: tuple[int, int], fields: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the body is chunked. FramingError for a length that is not plain.

    An underscore is no hyphen, but applications behind WSGI take it for one.
    """
    if version not in (HttpVersion10, HttpVersion11):
        raise FramingError("the version must be HTTP/1.0 or HTTP/1.1")
    lengths, codings = [], []
    for name, value in fields:
        lowered = name.lower()
        if lowered == b"content-length":
            lengths.append(value)
        elif lowered == b"transfer-encoding":
            codings.append(value)
        elif b"_" in lowered and lowered.replace(b"_", b"-") in _FRAMING:
            raise FramingError("a name like Content_Length is ambiguous")
    if lengths and codings:
        raise FramingError("Content-Length and Transfer-Encoding exclude each other")
    if len(lengths) > 1 or not all(_LENGTH.fullmatch(value) for value in lengths):
        raise FramingError("Content-Length must be one number")
    if codings and (len(codings) > 1 or codings[0].lower() != b"chunked"):
        raise FramingError("Transfer-Encoding must be chunked")
    if codings and version < HttpVersion11:
        raise FramingError("Transfer-Encoding needs HTTP/1.1")
    return bool(codings)


class ResponseScan:
    """Reads along with the parser: `feed` raises FramingError before the parser sees the bytes.

    For one response on a connection, with the interim ones before it. `has_body`
    is False for the answer to a HEAD. What comes after its end is not looked at.
    """

    def __init__(self, *, has_body: bool) -> None:
        self._has_body = has_body
        self._held = b""
        self._is_head = True
        self._is_chunked = False
        self._is_trailer = False
        self._due = 0
        """Bytes of the current chunk, with the line end behind it, that are still to come."""

    def feed(self, data: bytes) -> None:
        while data and self._is_head:
            data = self._feed_head(data)
        while data and self._is_chunked:
            data = self._feed_data(data) if self._due else self._feed_line(data)

    def _feed_head(self, data: bytes) -> bytes:
        """What follows the head in `data`, if it ends there."""
        looked_at = len(self._held)
        self._held += data
        end = self._held.find(b"\r\n\r\n", max(0, looked_at - 3))
        length = len(self._held) if end < 0 else end
        if _BARE_LF.search(self._held, looked_at, length):
            raise FramingError("a line ends without CR")
        if length > LARGEST_HEAD:
            raise FramingError(f"the head is longer than {LARGEST_HEAD} bytes")
        if end < 0:
            return b""
        head, rest, self._held = self._held[:end], self._held[end + 4 :], b""
        self._read_head(head.split(b"\r\n"))
        return rest

    def _read_head(self, lines: list[bytes]) -> None:
        started = _STATUS_LINE.fullmatch(lines[0])
        if started is None:
            raise FramingError("malformed status line")
        is_chunked = check_fields((1, int(started[1])), map(_field, lines[1:]))
        status = int(started[2])
        if status < 200 and status != 101:
            return
        self._is_head = False
        self._is_chunked = (
            is_chunked and self._has_body and status >= 200 and status not in _BODILESS
        )

    def _feed_data(self, data: bytes) -> bytes:
        taken, rest = data[: self._due], data[self._due :]
        # Of the last two bytes, which end the line, those that came now.
        ends = taken[max(0, self._due - 2) :]
        wanted = b"\r\n"[2 - min(2, self._due) :][: len(ends)]
        if ends != wanted:
            raise FramingError("a chunk is longer or shorter than it says")
        self._due -= len(taken)
        return rest

    def _feed_line(self, data: bytes) -> bytes:
        end = data.find(b"\n")
        self._held += data if end < 0 else data[:end]
        if len(self._held) > _LONGEST_LINE:
            raise FramingError("a line between chunks is too long")
        if end < 0:
            return b""
        line, self._held = self._held, b""
        if not line.endswith(b"\r"):
            raise FramingError("a line ends without CR")
        if self._is_trailer:
            self._read_trailer(line[:-1])
        else:
            self._read_size(line[:-1])
        return data[end + 1 :]

    def _read_size(self, line: bytes) -> None:
        size = _CHUNK.fullmatch(line)
        if size is None:
            raise FramingError("malformed size of a chunk")
        length = int(size[1], 16)
        self._is_trailer = length == 0
        self._due = length + 2 if length else 0

    def _read_trailer(self, line: bytes) -> None:
        if not line:
            self._is_chunked = False
        elif _field(line)[0].lower() in _FRAMING:
            raise FramingError("a trailer must not say where the message ends")


def _field(line: bytes) -> tuple[bytes, bytes]:
    found = _FIELD.fullmatch(line)
    if found is None:
        # Also a line that goes on with what the one before it said.
        raise FramingError("malformed header line")
    return found[1], found[2].strip(b" \t")
