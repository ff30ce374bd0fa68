"""Raw parameters to a Query, or why not. Pure: no request, no clock, no settings object."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, cast
from urllib.parse import parse_qsl

import orjson

from proxy.errors import RequestError
from proxy.query import BREAKDOWNS, LEVELS, Breakdown, Level, Query, ShapeName

NO_DATA = "No data provided in request"

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
LEVEL_PARAMETER: dict[ShapeName, str] = {"dashboard": "hierarchy", "analytics": "group_by"}
DEFAULT_LEVEL: dict[ShapeName, Level] = {"dashboard": "campaign", "analytics": "ad"}
IGNORED: dict[ShapeName, frozenset[str]] = {
    "dashboard": frozenset(),
    "analytics": frozenset({"include_mixpanel", "enable_breakdown_mapping"}),
}
_COMMON = ("start_date", "end_date", "breakdown", "depth", "include_sparkline")


class UnknownParameterError(RequestError):
    """A parameter that we do not know: the question is not ours to answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_range_days` counts both ends of the range."""

    max_range_days: int = 1100


def parse_body(body: bytes) -> Mapping[str, Any]:
    """The JSON object in `body`. Of doubled keys the last counts, as JSON parsers have it."""
    if not body.strip():
        raise RequestError(NO_DATA)
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError("Invalid request body. Must be a JSON object") from error
    if not isinstance(parsed, dict):
        raise RequestError("Invalid request body. Must be a JSON object")
    return parsed


def parse_query_string(raw: str) -> Mapping[str, Any]:
    """The parameters of a raw query string, in the types that a JSON body would have.

    A doubled parameter is refused: servers disagree on which one counts.
    """
    try:
        pairs = parse_qsl(
            raw, keep_blank_values=True, errors="strict", max_num_fields=64, strict_parsing=False
        )
    except ValueError as error:
        raise RequestError("Invalid query string. Must be UTF-8 with at most 64 fields") from error
    found: dict[str, Any] = {}
    for name, text in pairs:
        if name in found:
            raise RequestError(f"Invalid {_shown(name)} parameter. Must be given only once")
        found[name] = _typed(name, text)
    return found


def canonicalize(shape: ShapeName, raw: Mapping[str, Any], limits: Limits) -> Query:
    """The one Query that `raw` means.

    Raises UnknownParameterError before it looks at any value, then
    RequestError that names the parameter and what it may be.
    """
    if not raw:
        raise RequestError(NO_DATA)
    level_parameter = LEVEL_PARAMETER[shape]
    ignored = IGNORED[shape]
    for name in raw:
        if name not in _COMMON and name != level_parameter and name not in ignored:
            known = sorted({*_COMMON, level_parameter, *ignored})
            raise UnknownParameterError(f"Unknown parameter {_shown(name)}. Known are: {known}")
    for name in ignored:
        if name in raw and raw[name] is None:
            raise RequestError(f"Invalid {name} parameter. Must be true or false")
    start = _date(raw, "start_date")
    end = _date(raw, "end_date")
    if end < start:
        raise RequestError("Invalid end_date parameter. Must not be before start_date")
    if (end - start).days + 1 > limits.max_range_days:
        raise RequestError(
            "Invalid end_date parameter. "
            f"The range must span at most {limits.max_range_days} days from start_date"
        )
    level = _choice(raw, level_parameter, LEVELS, DEFAULT_LEVEL[shape])
    breakdown = _choice(raw, "breakdown", BREAKDOWNS, "all")
    return Query(
        shape=shape,
        start=start,
        end=end,
        level=cast(Level, level),
        breakdown=cast(Breakdown, breakdown),
        depth=_depth(raw),
        include_sparkline=_boolean(raw, "include_sparkline"),
    )


def _typed(name: str, text: str) -> Any:
    if name == "depth" and text in ("1", "2", "3"):
        return int(text)
    if name == "include_sparkline":
        return _BOOLEANS.get(text.lower(), text)
    return text


def _shown(name: str) -> str:
    """A caller's own text in an error: short and printable."""
    return ascii(name[:40]) if not name.isidentifier() or len(name) > 40 else name


def _date(raw: Mapping[str, Any], name: str) -> date:
    if name not in raw:
        raise RequestError(f"Missing required parameter: {name}")
    text = raw[name]
    if isinstance(text, str) and _DATE.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise RequestError(f"Invalid {name} parameter. Must be a date that exists, as YYYY-MM-DD")


def _choice(raw: Mapping[str, Any], name: str, choices: Sequence[str], default: str) -> str:
    chosen = raw.get(name, default)
    if isinstance(chosen, str) and chosen in choices:
        return chosen
    # The legacy lists breakdowns in this order, and existing clients match on its text.
    raise RequestError(f"Invalid {name} parameter. Must be one of: {list(choices)}")


def _depth(raw: Mapping[str, Any]) -> int:
    depth = raw.get("depth", len(LEVELS))
    is_number = isinstance(depth, int | float) and not isinstance(depth, bool)
    if is_number and depth in (1, 2, 3):
        return int(depth)
    raise RequestError("Invalid depth parameter. Must be one of: [1, 2, 3]")


def _boolean(raw: Mapping[str, Any], name: str) -> bool:
    chosen = raw.get(name, False)
    if isinstance(chosen, bool):
        return chosen
    raise RequestError(f"Invalid {name} parameter. Must be true or false")
