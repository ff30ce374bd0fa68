"""/admin/split, /admin/rollback and /admin/shadow."""

from proxy.openapi.facts import Facts
from proxy.openapi.parts import (
    BOOLEAN,
    INSTANT,
    STRING,
    Json,
    array,
    nullable,
    record,
    ref,
    told,
)
from proxy.openapi.rooms import Room

PERCENT: Json = {"type": "number", "minimum": 0, "maximum": 100}
SHARE: Json = {"type": "number", "minimum": 0, "maximum": 1}


def split_paths(facts: Facts) -> Json:
    room = Room("split", facts)
    return {
        "/admin/split": {
            "get": room.get("split", "The split in force", ref("Split")),
            "post": room.change(
                "set_split",
                "The percent is set",
                ref("Split"),
                409,
                503,
                fields={"percent": PERCENT},
                required=["percent"],
                description="Not while rolled back. A rollout that runs is paused.",
            ),
        },
        "/admin/rollback": {
            "post": room.change(
                "roll_back",
                "All traffic of the split goes to the legacy at once",
                ref("Split"),
                503,
                fields={},
            ),
            "delete": room.change(
                "lift_rollback",
                "The rollback is lifted",
                ref("Split"),
                409,
                503,
                fields={},
                description="The percent goes to 0, not back to what it was.",
            ),
        },
        "/admin/shadow": {
            "get": room.get("shadow", "The share that is compared", ref("ShadowRate")),
            "post": room.change(
                "set_shadow",
                "The share that is compared is set",
                ref("ShadowRate"),
                503,
                fields={"rate": SHARE},
                required=["rate"],
            ),
        },
    }


def split_schemas() -> Json:
    kept = told(BOOLEAN, "Whether it is on disk.")
    return {
        "Split": record(
            {
                "percent": told(PERCENT, "In force: 0 while rolled back."),
                "rolled_back": BOOLEAN,
                "changed_at": nullable(INSTANT),
                "author": STRING,
                "reason": STRING,
                "is_kept": kept,
                "history": array(ref("Change"), "The newest first."),
            }
        ),
        "Change": record(
            {
                "at": INSTANT,
                "author": STRING,
                "action": STRING,
                "percent": told(PERCENT, "In force after it."),
                "reason": STRING,
            }
        ),
        "ShadowRate": record(
            {
                "rate": SHARE,
                "changed_at": nullable(INSTANT),
                "author": STRING,
                "reason": STRING,
                "is_kept": kept,
            }
        ),
    }
