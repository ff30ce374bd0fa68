"""The connections of the public port: bytes to the lane first, then to aiohttp's parser.

What a request is, where it begins and when it may be answered out of the parser's
sight is decided here; what the answer is, is not.
"""

import asyncio
import select
from typing import Any

from aiohttp import web
from aiohttp.http import HttpVersion11

from proxy.handlers.fast_lane import Lane
from proxy.handlers.strict_protocol import StrictHandler

_JOINED_BYTES = 128 * 1024
"""Up to here head and body go out as one piece: copying is cheaper than a second call."""
_LONGEST_LENGTH = 15
_UNUSUAL = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"x-request-id", b"trailer"})


class LaneProtocol(StrictHandler):
    """A connection with limits, and with a look at the lane before the parser.

    Bytes are taken for a whole request only where nothing else can be: the
    connection has just begun or has answered all it was sent, and every chunk
    so far was exactly one request. A connection on which that cannot be told
    goes the usual way until it closes.
    """

    __slots__ = ("_is_idle", "_is_tracked", "_lane", "raw_request")

    def __init__(self, manager: web.Server, lane: Lane, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._lane = lane
        self._is_tracked = True
        self._is_idle = True
        self.raw_request: bytes | None = None

    def data_received(self, data: bytes) -> None:
        # aiohttp itself calls this with no bytes, to have buffered ones parsed.
        if self._is_idle and data:
            transport = self.transport
            if not (self._paused or self._close or self._force_close or transport is None):
                pieces = self._lane.pieces(data, self._loop.call_soon)
                if pieces is not None:
                    self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
                    head, body = pieces
                    if len(body) <= _JOINED_BYTES:
                        transport.write(head + body)
                    else:
                        transport.writelines(pieces)
                    return
            self._is_idle = False
            self._is_tracked = is_one_request(data)
            if self._is_tracked:
                self.raw_request = data
            super().data_received(data)
            if len(self._messages) != 1:
                self._lose_track()
        else:
            if data:
                # Pipelined, split or upgraded: where the next request begins
                # is for the parser alone to know from here on.
                self._lose_track()
            super().data_received(data)

    def leave(self, since: float, grace_s: float) -> None:
        """Close it if it has been idle for `grace_s` after `since`, a time of the loop.

        What has reached this machine by now is read and answered, not cut off.
        """
        waiter, transport = self._waiter, self.transport
        is_idle = waiter is not None and not waiter.done() and not self._messages
        if transport is None or not is_idle or self._head_bytes:
            return
        last_used = self._next_keepalive_close_time - self._keepalive_timeout
        if self._loop.time() >= max(since, last_used) + grace_s and not _has_unread(transport):
            self.force_close()

    def _lose_track(self) -> None:
        self._is_tracked = False
        self.raw_request = None

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        finished = await super().finish_response(request, resp, start_time)
        response, is_gone = finished
        # After a last answer nothing is a request any more, and before one that
        # is queued nothing may be answered.
        may_go_on = self._is_tracked and not self._messages and not self._upgraded
        self._is_idle = may_go_on and bool(response.keep_alive) and not is_gone
        self.raw_request = None
        return finished


def _has_unread(transport: asyncio.BaseTransport) -> bool:
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


def raw_bytes_of(request: web.BaseRequest) -> bytes | None:
    """The bytes that `request` was made of, if the same bytes may be answered like it."""
    protocol = request.protocol
    # An older client wants to be told that its connection stays open.
    if not isinstance(protocol, LaneProtocol) or request.version < HttpVersion11:
        return None
    return protocol.raw_request if request.keep_alive else None


def is_one_request(data: bytes) -> bool:
    """Whether `data` is one request from its first byte to its last, and an ordinary one."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or data.startswith(b"CONNECT"):
        return False
    head = data[:end].lower()
    lines = head.split(b"\r\n")
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
        return False
    length = 0
    seen = False
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or name in _UNUSUAL or name != name.strip(b" \t"):
            return False
        if name == b"content-length":
            text = value.strip(b" \t")
            if seen or not text.isdigit() or len(text) > _LONGEST_LENGTH:
                return False
            seen, length = True, int(text)
        elif name == b"connection" and value.strip(b" \t") != b"keep-alive":
            return False
    return end + 4 + length == len(data)
