"""Schemas and parameters of questions: what canonical.py takes, said in OpenAPI."""

from proxy.canonical import DEFAULT_LEVEL, IGNORED, LEVEL_PARAMETER
from proxy.openapi.parts import BOOLEAN, DATE, STRING, Json, asked, enum, query, told
from proxy.query import BREAKDOWNS, LEVELS, ShapeName

_REQUIRED = ("start_date", "end_date")
_EXAMPLE = {"start_date": "2024-06-01", "end_date": "2024-06-30"}


def question_name(shape: ShapeName) -> str:
    return f"{shape.title()}Question"


def question_schemas(max_range_days: int) -> Json:
    """Components: a question of each shape, and one of either, as operators write it."""
    found = {
        question_name(shape): asked(_fields(shape, max_range_days), required=_REQUIRED)
        | {"examples": [dict(_EXAMPLE)]}
        for shape in LEVEL_PARAMETER
    }
    return {**found, "Question": _either(max_range_days)}


def _either(max_range_days: int) -> Json:
    text = "Which answer is meant. Without it the other fields tell; where they do not, it is both."
    return {
        "anyOf": [
            asked(
                {**_fields(shape, max_range_days), "shape": told({"const": shape}, text)},
                required=_REQUIRED,
            )
            for shape in LEVEL_PARAMETER
        ]
    }


def question_parameters(shape: ShapeName, max_range_days: int) -> list[Json]:
    """The same as a query string."""
    return [
        query(
            name,
            STRING
            if name in IGNORED[shape]
            else {key: value for key, value in schema.items() if key != "description"},
            schema["description"],
            required=name in _REQUIRED,
        )
        | ({"example": _EXAMPLE[name]} if name in _EXAMPLE else {})
        for name, schema in _fields(shape, max_range_days).items()
    ]


def _fields(shape: ShapeName, max_range_days: int) -> Json:
    level = enum(LEVELS, "The level of the rows.")
    no_change = "Accepted for older frontends. Changes nothing."
    return {
        "start_date": told(DATE, "The first day of the range."),
        "end_date": told(
            DATE, f"The last day of the range, which spans at most {max_range_days} days."
        ),
        LEVEL_PARAMETER[shape]: {**level, "default": DEFAULT_LEVEL[shape]},
        "breakdown": {
            **enum(BREAKDOWNS, "What each row is divided by. `all`: not divided."),
            "default": BREAKDOWNS[0],
        },
        "depth": {
            "type": "integer",
            "minimum": 1,
            "maximum": len(LEVELS),
            "default": len(LEVELS),
            "description": "How many levels are nested, the requested one included.",
        },
        "include_sparkline": {
            **told(BOOLEAN, "Whether rows have `sparkline_data`."),
            "default": False,
        },
        **{
            name: {"not": {"type": "null"}, "description": no_change}
            for name in sorted(IGNORED[shape])
        },
    }
