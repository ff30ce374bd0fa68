"""What operators send and get: bodies, limits, questions, times. Shared by the admin rooms."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, get_args

import orjson
from aiohttp import web

from proxy.canonical import Limits, canonicalize
from proxy.errors import RequestError
from proxy.query import Query, ShapeName

_OF_ANALYTICS = frozenset({"group_by", "include_mixpanel", "enable_breakdown_mapping"})
LONGEST_TEXT = 500


@dataclass(frozen=True, slots=True)
class Asked:
    """The body of a POST or DELETE: its own fields, and who wants it why."""

    fields: Mapping[str, Any]
    author: str
    reason: str


async def read_asked(request: web.Request, known: Collection[str]) -> Asked:
    """Raises RequestError for a body that is no JSON object, or has a field not in `known`.

    No body is an empty object. Without `author` it is the caller's address.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RequestError("Invalid request body. Must not be compressed")
    body = await request.read()
    try:
        fields = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as error:
        raise RequestError("Invalid request body. Must be a JSON object") from error
    if not isinstance(fields, dict):
        raise RequestError("Invalid request body. Must be a JSON object")
    author = _text(fields, "author")
    reason = _text(fields, "reason")
    for name in fields:
        if name not in known:
            allowed = sorted([*known, "author", "reason"])
            raise RequestError(f"Unknown field {name[:40]!a}. Known are: {allowed}")
    return Asked(fields, author or request.remote or "unknown", reason)


def limit_of(request: web.Request, *, default: int, most: int) -> int:
    """`limit` of the query string. Raises RequestError."""
    text = request.query.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most):
        raise RequestError(f"Invalid limit parameter. Must be a whole number, 1 to {most}")
    return int(text)


def questions_of(raw: object, limits: Limits) -> list[Query]:
    """What an object of parameters means. Raises RequestError.

    `hierarchy` is the dashboard shape's word and `group_by` the analytics
    shape's; `shape` says it outright. With none of them it means both.
    """
    if not isinstance(raw, dict):
        raise RequestError("Invalid query. Must be an object of parameters")
    parameters = {name: value for name, value in raw.items() if name != "shape"}
    return [canonicalize(shape, parameters, limits) for shape in _shapes(raw)]


def _shapes(raw: Mapping[str, object]) -> tuple[ShapeName, ...]:
    shapes: tuple[ShapeName, ...] = get_args(ShapeName)
    if "shape" in raw:
        named = tuple(shape for shape in shapes if shape == raw["shape"])
        if not named:
            raise RequestError(f"Invalid shape parameter. Must be one of: {list(shapes)}")
        return named
    if "hierarchy" in raw:
        return ("dashboard",)
    return ("analytics",) if _OF_ANALYTICS & raw.keys() else shapes


def respond(body: object, *, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def instant(at: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(fields: dict[str, Any], name: str) -> str:
    text = fields.pop(name, None)
    if text is None:
        return ""
    if not isinstance(text, str) or len(text) > LONGEST_TEXT:
        raise RequestError(f"Invalid {name} field. Must be a text of at most {LONGEST_TEXT}")
    return text
