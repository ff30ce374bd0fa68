"""/admin/status, /admin/rebuild, /admin/audit, and this document itself."""

from typing import get_args

from proxy.openapi.facts import Facts
from proxy.openapi.parts import (
    ANY,
    BOOLEAN,
    COUNT,
    INSTANT,
    NUMBER,
    STRING,
    Json,
    array,
    enum,
    limit,
    nullable,
    record,
    ref,
    told,
)
from proxy.openapi.rooms import Room
from proxy.workers.roster import Stage

FRESHNESS = ("settled", "rebuilding", "unknown")


def status_paths(facts: Facts) -> Json:
    room = Room("status", facts)
    entries = array(ref("AuditEntry"), "The newest first.")
    document = {"type": "object", "required": ["openapi", "info", "paths"]}
    return {
        "/admin/status": {"get": room.get("status", "How the proxy is", ref("Status"))},
        "/admin/rebuild": {
            "post": room.change(
                "end_rebuild",
                "The tables are believed as they are now",
                record(
                    {
                        "freshness": ref("Freshness"),
                        "is_complete": told(
                            BOOLEAN, "Of several workers, whether all have done it."
                        ),
                    },
                    optional=["is_complete"],
                ),
                503,
                fields={"action": {"const": "end"}},
                required=["action"],
                description="Ends the wait for data that were there before and are missing.",
            )
        },
        "/admin/audit": {
            "get": room.get(
                "audit",
                "Who changed what on this port",
                record({"entries": entries}),
                parameters=[limit(default=100, most=1000)],
            )
        },
        "/admin/openapi.json": {"get": room.get("openapi", "This document", document)},
    }


def status_schemas() -> Json:
    return {
        "Error": record(
            {"success": {"const": False}, "error": told(STRING, "What is wrong, for people.")},
            "Every error of ours, on either port.",
        ),
        "Status": record(
            {
                "version": STRING,
                "uptime_s": NUMBER,
                "freshness": ref("Freshness"),
                "cache": record(
                    {
                        "entries": told(COUNT, "In memory."),
                        "bytes": told(COUNT, "In memory."),
                        "hits": COUNT,
                        "misses": COUNT,
                    }
                ),
                "sources": ref("Sources"),
                "jobs": array(ref("Job"), "The newest few."),
                "split": ref("Split"),
                "rollout": ref("RolloutSummary"),
                "workers": array(_worker(), "Where there are several."),
            },
            optional=["workers"],
        ),
        "Freshness": record(
            {
                "state": enum(FRESHNESS),
                "computed_at": told(nullable(STRING), "The pipeline's own text."),
                "since": told(nullable(INSTANT), "When a rebuild was first seen."),
            }
        ),
        "AuditEntry": record(
            {
                "at": INSTANT,
                "author": STRING,
                "action": STRING,
                "before": ANY,
                "after": ANY,
                "reason": STRING,
            }
        ),
    }


def _worker() -> Json:
    return record(
        {
            "number": COUNT,
            "pid": COUNT,
            "state": enum(get_args(Stage)),
            "uptime_s": NUMBER,
            "requests": COUNT,
        }
    )
