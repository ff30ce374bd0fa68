"""Everything that is not ours goes to the legacy application, as through a good intermediary."""

import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from proxy.errors import BackendError, BackendTimeout, BackendUnavailable, ProxyError, RequestError
from proxy.handlers.download import Download
from proxy.handlers.failures import failure_response
from proxy.handlers.forwarded import (
    Hop,
    basic_credentials,
    is_websocket,
    request_headers,
    target_url,
)
from proxy.handlers.relayed import RelayedResponse
from proxy.handlers.upload import Upload
from proxy.handlers.upstream import HEADER_LIMIT_BYTES
from proxy.handlers.websocket import Tunnel
from proxy.rollout.capture import Capture
from proxy.telemetry import Telemetry
from proxy.tracing.http import answered, client_span, replace_parent
from proxy.tracing.request import ID_HEADER, request_id_of
from proxy.tracing.tracer import NO_TRACING, Tracer

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

SERVER_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "auto_decompress": False,
        "handler_cancellation": True,
        "max_line_size": HEADER_LIMIT_BYTES,
        "max_field_size": HEADER_LIMIT_BYTES,
    }
)
"""What the AppRunner in front has to be made with: bodies as they came, and a caller who
leaves cancels the handler."""


class Passthrough:
    """Hands requests to the legacy and its answers back, streaming, without keeping or changing.

    The legacy has `timeout_s` from the end of the request until the headers
    of its answer; the body may take as long as it flows. A request is sent at
    most once. An answer that breaks off breaks off the caller's connection.
    A cancelled `forward` drops the request at the legacy too.
    """

    def __init__(
        self,
        *,
        legacy_url: URL | None,
        session: aiohttp.ClientSession,
        telemetry: Telemetry,
        timeout_s: float = 120.0,
        tracer: Tracer = NO_TRACING,
    ) -> None:
        self._legacy_url = legacy_url
        self._credentials = None if legacy_url is None else basic_credentials(legacy_url)
        self._session = session
        self._telemetry = telemetry
        self._timeout_s = timeout_s
        self._tracer = tracer
        self._tunnels: set[Tunnel] = set()

    async def forward(
        self,
        request: web.BaseRequest,
        *,
        body: bytes | None = None,
        extra_headers: Mapping[str, str] = _NO_HEADERS,
        capture: Capture | None = None,
    ) -> web.StreamResponse:
        """The legacy's answer to `request`, already sent when this returns.

        `body` is the request's body where it has been read already.
        `extra_headers` are set on the answer, also on our own 400, 502 and
        504, which come back unsent. `capture` gets a copy of the legacy's.
        """
        try:
            legacy = await self._ask(request, body)
            try:
                return await self._relay(request, legacy, extra_headers, capture)
            finally:
                legacy.close()
                # The upload may still be running: its end, good or bad, is of no more use.
                with suppress(aiohttp.ClientError, OSError):
                    await legacy.wait_for_close()
        except ProxyError as error:
            self._count(error)
            own = {ID_HEADER: request_id_of(request.headers), **extra_headers}
            return failure_response(error, headers=own)

    def hang_up(self) -> None:
        """End every WebSocket: they would hold up a shutdown for as long as they like."""
        for tunnel in self._tunnels:
            tunnel.hang_up()

    async def _ask(self, request: web.BaseRequest, body: bytes | None) -> aiohttp.ClientResponse:
        if self._legacy_url is None:
            raise BackendUnavailable(
                "no legacy application is configured (PROXY_LEGACY_URL)", reason="unconfigured"
            )
        if request.method == "CONNECT":
            raise RequestError("the method CONNECT is not for this server")
        with client_span(self._tracer, request.method, self._legacy_url) as span:
            response = await self._answer(request, body, self._legacy_url)
            answered(span, response.status)
        return response

    async def _answer(
        self, request: web.BaseRequest, body: bytes | None, legacy_url: URL
    ) -> aiohttp.ClientResponse:
        upload = Upload(request, body, timeout_s=self._timeout_s)
        asked = self._session.request(
            request.method,
            target_url(legacy_url, request.raw_path),
            headers=self._headers(request, body),
            data=upload if upload.has_body else None,
            allow_redirects=False,
        )
        try:
            return await upload.limited(asked)
        except TimeoutError as error:
            raise BackendTimeout(
                f"the legacy application did not answer within {self._timeout_s:g} s"
            ) from error
        except BackendError as error:
            if upload.failure is not None:
                raise RequestError("the body of the request broke off") from error
            raise

    def _headers(self, request: web.BaseRequest, body: bytes | None) -> Mapping[str, str]:
        hop = Hop(request.remote or "", request.scheme, request.version)
        headers = request_headers(request.headers, hop, upgrades=_wants_websocket(request))
        replace_parent(headers)
        if self._credentials is not None:
            headers.setdefault("Authorization", self._credentials)
        if body:
            headers["Content-Length"] = str(len(body))
        elif "Transfer-Encoding" not in request.headers and (
            length := request.headers.get("Content-Length")
        ):
            headers["Content-Length"] = length
        return headers

    async def _relay(
        self,
        request: web.BaseRequest,
        legacy: aiohttp.ClientResponse,
        extra_headers: Mapping[str, str],
        capture: Capture | None,
    ) -> web.StreamResponse:
        is_upgraded = legacy.status == 101
        if is_upgraded and not _wants_websocket(request):
            raise BackendUnavailable(
                "the legacy application switched protocols unasked", reason="malformed"
            )
        response = RelayedResponse(legacy, extra_headers)
        if is_upgraded:
            response.headers["Connection"] = "Upgrade"
            response.headers["Upgrade"] = "websocket"
            response.force_close()
        try:
            await response.prepare(request)
            if is_upgraded:
                await self._tunnel(Tunnel(request, response, legacy))
            else:
                await self._copy(request, response, legacy, capture)
        except ConnectionError:
            # The caller is gone; aiohttp sees that too and only drops the connection.
            response.force_close()
        return response

    async def _tunnel(self, tunnel: Tunnel) -> None:
        self._tunnels.add(tunnel)
        try:
            await tunnel.run()
        finally:
            self._tunnels.discard(tunnel)

    async def _copy(
        self,
        request: web.BaseRequest,
        response: RelayedResponse,
        legacy: aiohttp.ClientResponse,
        capture: Capture | None,
    ) -> None:
        if capture is not None:
            capture.begin(legacy.status, ", ".join(legacy.headers.getall("Content-Encoding", ())))
        try:
            with Download(legacy) as body:
                while chunk := await body.read():
                    await response.write(chunk)
                    if capture is not None:
                        capture.add(chunk)
            if capture is not None:
                capture.end()
        except BackendUnavailable as error:
            self._count(error)
            _cut_off(request, response)

    def _count(self, error: ProxyError) -> None:
        if isinstance(error, BackendError):
            self._telemetry.upstream_errors.labels(error.reason).inc()


def _wants_websocket(request: web.BaseRequest) -> bool:
    return is_websocket(request.method, request.version, request.headers)


def _cut_off(request: web.BaseRequest, response: RelayedResponse) -> None:
    """Close the caller's connection in the middle, so that nobody takes the part for the whole."""
    transport = request.transport
    if transport is not None and response.ends_with_connection(request):
        # Only a reset tells this end from the body's own.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    request.protocol.force_close()
