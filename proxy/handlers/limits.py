"""What one caller may take: connections, bytes of a head, and time to say what it wants.

The connection below the lane: it counts and times what aiohttp's parser is
fed, and refuses what the parser lets through but others read otherwise.
"""

import asyncio
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any

import orjson
import structlog
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from proxy.handlers.framing import LARGEST_HEAD, FramingError, check_fields

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a caller may take: `head_s` for a head from its first byte, and for a body
    `body_s` and a second for each `body_rate` bytes of it."""

    head_s: float = 30.0
    body_s: float = 60.0
    body_rate: int = 500


_USUAL = Patience()


class ConnectionLimit:
    """Counts connections by address, and those of IPv6 by their network of 64 bits.

    One without an address (a Unix socket) is always let in.
    """

    def __init__(self, most_per_address: int) -> None:
        self._most = most_per_address
        self._open: dict[str, int] = {}
        self._told: set[str] = set()

    def admit(self, address: str) -> bytes | None:
        """None: counted until `leave`. Else what to say to the caller before it is closed."""
        address = _caller(address)
        count = self._open.get(address, 0)
        if address and count >= self._most:
            if address not in self._told:
                self._told.add(address)
                log.warning("too_many_connections", address=address, at_most=self._most)
            return _refusal(f"Too many connections from one address. At most {self._most}")
        self._open[address] = count + 1
        return None

    def leave(self, address: str) -> None:
        address = _caller(address)
        left = self._open.pop(address) - 1
        self._told.discard(address)
        if left:
            self._open[address] = left

    def __len__(self) -> int:
        return sum(self._open.values())


class LimitedHandler(RequestHandler):
    """aiohttp's connection with limits. Too many: 503. Too long: 414, 431. Ambiguous: 400.

    Whoever takes too long to say what it wants is closed without a word.
    """

    __slots__ = (
        "_address",
        "_began_at",
        "_body",
        "_body_bytes",
        "_connections",
        "_head_bytes",
        "_is_refused",
        "_patience",
        "_patience_handle",
        "_was_paused",
    )

    def __init__(
        self,
        manager: web.Server,
        *,
        connections: ConnectionLimit | None = None,
        patience: Patience = _USUAL,
        **options: Any,
    ) -> None:
        super().__init__(manager, **options)
        self._connections = connections
        self._patience = patience
        self._address: str | None = None
        self._is_refused = False
        self._head_bytes = 0
        self._body: StreamReader | None = None
        self._body_bytes = 0
        self._began_at = 0.0
        self._was_paused = False
        self._patience_handle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._connections is not None:
            peer = transport.get_extra_info("peername")
            address = str(peer[0]) if isinstance(peer, tuple) else ""
            refusal = self._connections.admit(address)
            if refusal is not None:
                assert isinstance(transport, asyncio.Transport)
                self._is_refused = self._force_close = True
                transport.write(refusal)
                transport.close()
                return
            self._address = address
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._connections is not None and self._address is not None:
            self._connections.leave(self._address)
            self._address = None
        if self._patience_handle is not None:
            self._patience_handle.cancel()
            self._patience_handle = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._heads_came()
        elif self._body is not None and not self._body.is_eof():
            self._body_bytes += len(data)
        elif data and not self._upgraded:
            self._head_goes_on(len(data))

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        before = self._request_count
        finished = await super().finish_response(request, resp, start_time)
        if self._request_count != before:
            # What was sent behind an upgrade that was declined is parsed in there.
            self._look_at_heads()
        return finished

    def _heads_came(self) -> None:
        self._head_bytes = 0
        self._body = None
        if not self._look_at_heads():
            return
        _, body = self._messages[-1]
        self._body = None if body.is_eof() else body
        if self._body is not None:
            self._body_bytes = 0
            self._was_paused = False
            self._be_patient(self._patience.body_s)

    def _look_at_heads(self) -> bool:
        """Whether all that wait for an answer are clear. The first that is not is the last."""
        for index, (message, _) in enumerate(self._messages):
            refusal = _why_refused(message)
            if refusal is not None:
                while len(self._messages) > index:
                    self._messages.pop()
                self._refuse(refusal)
                return False
        return True

    def _head_goes_on(self, length: int) -> None:
        if not self._head_bytes:
            self._body = None
            self._be_patient(self._patience.head_s)
        self._head_bytes += length
        if self._head_bytes > LARGEST_HEAD:
            self._refuse(_too_long("The head", LARGEST_HEAD, 431))

    def _refuse(self, refusal: _ErrInfo) -> None:
        """Answer what came before, then with `refusal`, and read nothing more."""
        self._is_refused = True
        self._body = None
        self._head_bytes = 0
        self._messages.append((refusal, EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _be_patient(self, seconds: float) -> None:
        self._began_at = self._loop.time()
        if self._patience_handle is None:
            self._patience_handle = self._loop.call_later(seconds, self._look_at_the_time)

    def _look_at_the_time(self) -> None:
        self._patience_handle = None
        left_s = self._left_s()
        if left_s is None or self._force_close:
            return
        if left_s > 0:
            self._patience_handle = self._loop.call_later(left_s, self._look_at_the_time)
            return
        log.info("too_slow", what="head" if self._body is None else "body")
        if self.transport is not None:
            self.transport.abort()

    def _left_s(self) -> float | None:
        """Seconds that the caller has left; None while it owes nothing."""
        passed_s = self._loop.time() - self._began_at
        if self._body is not None:
            if self._body.is_eof():
                return None
            is_paused = self._reading_paused or self._buffer_paused
            if is_paused or self._was_paused:
                # It is us who do not read, or did not until lately.
                self._was_paused = is_paused
                self._began_at, self._body_bytes = self._loop.time(), 0
                return self._patience.body_s
            earned_s = self._body_bytes / self._patience.body_rate
            return self._patience.body_s + earned_s - passed_s
        if not self._head_bytes:
            return None
        if self._messages or self._current_request is not None:
            # Sent ahead of its time: what was asked before is answered first.
            self._began_at = self._loop.time()
            return self._patience.head_s
        return self._patience.head_s - passed_s


def _caller(address: str) -> str:
    """What counts as one caller: IPv6 gives each a network with more addresses than can be had.

    Link-local addresses are apart, for there one network has all of the neighbours.
    """
    if ":" not in address:
        return address
    found = ip_address(address)
    assert isinstance(found, IPv6Address)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    if found.is_link_local:
        return address
    return f"{IPv6Address(int(found) >> 64 << 64)}/64"


def _why_refused(message: RawRequestMessage | _ErrInfo) -> _ErrInfo | None:
    """What is wrong with a head that the parser took, or a better word for what it refused."""
    if isinstance(message, _ErrInfo):
        return _in_our_words(message)
    if sum(len(name) + len(value) + 4 for name, value in message.raw_headers) > LARGEST_HEAD:
        return _too_long("The head", LARGEST_HEAD, 431)
    try:
        check_fields(message.version, message.raw_headers)
    except FramingError as error:
        return _ErrInfo(status=400, exc=error, message=str(error))
    return None


def _in_our_words(refused: _ErrInfo) -> _ErrInfo:
    """A head that the parser refused, with the status that says why."""
    if isinstance(refused.exc, LineTooLong):
        line, limit, _ = refused.exc.args
        # aiohttp collects a target, and only that, in a bytearray.
        if isinstance(line, bytearray):
            return _too_long("The URL", limit, 414)
        return _too_long("A header", limit, 431)
    if refused.message.startswith("Too many headers"):
        return _ErrInfo(status=431, exc=refused.exc, message=refused.message)
    return refused


def _too_long(what: str, limit: object, status: int) -> _ErrInfo:
    text = f"{what} is too long. Must be at most {limit} bytes"
    return _ErrInfo(status=status, exc=FramingError(text), message=text)


def _refusal(text: str) -> bytes:
    body = orjson.dumps({"success": False, "error": text})
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
