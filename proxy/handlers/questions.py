"""A request as a question: which Query it asks, or why it asks none."""

from dataclasses import dataclass

from aiohttp import web

from proxy.canonical import (
    Limits,
    UnknownParameterError,
    canonicalize,
    parse_body,
    parse_query_string,
)
from proxy.errors import RequestError
from proxy.query import Query, ShapeName

_MOST_PARSED = 8192
_LONGEST_KNOWN = 4096


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a request is no question of ours. `is_foreign`: the legacy may know better."""

    error: RequestError
    is_foreign: bool


class Questions:
    """Reads requests; those seen before are known by their text, a bounded number of them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parsed: dict[tuple[str, bool, bytes], Query] = {}

    def read(
        self, request: web.BaseRequest, body: bytes, shape: ShapeName, *, is_foreign: bool
    ) -> Query | Refused:
        """`is_foreign`: on this route the legacy judges invalid values too."""
        is_post = request.method == "POST"
        _, _, query_string = request.raw_path.partition("?")
        text = body if is_post else query_string.encode("utf-8", "surrogateescape")
        memo = (shape, is_post, text)
        try:
            if is_post and query_string:
                raise UnknownParameterError(
                    "Unknown query string on POST. Parameters must stand in the body"
                )
            if body and not is_post:
                raise UnknownParameterError(
                    f"Unknown body on {request.method}. Parameters must stand in the query string"
                )
            if request.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise UnknownParameterError("Invalid request body. Must not be compressed")
            if (known := self._parsed.get(memo)) is not None:
                return known
            raw = parse_body(body) if is_post else parse_query_string(query_string)
            query = canonicalize(shape, raw, self._limits)
        except UnknownParameterError as error:
            return Refused(error, is_foreign=True)
        except RequestError as error:
            return Refused(error, is_foreign=is_foreign)
        if len(self._parsed) >= _MOST_PARSED:
            self._parsed.clear()
        if len(text) <= _LONGEST_KNOWN:
            self._parsed[memo] = query
        return query
