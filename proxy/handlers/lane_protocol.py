"""The connections of the public port: bytes to the lane first, then to aiohttp's parser.

What a request is, where it begins and when it may be answered out of the parser's
sight is decided here; what the answer is, is not.
"""

from typing import Any

import orjson
import structlog
from aiohttp import web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from proxy.handlers.fast_lane import Lane
from proxy.handlers.limits import LimitedHandler

log = structlog.get_logger(__name__)

_JOINED_BYTES = 128 * 1024
"""Up to here head and body go out as one piece: copying is cheaper than a second call."""
_LONGEST_LENGTH = 15
_UNUSUAL = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"x-request-id", b"trailer"})


class LaneProtocol(LimitedHandler):
    """A connection with limits, and with a look at the lane before the parser.

    Bytes are taken for a whole request only where nothing else can be: the
    connection has just begun or has answered all it was sent, and every chunk
    so far was exactly one request. A connection on which that cannot be told
    goes the usual way until it closes.
    """

    __slots__ = ("_is_broken", "_is_idle", "_is_tracked", "_lane", "raw_request")

    def __init__(self, manager: web.Server, lane: Lane, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._lane = lane
        self._is_tracked = True
        self._is_idle = True
        self._is_broken = False
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
        elif not self._is_broken:
            if data:
                # Pipelined, split or upgraded: where the next request begins
                # is for the parser alone to know from here on.
                self._lose_track()
            super().data_received(data)
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            self._break_off()

    def _lose_track(self) -> None:
        self._is_tracked = False
        self.raw_request = None

    def _break_off(self) -> None:
        """The bytes are malformed; the parser tells none of the bodies that it has begun.

        Whoever reads such a body would wait for ever. Its request's answer is
        then the last one: the parser's own complaint would answer nothing.
        """
        bodies = [body for _, body in self._messages]
        if self._current_request is not None:
            bodies.append(self._current_request.content)
        broken = [body for body in bodies if not body.is_eof()]
        for body in broken:
            body.set_exception(RequestPayloadError("malformed"))
            body.feed_eof()
        if broken:
            self._messages.pop()
            self._is_broken = True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp itself refuses, in the one error shape of the proxy."""
        if request.writer.output_size > 0:
            # A second head in the middle of the first answer's body would be read as data.
            raise ConnectionError("the answer has begun already")
        if status >= 500:
            log.error("handler_failed", error=repr(exc), exc_info=exc)
        text = "Internal error" if status >= 500 else f"Bad request: {message or 'malformed HTTP'}"
        response = web.Response(
            status=status,
            body=orjson.dumps({"success": False, "error": text.splitlines()[0][:200]}),
            content_type="application/json",
        )
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if self._is_broken and not self._messages:
            resp.force_close()
        finished = await super().finish_response(request, resp, start_time)
        response, is_gone = finished
        # After a last answer nothing is a request any more, and before one that
        # is queued nothing may be answered.
        may_go_on = self._is_tracked and not self._messages and not self._upgraded
        self._is_idle = may_go_on and bool(response.keep_alive) and not is_gone
        self.raw_request = None
        return finished


class LaneServer(web.Server):
    """A server whose connections look at the lane first."""

    def __init__(self, handler: Any, lane: Lane, **kwargs: Any) -> None:
        super().__init__(handler, **kwargs)
        self._lane = lane

    def __call__(self) -> RequestHandler:
        return LaneProtocol(self, self._lane, loop=self._loop, **self._kwargs)


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
