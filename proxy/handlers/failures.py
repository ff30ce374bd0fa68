"""A ProxyError as the response that tells the caller: one JSON shape for every route."""

import math
from collections.abc import Mapping
from types import MappingProxyType

import orjson
from aiohttp import web

from proxy.errors import BackendError, BackendTimeout, BackendUnavailable, ProxyError, RequestError

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def status_of(error: ProxyError, *, unavailable: int = 502) -> int:
    """The HTTP status of `error`; `unavailable` is what an absent backend gets (502 or 503)."""
    match error:
        case RequestError():
            return 400
        case BackendTimeout():
            return 504
        case BackendUnavailable() if error.retry_after_s is not None:
            return 503
        case BackendError():
            return unavailable
        case _:
            return 500


def failure_response(
    error: ProxyError, *, unavailable: int = 502, headers: Mapping[str, str] = _NO_HEADERS
) -> web.Response:
    """`{"success": false, "error": "…"}` with the status of `error` and with `headers`.

    An error that knows when it is worth another try says so in `Retry-After`.
    """
    body = orjson.dumps({"success": False, "error": str(error)})
    response = web.Response(
        status=status_of(error, unavailable=unavailable),
        body=body,
        content_type="application/json",
    )
    if isinstance(error, BackendUnavailable) and error.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    response.headers.update(headers)
    return response
