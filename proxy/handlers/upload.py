"""The caller's body on its way to the legacy, and the limit on waiting for an answer."""

import asyncio
from collections.abc import Awaitable
from typing import Self, TypeVar

from aiohttp import web

T = TypeVar("T")


class Upload:
    """Gives the body chunk by chunk, and times the wait for the answer meanwhile.

    `failure` is what went wrong on the caller's side, if anything: then the
    legacy is not to blame.
    """

    def __init__(self, request: web.BaseRequest, body: bytes | None, *, timeout_s: float) -> None:
        self._content = request.content
        self._body = body
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self.has_body = request.body_exists if body is None else bool(body)
        self._limit = asyncio.timeout(timeout_s)
        self._is_timed = False
        self._has_begun = False
        self.failure: Exception | None = None

    async def limited(self, answer: Awaitable[T]) -> T:
        """Await `answer`; TimeoutError when the legacy takes longer than `timeout_s`.

        The clock starts anew with each chunk, and stands still while the next
        one is the caller's to send.
        """
        try:
            async with self._limit:
                self._is_timed = True
                return await answer
        finally:
            self._is_timed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._has_begun:
            self._has_begun = True
            if self._body is None and not self._content.total_bytes:
                # aiohttp holds the headers back until the first chunk: an empty
                # one lets the legacy see them while the caller still thinks.
                return b""
        if self._body is not None:
            chunk, self._body = self._body, b""
        else:
            chunk = await self._read()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def _read(self) -> bytes:
        self._reschedule(None)
        try:
            return await self._content.readany()
        except Exception as error:
            self.failure = error
            raise
        finally:
            self._reschedule(self._loop.time() + self._timeout_s)

    def _reschedule(self, when: float | None) -> None:
        # The body may still be read after the answer has begun, or while the
        # limit is expiring: then there is nothing left to move.
        if self._is_timed and not self._limit.expired():
            self._limit.reschedule(when)
