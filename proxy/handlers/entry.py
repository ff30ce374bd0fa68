"""Where a request comes in: from here on its task knows its id, its trace and its span."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from proxy.handlers.dashboard import ROUTES
from proxy.handlers.request_span import PASSTHROUGH, described, said_of
from proxy.settings_tables import CachedRoute
from proxy.tracing.http import answered
from proxy.tracing.request import RequestContext, begin
from proxy.tracing.tracer import Tracer

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Entry:
    """Handles a request with `handler`. Nothing is kept of it when its task has ended.

    `find` says which cached route, if any, a method and a path are.
    """

    def __init__(
        self,
        handler: Handler,
        tracer: Tracer,
        find: Callable[[str, str], CachedRoute | None] = lambda method, path: None,
    ) -> None:
        self._handler = handler
        self._tracer = tracer
        self._find = find

    def __call__(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        # aiohttp has made a task for this request alone.
        context = begin(request.headers)
        if not self._tracer.is_on:
            return self._handler(request)
        return self._traced(request, context)

    async def _traced(
        self, request: web.BaseRequest, context: RequestContext
    ) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        word = self._word(request.method, path)
        name, attributes = described(request.method, path, word)
        with self._tracer.serve(name, context.parent, attributes) as span:
            try:
                response = await self._handler(request)
            finally:
                if context.known_id:
                    span.set("proxy.request_id", context.known_id)
            if span.is_recorded:
                answered(span, response.status, failed_from=500)
                if word != PASSTHROUGH:
                    for key, value in said_of(response.headers).items():
                        span.set(key, value)
            return response

    def _word(self, method: str, path: str) -> str:
        if (route := ROUTES.get(path)) is not None:
            return route.word
        return PASSTHROUGH if self._find(method, path) is None else "cached"
