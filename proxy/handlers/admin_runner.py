"""The admin port's connections: the limits of the public port, and all errors as JSON."""

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from proxy.handlers.admin_access import as_failure, failure
from proxy.handlers.strict_protocol import StrictHandler
from proxy.tracing.request import ID_HEADER, begin, current_request


class AdminRunner(web.AppRunner):
    """Runs an application whose errors are `{"success": false, "error": …}`, also where no
    route was found and where the bytes were no HTTP."""

    async def _make_server(self) -> web.Server:
        # A stream's head has gone out long before its handler returns.
        self._app.on_response_prepare.append(_put_id)
        made = await super()._make_server()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if not _has_plain_host(request):
                return failure(400, "Invalid Host header. Must be a host, or host:port")
            try:
                return await made.request_handler(request)
            except web.RequestPayloadError:
                return failure(400, "Invalid request body. Its chunks are malformed")
            except web.HTTPException as error:
                if error.status < 400:
                    raise
                return as_failure(error)

        async def answer_with_id(request: web.BaseRequest) -> web.StreamResponse:
            begin(request.headers)
            response = await answer(request)
            if not response.prepared:
                await _put_id(request, response)
            return response

        # A body as it came: what it might unpack to is nobody's to find out.
        options = {**made._kwargs, "auto_decompress": False}
        return _AdminServer(answer_with_id, request_factory=made.request_factory, **options)


async def _put_id(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Unless it has one: a worker's answer has the id that stands in the worker's log."""
    known = current_request()
    if known is not None and ID_HEADER not in response.headers:
        response.headers[ID_HEADER] = known.request_id


def _has_plain_host(request: web.BaseRequest) -> bool:
    """Whether handlers may ask for the URL: it is put together from what the caller says."""
    try:
        return request.url is not None
    except ValueError:
        return False


class _AdminServer(web.Server):
    def __call__(self) -> RequestHandler:
        return StrictHandler(self, loop=self._loop, **self._kwargs)
