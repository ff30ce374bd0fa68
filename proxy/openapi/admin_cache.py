"""/admin/cache, /admin/purge and /admin/explain."""

from typing import get_args

from proxy.canonical import LEVEL_PARAMETER
from proxy.explaining import Side
from proxy.openapi.admin_split import PERCENT
from proxy.openapi.facts import Facts
from proxy.openapi.parts import (
    BOOLEAN,
    COUNT,
    DATE,
    NUMBER,
    STRING,
    Json,
    array,
    enum,
    limit,
    nullable,
    query,
    record,
    ref,
    told,
)
from proxy.openapi.questions import question_parameters
from proxy.openapi.rooms import Room
from proxy.query import ShapeName

TIERS = ("memory", "redis")
SHAPES: tuple[ShapeName, ...] = get_args(ShapeName)


def cache_paths(facts: Facts) -> Json:
    room = Room("cache", facts)
    purges: list[Json] = [
        record({"all": {"const": True}}),
        record({"query": ref("Question")}),
        record({"start_date": DATE, "end_date": DATE}),
    ]
    return {
        "/admin/cache": {
            "get": room.get(
                "cache",
                "What is held, the most recently used first",
                record({"entries": array(ref("CacheEntry"))}),
                parameters=[limit(default=100, most=10_000)],
            )
        },
        "/admin/purge": {
            "post": room.change(
                "purge",
                "What is meant is let go of",
                ref("Purged"),
                fields={},
                one_of=purges,
                description="Everything, one question, or what was computed from a range of dates."
                " Answers that are being made are not kept either.",
                example={"start_date": "2024-06-01", "end_date": "2024-06-30"},
            )
        },
        "/admin/explain": {
            "get": room.get(
                "explain",
                "What would become of a question",
                ref("Explanation"),
                503,
                parameters=_either(facts.bounds.max_range_days),
                description="Nothing is asked or counted.",
            )
        },
    }


def cache_schemas() -> Json:
    asked: Json = {"anyOf": [ref(f"{shape.title()}Question") for shape in SHAPES]}
    return {
        "CacheEntry": record(
            {
                "key": STRING,
                "query": told(
                    {"anyOf": [*asked["anyOf"], STRING]},
                    "The question; of a legacy route's answer a text.",
                ),
                "shape": nullable(enum(SHAPES)),
                "bytes": COUNT,
                "age_s": NUMBER,
                "hits": told(COUNT, "In this process."),
                "tier": enum(TIERS),
                "is_fresh": told(nullable(BOOLEAN), "As last known; null: it is not known."),
                "workers": told(COUNT, "Of several workers, how many hold it."),
            },
            optional=["workers"],
        ),
        "Purged": record(
            {
                "purged": told(COUNT, "Entries that are gone."),
                "is_complete": told(BOOLEAN, "False: Redis, or a worker, could not be asked."),
            }
        ),
        "Explanation": record(
            {
                "query": asked,
                "shape": enum(SHAPES),
                "key": STRING,
                "watermark": nullable(record({"token": STRING, "computed_at": nullable(STRING)})),
                "is_rebuilding": BOOLEAN,
                "held": BOOLEAN,
                "tier": nullable(enum(TIERS)),
                "age_s": nullable(NUMBER),
                "cost_ms": told(nullable(NUMBER), "What making the answer took."),
                "fresh": BOOLEAN,
                "side": told(enum(get_args(Side)), "Who would answer, where it is ours to."),
                "split_percent": told(PERCENT, "Callers of the split to whom it is ours."),
            }
        ),
    }


def _either(max_range_days: int) -> list[Json]:
    found = {
        parameter["name"]: parameter
        for shape in LEVEL_PARAMETER
        for parameter in question_parameters(shape, max_range_days)
    }
    shape = query("shape", enum(SHAPES), "Which answer is meant, where the parameters do not tell.")
    return [*found.values(), shape]
