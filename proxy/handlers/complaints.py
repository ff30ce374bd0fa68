"""What the server itself refuses, or fails at, in the one error shape of the proxy."""

import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import InvalidURLError

from proxy.tracing.request import ID_HEADER, current_request

log = structlog.get_logger(__name__)

_LONGEST = 200


def complaint(
    request: web.BaseRequest, status: int, error: BaseException | None, message: str | None
) -> web.Response:
    """The last answer on a connection: `message` is the parser's, `error` what nobody foresaw.

    Raises ConnectionError when the caller has gone, and when the answer has
    begun: a second head in the middle of its body would be read as data.
    """
    if request.writer.output_size > 0:
        raise ConnectionError("the answer has begun already")
    if request.transport is None:
        # It failed because its caller had gone: nobody is left to tell.
        raise ConnectionError("the caller has gone")
    if isinstance(error, InvalidURLError):
        message = "the URL is malformed"
    if status >= 500:
        log.error("handler_failed", error=repr(error), exc_info=error)
    text = "Internal error" if status >= 500 else f"Bad request: {message or 'malformed HTTP'}"
    response = web.Response(
        status=status,
        body=orjson.dumps({"success": False, "error": text.splitlines()[0][:_LONGEST].rstrip(":")}),
        content_type="application/json",
    )
    if (known := current_request()) is not None:
        response.headers[ID_HEADER] = known.request_id
    response.force_close()
    return response
