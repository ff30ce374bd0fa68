"""Schemas of the answers to questions, made from the shapes in force."""

from collections.abc import Mapping

from proxy.measures import MEASURES, Unit
from proxy.openapi.parts import (
    BOOLEAN,
    COUNT,
    DATE,
    INTEGER,
    NUMBER,
    STRING,
    Json,
    array,
    enum,
    nullable,
    record,
    ref,
    told,
)
from proxy.query import BREAKDOWNS, LEVELS, SPARKLINE_DAYS, ShapeName
from proxy.shapes import Cell, Shape
from proxy.sparkline import sparkline_day

_UNITS = {
    Unit.COUNT: "a count",
    Unit.MONEY: "USD, in cents",
    Unit.FRACTION: "a fraction or ratio, to 6 decimals",
}
_RANGE = "The range that was asked for, as in `2024-01-01 to 2024-01-31`."
_COMPUTED_AT = "When the pipeline made the newest number that was read; null without rows."


def answer_name(shape: ShapeName) -> str:
    return f"{shape.title()}Answer"


def row_schemas(shapes: Mapping[ShapeName, Shape]) -> Json:
    """Components: for each shape its answer, its row and its breakdown row; and the sparkline."""
    found: Json = {"SparklineDay": _sparkline_day()}
    for name, shape in shapes.items():
        word = name.title()
        measures = {field: _measure(cell) for field, cell in shape.fields.items()}
        found[f"{word}Breakdown"] = record(
            {
                "breakdown_type": enum(BREAKDOWNS[1:]),
                "breakdown_value": STRING,
                **measures,
            },
            "The part of a row that one country, region or device has.",
        )
        if shape.has_breakdowns:
            found[f"{word}OlderBreakdown"] = _older_breakdown(measures)
        found[f"{word}Row"] = _row(word, shape, measures)
        found[answer_name(name)] = record(
            {
                "success": {"const": True},
                "data": array(
                    ref(f"{word}Row"),
                    "Ordered by adjusted estimated revenue, highest first, then by id.",
                ),
                "metadata": _metadata(name),
            }
        )
    return found


def _row(word: str, shape: Shape, measures: Mapping[str, Json]) -> Json:
    fields: Json = {
        "id": told(STRING, "Level and id, as in `campaign_123`."),
        "entity_type": enum(LEVELS),
        "name": STRING,
    }
    optional = ["sparkline_data"]
    if shape.has_parents:
        fields["entity_id"] = told(STRING, "The id alone.")
        for level in LEVELS:
            fields[f"{level}_id"] = nullable(STRING)
            fields[f"{level}_name"] = nullable(STRING)
            if level != LEVELS[0]:
                optional += [f"{level}_id", f"{level}_name"]
    fields |= measures
    fields["children"] = array(ref(f"{word}Row"), "The next level, as far as `depth` goes.")
    fields["breakdown_data"] = array(ref(f"{word}Breakdown"), "Empty with the breakdown `all`.")
    if shape.has_breakdowns:
        older = array(ref(f"{word}OlderBreakdown"))
        fields["breakdowns"] = array(
            record({"type": enum(BREAKDOWNS[1:]), "values": older}), "The older form of the same."
        )
    fields["sparkline_data"] = array(
        ref("SparklineDay"),
        "With `include_sparkline`: the days that end at `end_date`, oldest first.",
        maxItems=SPARKLINE_DAYS,
    )
    about = "A campaign, adset or ad. It names itself and those above it."
    return record(fields, about if shape.has_parents else "", optional=optional)


def _older_breakdown(measures: Mapping[str, Json]) -> Json:
    return record(
        {
            "id": told(STRING, "Value and id, as in `US_123`."),
            "name": told(STRING, "The value."),
            "breakdown_type": enum(BREAKDOWNS[1:]),
            "breakdown_value": STRING,
            **measures,
        }
    )


def _measure(cell: Cell) -> Json:
    kind = INTEGER if cell.unit is Unit.COUNT else NUMBER
    if cell.divisor is not None:
        return told(kind, f"{cell.measure} / {cell.divisor}, to 6 decimals; 0 without a divisor.")
    if cell.is_percent:
        return told(kind, f"{cell.measure}, in percent.")
    return told(kind, f"{cell.measure}: {_UNITS[MEASURES[cell.measure].unit]}.")


def _metadata(shape: ShapeName) -> Json:
    fields: Json = {"date_range": told(STRING, _RANGE)}
    if shape == "dashboard":
        fields["total_records"] = told(COUNT, "Rows at the requested level.")
        fields["query_time_ms"] = {"const": 0, "description": "`Server-Timing` tells the time."}
    else:
        fields["record_count"] = told(COUNT, "Rows at the requested level.")
        fields["query_config"] = ref("AnalyticsQuestion")
    return record(
        {
            **fields,
            "generated_at": told(nullable(STRING), "The same as `computed_at`."),
            "data_source": STRING,
            "computed_at": told(nullable(STRING), _COMPUTED_AT),
            "warnings": array(STRING, "What is lacking, in sentences. Mostly empty."),
        }
    )


def _sparkline_day() -> Json:
    day = sparkline_day("2024-01-01", None)
    return record({name: _like(name, value) for name, value in day.items()})


def _like(name: str, value: object) -> Json:
    match value:
        case bool():
            return BOOLEAN
        case int():
            return INTEGER
        case float():
            return NUMBER
        case _:
            return DATE if name == "date" else STRING
