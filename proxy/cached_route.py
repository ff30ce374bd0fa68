"""Which requests to a cached legacy route may meet the cache, and under which key. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import parse_qsl

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.errors import RequestError
from proxy.keys import fingerprint_of
from proxy.query import Key
from proxy.reading import Span
from proxy.settings_tables import CachedRoute

LARGEST_BODY = 2**20
"""Bytes of a body that is looked into; a longer one is no question."""

Headers = CIMultiDict[str] | CIMultiDictProxy[str]

_MOST_PARAMETERS = 64
_LABEL_LENGTH = 300
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# If-None-Match is not here: the tag in it is ours, and ours to compare.
_PARTS_AND_CONDITIONS = (
    "Range",
    "If-Range",
    "If-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
)
# What names a user besides Authorization and Cookie: headers that gateways
# and frontends of their own use. One too many costs a hit, one too few a leak.
_NAMES_A_USER = re.compile(
    r"(^|[-_])(auth\w*|proxy-authorization|cookie|token|session|secret|api[-_]?key|user|userid"
    r"|username|identity|tenant|account|email|jwt|sso)([-_]|$)"
)
_NAMES_NOBODY = frozenset({"user-agent", "sec-fetch-user"})


class PastCacheError(RequestError):
    """The request goes to the legacy, past the cache. `reason` is a word for headers."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"past the cache: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to a cached route. `label` names it for people, `span` the dates it is about."""

    route: CachedRoute
    key: Key
    label: str
    span: Span
    has_credentials: bool


@dataclass(frozen=True, slots=True)
class Target:
    """What was asked for, as it came: `query_string` and `body` are not decoded yet."""

    method: str
    query_string: str
    headers: Headers
    body: bytes = b""


def names_a_user(headers: Headers) -> bool:
    """Whether any header says, or may say, who asks."""
    return any(
        name not in _NAMES_NOBODY and _NAMES_A_USER.search(name) for name in map(str.lower, headers)
    )


def check_headers(route: CachedRoute, method: str, headers: Headers) -> None:
    """Raise PastCacheError where the headers alone say that a request goes past the cache."""
    if not route.shared_between_users and names_a_user(headers):
        raise PastCacheError("credentials")
    if any(name in headers for name in _PARTS_AND_CONDITIONS):
        raise PastCacheError("conditional")
    if "Upgrade" in headers or "X-HTTP-Method-Override" in headers:
        raise PastCacheError("method")
    if len(headers.getall("Origin", ())) > 1:
        raise PastCacheError("origin")
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise PastCacheError("encoding")
    # A body of unknown length streams; nobody knows yet whether it is a question.
    length = headers.get("Content-Length", "0")
    if "Transfer-Encoding" in headers or not length.isdigit() or int(length) > LARGEST_BODY:
        raise PastCacheError("body")
    if method == "GET" and int(length):
        raise PastCacheError("body")


def understand(route: CachedRoute, target: Target, site: str, max_range_days: int) -> Asked:
    """The question that `target` puts to `route` of the legacy at `site`.

    Two that mean the same have one key. Raises PastCacheError.
    """
    check_headers(route, target.method, target.headers)
    parameters = _parameters(target)
    if not parameters.keys() <= set(route.key):
        raise PastCacheError("parameter")
    canonical = json.dumps(sorted(parameters.items()), sort_keys=True, separators=(",", ":"))
    # The legacy's CORS headers depend on the origin, so an answer does too.
    origin = json.dumps(target.headers.get("Origin"))
    shared = "shared" if route.shared_between_users else "anonymous"
    parts = ("cached route", site, target.method, route.path, shared, canonical, origin)
    return Asked(
        route=route,
        key=Key(fingerprint_of(*parts)),
        label=f"{target.method} {route.path} {canonical}"[:_LABEL_LENGTH],
        span=_span(parameters, max_range_days),
        has_credentials=names_a_user(target.headers),
    )


def _parameters(target: Target) -> Mapping[str, Any]:
    if target.method == "GET":
        return _from_query_string(target.query_string)
    if target.query_string:
        raise PastCacheError("parameter")
    return _from_body(target.body)


def _from_query_string(raw: str) -> Mapping[str, str]:
    if not raw.isascii() or _BROKEN_ESCAPE.search(raw):
        raise PastCacheError("parameter")
    try:
        pairs = parse_qsl(
            raw, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS
        )
    except ValueError as error:
        raise PastCacheError("parameter") from error
    found = dict(pairs)
    if len(found) != len(pairs):
        # Servers disagree on which of two counts.
        raise PastCacheError("doubled")
    return found


def _from_body(body: bytes) -> Mapping[str, Any]:
    # Not orjson: it reads integers beyond 64 bits as floats, and two of them as one.
    try:
        parsed = json.loads(body.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise PastCacheError("body") from error
    if not isinstance(parsed, dict):
        raise PastCacheError("body")
    return parsed


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _span(parameters: Mapping[str, Any], max_range_days: int) -> Span:
    """The dates that start_date and end_date name; all there are where they name none."""
    start, end = _date(parameters.get("start_date")), _date(parameters.get("end_date"))
    if start is None or end is None or not 0 <= (end - start).days < max_range_days:
        return Span()
    return Span(start, end)


def _date(value: object) -> date | None:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None
