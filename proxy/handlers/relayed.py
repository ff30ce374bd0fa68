"""The legacy's answer as our response: its status line, its headers, its bytes."""

import re
from collections.abc import Mapping

import aiohttp
from aiohttp import web
from aiohttp.http import HttpVersion11

from proxy.errors import BackendUnavailable
from proxy.handlers.forwarded import response_headers

_ADDED_BY_SERVER = ("Content-Type", "Server")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_UNDECODED = re.compile("[\udc80-\udcff]")


class RelayedResponse(web.StreamResponse):
    """A response with the headers of `legacy` and `extra_headers`, and no others of ours.

    aiohttp gives every response a Content-Type and a Server and takes the
    Content-Length off a 304; here the legacy's word stands. Only a missing
    Date is added, as RFC 9110 wants. BackendUnavailable (reason `malformed`)
    when the legacy's head holds control characters.
    """

    def __init__(self, legacy: aiohttp.ClientResponse, extra_headers: Mapping[str, str]) -> None:
        reason = legacy.reason or ""
        headers = response_headers(legacy.headers)
        text = "\t".join([reason, *headers.values()])
        if _FORBIDDEN.search(text):
            raise BackendUnavailable(
                "the legacy application sent a malformed answer", reason="malformed"
            )
        super().__init__(status=legacy.status, reason=reason, headers=headers)
        own_id = self.headers.get("X-Request-ID")
        self.headers.update(extra_headers)
        if own_id is not None:
            # Its own log is searched for its own id.
            self.headers["X-Request-ID"] = own_id
        self._is_raw = not text.isascii() and _UNDECODED.search(text) is not None

    def ends_with_connection(self, request: web.BaseRequest) -> bool:
        """Whether only the end of the caller's connection can end this body."""
        return request.version < HttpVersion11 and "Content-Length" not in self.headers

    async def _prepare_headers(self) -> None:
        absent = [name for name in _ADDED_BY_SERVER if name not in self.headers]
        length = self.headers.get("Content-Length")
        if self._req is not None and self.ends_with_connection(self._req):
            self.force_close()
        await super()._prepare_headers()
        for name in absent:
            self.headers.popall(name, None)
        if self.status == 304 and length is not None:
            self.headers["Content-Length"] = length

    async def _write_headers(self) -> None:
        writer = self._payload_writer
        if not self._is_raw or writer is None or self._req is None:
            await super()._write_headers()
            return
        # aiohttp leaves out the bytes that are no UTF-8; written as they came.
        version = self._req.version
        head = f"HTTP/{version.major}.{version.minor} {self.status} {self.reason}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        data = f"{head}\r\n".encode("utf-8", "surrogateescape")
        transport = self._req.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the caller is gone")
        transport.write(data)
        writer.output_size += len(data)
