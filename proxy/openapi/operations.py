"""The admin port outside /admin: health and metrics. They need no token."""

from proxy.openapi.facts import Facts
from proxy.openapi.parts import (
    STRING,
    Json,
    answer,
    array,
    enum,
    operation,
    record,
    ref,
    response,
    sent,
    table,
)

TAG = "health and metrics"
SOURCES = ("database", "redis", "legacy")
STATES = ("up", "down", "off")


def operations_paths(facts: Facts) -> Json:
    heads = {str(status): response(name) for status, name in _HEADS.items()}
    is_live = answer("It is.", record({"status": {"const": "live"}}))
    return {
        "/health/live": {
            "get": operation(TAG, "live", "Whether the process answers", {"200": is_live, **heads})
        },
        "/health/ready": {
            "get": operation(
                TAG,
                "ready",
                "Whether questions are answered from the tables",
                {
                    "200": answer("They are.", ref("Readiness")),
                    "503": answer("The database cannot be read.", ref("Readiness")),
                    **heads,
                },
            )
        },
        "/metrics": {
            "get": operation(
                TAG,
                "metrics",
                "Every metric there is, for Prometheus",
                {
                    "200": sent(
                        "The text format of Prometheus.", {"text/plain": {"schema": STRING}}
                    ),
                    **heads,
                },
            )
        },
    }


_HEADS = {400: "BadRequest", 414: "TargetTooLong", 431: "HeadTooLong"}


def operations_schemas() -> Json:
    return {
        "Readiness": record(
            {
                "status": enum(("ready", "not ready")),
                "not_ready": array(enum(SOURCES), "What keeps it from being ready."),
                "parts": ref("Sources"),
            }
        ),
        "Sources": table(enum(STATES), "`off`: not configured.") | {"required": list(SOURCES)},
    }
