"""The legacy's body on its way to the caller, and how one sees that it broke off."""

import asyncio
from typing import Self

import aiohttp

from proxy.errors import BackendUnavailable


class Download:
    """Gives the body of `legacy` chunk by chunk; enter it around the reading.

    `read` raises BackendUnavailable (reason `cut_off`) when the body ends
    before its end: too few bytes, no last chunk, rubbish between the chunks,
    or a reset where only the end of the connection ends the body.
    """

    def __init__(self, legacy: aiohttp.ClientResponse) -> None:
        self._content = legacy.content
        # The response lets go of its connection as soon as the body has come.
        self._connection = legacy.connection.protocol if legacy.connection is not None else None
        self._is_chunked = "Transfer-Encoding" in legacy.headers
        self._is_unframed = not self._is_chunked and "Content-Length" not in legacy.headers
        self._closed: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        # A malformed chunk closes the connection without a word to whoever
        # reads the body (aiohttp 3.14): he would wait for ever.
        if self._is_chunked and self._connection is not None and not self._content.is_eof():
            self._closed = self._connection.closed
        if self._closed is not None:
            self._closed.add_done_callback(self._on_closed)
        return self

    def __exit__(self, *_: object) -> None:
        if self._closed is not None:
            # The connection goes on to serve others, with the same future.
            self._closed.remove_done_callback(self._on_closed)
            self._closed.remove_done_callback(_retrieve)
            self._closed.add_done_callback(_retrieve)

    async def read(self) -> bytes:
        """The next bytes, b"" at the end of the body."""
        try:
            chunk = await self._content.readany()
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            # RuntimeError: the connection was lost since the last chunk.
            raise _cut_off() from error
        if not chunk and self._is_unframed and self._was_reset():
            raise _cut_off()
        return chunk

    def _was_reset(self) -> bool:
        return self._connection is not None and isinstance(
            self._connection.exception(), aiohttp.ClientOSError
        )

    def _on_closed(self, closed: asyncio.Future[None]) -> None:
        _retrieve(closed)
        if not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(aiohttp.ClientPayloadError("malformed chunk"))


def _retrieve(closed: asyncio.Future[None]) -> None:
    if not closed.cancelled():
        closed.exception()


def _cut_off() -> BackendUnavailable:
    return BackendUnavailable("the legacy application cut off its answer", reason="cut_off")
