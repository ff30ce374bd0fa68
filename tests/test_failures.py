"""Errors as responses."""

import orjson
import pytest
from aiohttp import web

from proxy.errors import (
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    ProxyError,
    RequestError,
    StoreError,
)
from proxy.handlers.failures import failure_response, status_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RequestError("x"), 400),
        (BackendUnavailable("x"), 502),
        (BackendError("x"), 502),
        (BackendTimeout("x"), 504),
        (StoreError("x"), 500),
    ],
)
def test_each_family_has_its_status(error: ProxyError, status: int) -> None:
    assert status_of(error) == status


def test_an_absent_backend_is_503_where_the_caller_of_the_function_says_so() -> None:
    assert status_of(BackendUnavailable("x"), unavailable=503) == 503
    assert status_of(BackendTimeout("x"), unavailable=503) == 504


def test_the_body_is_the_legacy_error_shape() -> None:
    response = failure_response(RequestError('no "depth"'), headers={"X-Dashboard-Source": "x"})
    assert isinstance(response, web.Response)
    assert isinstance(response.body, bytes)
    assert orjson.loads(response.body) == {"success": False, "error": 'no "depth"'}
    assert response.content_type == "application/json"
    assert response.headers["X-Dashboard-Source"] == "x"
