"""Asks the legacy on behalf of all who ask the same, and reads its whole answer."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from proxy.cached_reply import LegacyReply
from proxy.errors import BackendError, BackendTimeout, BackendUnavailable
from proxy.handlers.download import Download
from proxy.handlers.forwarded import (
    Hop,
    basic_credentials,
    request_headers,
    response_headers,
    target_url,
)
from proxy.tracing.http import answered, client_span, replace_parent
from proxy.tracing.tracer import NO_TRACING, Tracer

LARGEST_REPLY = 64 * 2**20
"""Bytes of an answer that is read as a whole; a longer one is only passed through."""
TOO_LONG = "too_long"

_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Onward:
    """A request as the legacy is to get it. It outlives the caller it came from."""

    method: str
    raw_path: str
    headers: Mapping[str, str]
    body: bytes


class LegacyDesk:
    """Asks once. The whole answer has to be there within `timeout_s`.

    Raises BackendError when there is none; reason TOO_LONG for one that is
    longer than LARGEST_REPLY.
    """

    def __init__(
        self,
        legacy_url: URL,
        session: aiohttp.ClientSession,
        *,
        timeout_s: float,
        tracer: Tracer = NO_TRACING,
    ) -> None:
        self._legacy_url = legacy_url
        self._tracer = tracer
        self._session = session
        self._timeout_s = timeout_s
        self._credentials = basic_credentials(legacy_url)

    def onward(self, request: web.BaseRequest, body: bytes) -> Onward:
        """What `request` asks, uncompressed and without what only concerns its caller's copy."""
        hop = Hop(request.remote or "", request.scheme, request.version)
        headers = request_headers(request.headers, hop)
        headers.popall("If-None-Match", None)
        headers["Accept-Encoding"] = "identity"
        if self._credentials is not None:
            headers.setdefault("Authorization", self._credentials)
        return Onward(request.method, request.raw_path, headers, body)

    async def ask(self, onward: Onward) -> LegacyReply:
        try:
            with client_span(self._tracer, onward.method, self._legacy_url) as span:
                headers = CIMultiDict(onward.headers)
                replace_parent(headers)
                async with (
                    asyncio.timeout(self._timeout_s),
                    self._session.request(
                        onward.method,
                        target_url(self._legacy_url, onward.raw_path),
                        headers=headers,
                        data=onward.body or None,
                        allow_redirects=False,
                    ) as response,
                ):
                    answered(span, response.status)
                    return await _whole(response)
        except TimeoutError as error:
            raise BackendTimeout(
                f"the legacy application did not answer within {self._timeout_s:g} s"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise BackendUnavailable(
                "the legacy application broke off", reason="disconnected"
            ) from error

    def __repr__(self) -> str:
        return f"<LegacyDesk {self._legacy_url.origin()}>"


async def _whole(response: aiohttp.ClientResponse) -> LegacyReply:
    headers = response_headers(response.headers)
    headers.popall("Content-Length", None)
    reason = response.reason or ""
    if _FORBIDDEN.search("\t".join([reason, *headers.values()])):
        raise BackendUnavailable(
            "the legacy application sent a malformed answer", reason="malformed"
        )
    body = bytearray()
    with Download(response) as download:
        while chunk := await download.read():
            body += chunk
            if len(body) > LARGEST_REPLY:
                raise BackendError("the legacy application's answer is too long", reason=TOO_LONG)
    return LegacyReply(response.status, reason, tuple(headers.items()), bytes(body))
