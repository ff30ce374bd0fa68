"""/admin/warm and /admin/jobs."""

from typing import get_args

from proxy.jobs import JobState
from proxy.openapi.facts import Facts
from proxy.openapi.parts import (
    BOOLEAN,
    COUNT,
    INSTANT,
    STRING,
    Json,
    array,
    enum,
    limit,
    nullable,
    path,
    record,
    ref,
    told,
)
from proxy.openapi.rooms import Room

WARMED = ("usual", "popular", "all")


def jobs_paths(facts: Facts) -> Json:
    room = Room("jobs", facts)
    listed = array(ref("Question"), minItems=1, maxItems=facts.bounds.most_queries)
    queries = {"anyOf": [enum(WARMED), listed], "default": "all"}
    return {
        "/admin/warm": {
            "post": room.change(
                "warm",
                "A warm-up is begun",
                record(
                    {
                        "job_id": STRING,
                        "is_complete": told(
                            BOOLEAN, "Of several workers, whether all have begun one like it."
                        ),
                    },
                    optional=["is_complete"],
                ),
                409,
                fields={"queries": told(queries, "Which questions are asked beforehand.")},
                status=202,
            )
        },
        "/admin/jobs": {
            "get": room.get(
                "jobs",
                "Long work, the newest first",
                record({"jobs": array(ref("Job"))}),
                parameters=[limit(default=100, most=1000)],
            )
        },
        "/admin/jobs/{id}": {
            "get": room.get(
                "job",
                "One job",
                ref("Job"),
                404,
                parameters=[path("id", "As `/admin/warm` answered.")],
            )
        },
    }


def jobs_schemas() -> Json:
    return {
        "Job": record(
            {
                "id": STRING,
                "kind": STRING,
                "about": told(STRING, "What of its kind it does."),
                "state": enum(get_args(JobState)),
                "done": told(COUNT, "Steps that are over."),
                "total": COUNT,
                "errors": told(COUNT, "Steps that went wrong."),
                "note": told(STRING, "Why it ended as it did."),
                "started_at": nullable(INSTANT),
                "finished_at": nullable(INSTANT),
                "worker": told(COUNT, "Of several workers, the number of the one that does it."),
            },
            optional=["worker"],
        )
    }
