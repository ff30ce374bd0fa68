"""/admin/diffs and /admin/contract: what came of comparing both sides."""

from typing import get_args

from proxy.openapi.facts import Facts
from proxy.openapi.parts import (
    ANY,
    BOOLEAN,
    COUNT,
    DATE,
    INSTANT,
    NUMBER,
    STRING,
    Json,
    array,
    enum,
    limit,
    nullable,
    path,
    query,
    record,
    ref,
    table,
    told,
)
from proxy.openapi.rooms import Room
from proxy.query import BREAKDOWNS, LEVELS
from proxy.rollout.result import Kind, Outcome
from proxy.rollout.split import Variant
from proxy.rollout.summary import OUTCOMES, totals_of
from proxy.rollout.tallies import Tally

_SCALAR: Json = {"type": ["string", "number", "boolean", "null"]}
_TOTALS: Json = dict.fromkeys(totals_of(Tally()), COUNT)
_MODES = ("mean", "ratio")


def diffs_paths(facts: Facts) -> Json:
    room = Room("differences", facts)
    field: Json = {"type": "string", "minLength": 1, "maxLength": facts.bounds.longest_field}
    return {
        "/admin/diffs": {
            "get": room.get(
                "diffs",
                "What differs between both sides, by field",
                ref("Diffs"),
                503,
                parameters=[
                    limit(default=20, most=200),
                    query("field", field, "Only differences of this field."),
                    query("level", enum(LEVELS), "Only differences at this level."),
                    query("since", DATE, "Only results of this day (UTC) and later."),
                ],
            )
        },
        "/admin/diffs/{id}": {
            "get": room.get(
                "diff",
                "One sample, with both answers",
                ref("Sample"),
                404,
                503,
                parameters=[path("id", "As in `samples` of `/admin/diffs`.")],
            )
        },
        "/admin/contract": {
            "get": room.get(
                "contract",
                "What our shape lacks of the legacy's, as a proposal",
                ref("Contract"),
                503,
                description="Read from the newest samples.",
            )
        },
    }


def diffs_schemas() -> Json:
    head: Json = {
        "id": STRING,
        "at": INSTANT,
        "query": {"anyOf": [ref("DashboardQuestion"), ref("AnalyticsQuestion")]},
        "outcome": enum(get_args(Outcome)),
        "control_side": enum(get_args(Variant)),
    }
    return {
        "Diffs": record(
            {
                "since": nullable(DATE),
                "totals": record(_TOTALS),
                "reasons": record({"discarded": table(COUNT), "errors": table(COUNT)}),
                "fields": array(_field_line()),
                "by_level": array(
                    record(
                        {
                            "level": enum(LEVELS),
                            "breakdown": enum(BREAKDOWNS),
                            "compared": COUNT,
                            **dict.fromkeys(OUTCOMES, COUNT),
                        }
                    )
                ),
                "by_day": array(record({"day": DATE, **_TOTALS}), "The newest first."),
                "samples": array(
                    record({**head, "differences": told(COUNT, "How many.")}),
                    "The newest first.",
                ),
            }
        ),
        "Sample": record(
            {
                **head,
                "differences": array(_difference()),
                "rows": told(COUNT, "Rows that were compared."),
                "note": told(STRING, "Why the answers were not kept, where they were not."),
                "control": told(ANY, "What the caller got; null: not kept."),
                "candidate": told(ANY, "What the other side answered; null: not kept."),
            }
        ),
        "Contract": record(
            {
                "samples": told(COUNT, "Samples it was read from."),
                "toml": told(STRING, "Lines for the configuration file."),
                "rate_modes": array(
                    record(
                        {
                            "field": STRING,
                            **dict.fromkeys((*_MODES, "equal"), COUNT),
                            "closer": enum((*_MODES, "equal")),
                        }
                    ),
                    "Which rate mode is closer to the legacy.",
                ),
            }
        ),
    }


def _field_line() -> Json:
    return record(
        {
            "field": STRING,
            "level": STRING,
            "kind": STRING,
            "count": told(COUNT, "Results with this difference."),
            "decided": told(COUNT, "Results that it decided."),
            "rows": told(COUNT, "Rows that it was found in."),
            "rate": told(NUMBER, "Share of all results."),
            "noise_rate": told(NUMBER, "The same of the legacy against itself."),
            "excess_rate_lower": told(NUMBER, "What `rate` has in excess of noise, at least."),
            "max_relative_error": nullable(NUMBER),
        }
    )


def _difference() -> Json:
    return record(
        {
            "path": told(STRING, "With `*` in place of a row's id."),
            "field": STRING,
            "level": STRING,
            "kind": enum(get_args(Kind)),
            "control": _SCALAR,
            "candidate": _SCALAR,
            "relative_error": nullable(NUMBER),
            "count": told(COUNT, "Rows that differ so; the values are of the worst."),
            "is_deciding": BOOLEAN,
        }
    )
