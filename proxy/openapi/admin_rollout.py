"""/admin/rollout: the plan, how far it has come, and what operators ask of it."""

from typing import get_args

from proxy.openapi.admin_split import PERCENT
from proxy.openapi.facts import Facts
from proxy.openapi.parts import (
    COUNT,
    INSTANT,
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
from proxy.openapi.rooms import Room
from proxy.rollout.ramp import Asked
from proxy.rollout.state import RolloutState, Verdict


def rollout_paths(facts: Facts) -> Json:
    room = Room("rollout", facts)
    return {
        "/admin/rollout": {
            "get": room.get("rollout", "The rollout and what it rests on", ref("Rollout"), 503),
            "post": room.change(
                "steer_rollout",
                "The rollout is steered by hand",
                ref("Rollout"),
                409,
                503,
                fields={"action": enum(get_args(Asked))},
                required=["action"],
            ),
        }
    }


def rollout_schemas() -> Json:
    summary: Json = {
        "state": enum(get_args(RolloutState)),
        "percent": told(PERCENT, "In force."),
        "step": told(COUNT, "Index into `steps`."),
        "steps": array(PERCENT),
        "verdict": enum(get_args(Verdict)),
        "reason": told(STRING, "Of the verdict, or why it holds."),
    }
    return {
        "RolloutSummary": record(summary),
        "Rollout": record(
            {
                **summary,
                "since": told(nullable(INSTANT), "When the evidence of this step begins."),
                "interval_s": told(NUMBER, "How long a step lasts at least."),
                "thresholds": array(_finding()),
                "evidence": nullable(_evidence()),
                "history": array(ref("Change"), "The newest first."),
            },
            optional=("since", "interval_s"),
        ),
    }


def _finding() -> Json:
    return record(
        {
            "name": STRING,
            "verdict": enum(get_args(Verdict)),
            "samples": INTEGER,
            "needed": INTEGER,
            "observed": nullable(NUMBER),
            "lower": told(nullable(NUMBER), "The bound that `allowed` is held against."),
            "allowed": NUMBER,
            "text": STRING,
        }
    )


def _evidence() -> Json:
    counts = (
        "compared", "mismatched", "structural", "noise_compared", "noise_mismatched",
        "noise_structural", "answers", "errors",
    )  # fmt: skip
    return record({**dict.fromkeys(counts, COUNT), "p95_ms": nullable(NUMBER)})
