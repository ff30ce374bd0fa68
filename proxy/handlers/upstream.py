"""The client session that passed-through requests go out on, and what may go wrong on it."""

import asyncio
import functools
import itertools
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import BadHttpMessage

from proxy.errors import BackendError, BackendTimeout, BackendUnavailable
from proxy.handlers.framing import FramingError, ResponseScan

HEADER_LIMIT_BYTES = 65536
"""A header line of the legacy, or the caller's, may be this long."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def open_legacy_session(
    *, connect_timeout_s: float = 5.0, keepalive_s: float = 1.0
) -> aiohttp.ClientSession:
    """A session that changes nothing on the way: enter it, or close it.

    It decompresses nothing, keeps no cookies and adds no headers of its own.
    No total timeout: only the connect is limited here. It raises BackendError
    where aiohttp would raise ClientError, and sends no request twice. An answer
    whose end is ambiguous is malformed.

    Idle connections are kept for `keepalive_s`, shorter than any usual server
    keeps them, and only safe methods get one: a request that may have changed
    something must not fail because the connection had died meanwhile.
    """
    return aiohttp.ClientSession(
        connector=_LegacyConnector(limit=0, keepalive_timeout=keepalive_s),
        request_class=_LegacyRequest,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        max_line_size=HEADER_LIMIT_BYTES,
        max_field_size=HEADER_LIMIT_BYTES,
        middlewares=(_never_twice,),
    )


def translate(error: Exception) -> BackendError:
    """What happened to the request, in the project's own words."""
    match error:
        case TimeoutError():
            return BackendTimeout("the legacy application did not answer in time")
        case aiohttp.ClientConnectorError():
            return BackendUnavailable(
                "the legacy application cannot be reached", reason="unreachable"
            )
        case aiohttp.ClientResponseError():
            return BackendUnavailable(
                "the legacy application sent a malformed answer", reason="malformed"
            )
        case _:
            return BackendUnavailable(
                "the legacy application closed the connection without an answer",
                reason="disconnected",
            )


class _LegacyConnection(ResponseHandler):
    """aiohttp's connection, strict about where a response ends: its parser overlooks much."""

    _scan: ResponseScan | None = None

    def set_response_params(self, **params: Any) -> None:
        self._scan = ResponseScan(has_body=not params.get("skip_payload", False))
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        # Without a parser the bytes are held back and come here once more.
        if self._scan is not None and self._parser is not None and not self._upgraded:
            try:
                self._scan.feed(data)
            except FramingError as error:
                self._refuse(error)
                return
        super().data_received(data)

    def _refuse(self, error: FramingError) -> None:
        # Nothing on this connection can be believed any more.
        self._scan = None
        self.set_exception(BadHttpMessage(str(error)), error)
        if self.transport is not None:
            self.transport.abort()


def _make_connection(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _LegacyConnection(loop)


class _LegacyConnector(aiohttp.TCPConnector):
    """Connections of the kind above."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(_make_connection, loop=self._loop)


class _LegacyRequest(aiohttp.ClientRequest):
    """A request that finds an idle connection only when its method is safe."""

    _numbers = itertools.count(1)

    @property
    def connection_key(self) -> ConnectionKey:
        key = super().connection_key
        if self.method in _SAFE_METHODS:
            return key
        # The pool is a dict by this key: a key of its own finds it empty.
        return key._replace(proxy_headers_hash=self._number)

    @functools.cached_property
    def _number(self) -> int:
        return next(self._numbers)


async def _never_twice(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Translate errors inside the session: aiohttp repeats an idempotent request on its own ones.

    It asks again on ClientOSError and ServerDisconnectedError only, so an
    error of another family is final.
    """
    if request.method not in _SAFE_METHODS:
        request.headers.setdefault("Connection", "close")
    try:
        return await handler(request)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise translate(error) from error
