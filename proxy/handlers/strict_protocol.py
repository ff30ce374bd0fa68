"""Connections on which a malformed body ends what waits for it, and errors have one shape."""

from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.web_protocol import RequestPayloadError

from proxy.handlers.complaints import complaint
from proxy.handlers.limits import LimitedHandler


class StrictHandler(LimitedHandler):
    """A body whose chunks are malformed raises RequestPayloadError in whoever reads it.

    aiohttp's parser tells none of the bodies that it has begun: their readers
    would wait for ever.
    """

    __slots__ = ("_is_broken",)

    def __init__(self, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._is_broken = False

    def data_received(self, data: bytes) -> None:
        if self._is_broken:
            return
        super().data_received(data)
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            self._break_off()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        return complaint(request, status, exc, message)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if self._is_broken and not self._messages:
            resp.force_close()
        return await super().finish_response(request, resp, start_time)

    def _break_off(self) -> None:
        """Nothing on this connection can be believed any more.

        The answer to the request whose body broke is the last one: the parser's
        own complaint would answer nothing.
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
