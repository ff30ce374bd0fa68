"""LegacyGate: asks the legacy application whether it lets a caller in."""

import asyncio
import re
from contextlib import suppress

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from proxy.access.credentials import Credentials
from proxy.access.verdict import Refusal, is_let_in
from proxy.errors import BackendError, BackendTimeout, BackendUnavailable
from proxy.tracing.http import answered, client_span
from proxy.tracing.tracer import NO_TRACING, Span, Tracer, outgoing

LARGEST_REFUSAL = 64 * 1024
_BODY_TIMEOUT_S = 5.0
_ATTEMPTS = 2
_HANDED_ON = ("WWW-Authenticate", "Content-Type", "Content-Encoding")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


class LegacyGate:
    """One GET of `url` with the caller's credentials and place in its trace, and nothing else.

    2xx lets in, 401 and 403 refuse. Anything else, and no answer within
    `timeout_s`, is a BackendError. A user in `url` is left out: with it
    everybody would be let in as that user.
    """

    def __init__(
        self,
        url: URL,
        session: aiohttp.ClientSession,
        *,
        timeout_s: float,
        tracer: Tracer = NO_TRACING,
    ) -> None:
        self._url = url.with_user(None)
        self._session = session
        self._timeout_s = timeout_s
        self._tracer = tracer

    async def ask(self, credentials: Credentials) -> Refusal | None:
        try:
            with client_span(self._tracer, "GET", self._url) as span:
                async with asyncio.timeout(self._timeout_s):
                    return await self._ask(credentials, span)
        except TimeoutError as error:
            raise BackendTimeout(
                "the legacy application did not say whether the caller is let in "
                f"within {self._timeout_s:g} s",
                reason="auth_timeout",
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise BackendUnavailable(
                "the legacy application cannot be asked whether the caller is let in",
                reason="auth_unreachable",
            ) from error

    async def _ask(self, credentials: Credentials, span: Span) -> Refusal | None:
        headers = CIMultiDict(
            {
                "Accept": "application/json, */*;q=0.5",
                "Accept-Encoding": "identity",
                "User-Agent": "dashboard-proxy",
            }
        )
        headers.update(outgoing())
        headers.extend(credentials.headers())
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self._session.get(
                    self._url, headers=headers, allow_redirects=False
                ) as response:
                    # A refusal is a verdict, no failure.
                    answered(span, response.status, failed_from=500)
                    return None if is_let_in(response.status) else await _refusal(response)
            except BackendError as error:
                # An idle connection that had died meanwhile says nothing about the legacy.
                if error.reason != "disconnected" or attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def __repr__(self) -> str:
        return f"<LegacyGate {self._url.origin()}>"


async def _refusal(response: aiohttp.ClientResponse) -> Refusal:
    headers = tuple(
        (name, value)
        for name in _HANDED_ON
        for value in response.headers.getall(name, ())
        if not _FORBIDDEN.search(value)
    )
    body = bytearray()
    # The verdict is there already: a body that breaks off does not change it.
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            async for part in response.content.iter_any():
                body += part
                if len(body) > LARGEST_REFUSAL:
                    return _without_body(response.status, headers)
            return Refusal(response.status, headers, bytes(body))
    return _without_body(response.status, headers)


def _without_body(status: int, headers: tuple[tuple[str, str], ...]) -> Refusal:
    kept = tuple((name, value) for name, value in headers if name == "WWW-Authenticate")
    return Refusal(status, kept)
