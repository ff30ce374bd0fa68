"""The console and what it looks at: /console, /admin/overview, /admin/events, /admin/pipeline."""

from proxy.openapi.facts import Facts
from proxy.openapi.parts import (
    BOOLEAN,
    COUNT,
    DATE,
    INSTANT,
    NUMBER,
    STRING,
    Json,
    array,
    enum,
    nullable,
    operation,
    path,
    record,
    ref,
    response,
    sent,
    table,
    told,
)
from proxy.openapi.rooms import Room

TAG = "console"
_PAGE_HEADERS = (
    "ETag",
    "Cache-Control",
    "Content-Security-Policy",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy",
    "Referrer-Policy",
    "X-Content-Type-Options",
    "X-Frame-Options",
)


def live_paths(facts: Facts) -> Json:
    room = Room(TAG, facts)
    stream = room.get("events", "The same as they change, as server-sent events", {}, 503)
    stream["description"] = (
        "Events `overview`, `pipeline` and `audit`, each with the JSON of the path of its name."
        " A comment line at least every 15 s."
    )
    stream["responses"]["200"] = sent(
        "It does not end by itself.", {"text/event-stream": {"schema": STRING}}
    )
    return {
        "/admin/overview": {"get": room.get("overview", "All at a glance", ref("Overview"))},
        "/admin/pipeline": {"get": room.get("pipeline", "The data by date", ref("Pipeline"), 503)},
        "/admin/events": {"get": stream},
        "/console": {
            "get": operation(
                TAG,
                "console",
                "The console, for a browser",
                _assets(),
                description="The page. It asks this API for all it shows.",
            )
        },
        "/console/{name}": {
            "get": operation(
                TAG,
                "console_part",
                "A part of the console's page",
                _assets(),
                parameters=[path("name", "As the page names it.")],
            )
        },
    }


def _assets() -> Json:
    """They hold no data, so nobody is asked for a token."""
    headers: Json = {name: {"schema": STRING, "required": True} for name in _PAGE_HEADERS}
    without_tag = {name: headers[name] for name in _PAGE_HEADERS if name != "ETag"}
    plain: Json = {"text/plain": {"schema": STRING}}
    return {
        "200": sent("As it is shipped.", {"*/*": {}}, headers),
        "304": sent("The caller has it already.", {}, headers),
        "400": response("BadRequest"),
        "404": sent("The console has no such part.", plain, without_tag),
        "414": response("TargetTooLong"),
        "431": response("HeadTooLong"),
    }


def live_schemas() -> Json:
    buckets = array(
        {"type": "array", "prefixItems": [nullable(NUMBER), COUNT], "minItems": 2, "maxItems": 2},
        "Upper edge in seconds (null: none) and the answers in this bucket alone.",
    )
    milliseconds = nullable(NUMBER)
    percentiles = {f"p{share}_ms": milliseconds for share in (50, 95, 99)}
    latency = record({"count": COUNT, "buckets": buckets, **percentiles})
    return {
        "Overview": record(
            {
                "at": INSTANT,
                "version": STRING,
                "uptime_s": NUMBER,
                "requests": record(
                    {
                        "total": COUNT,
                        "hits": COUNT,
                        "misses": COUNT,
                        "by_source": table(COUNT),
                        "by_result": table(COUNT),
                    }
                ),
                "latency": table(latency, "By source."),
                "places": table(latency, "Of our own answers, by where they were found."),
                "history": array(
                    record(
                        {
                            "at": told(NUMBER, "Seconds since the epoch."),
                            **dict.fromkeys(("requests", "hits", "misses"), COUNT),
                            "by_source": table(COUNT),
                            "latency": table(buckets),
                            "p95_ms": table(milliseconds),
                        }
                    ),
                    "What each step brought, the newest last.",
                ),
                "step_s": NUMBER,
                "freshness": ref("Freshness"),
                "sources": ref("Sources"),
                "split": ref("Split"),
                "rollout": ref("RolloutSummary"),
                "jobs": array(ref("Job")),
                "cache": record(
                    dict.fromkeys(("entries", "bytes", "max_bytes", "hits", "misses"), COUNT)
                ),
            }
        ),
        "Pipeline": record(
            {
                "at": INSTANT,
                "is_complete": told(BOOLEAN, "False: some dates were not read yet."),
                "dates": array(
                    record(
                        {
                            "date": DATE,
                            "computed_at": nullable(STRING),
                            "age_s": nullable(NUMBER),
                            "rows": COUNT,
                            "breakdown_rows": COUNT,
                            "state": enum(("settled", "rebuilding", "missing")),
                        }
                    ),
                    "The oldest first.",
                ),
                "last_run": nullable(
                    record(
                        {
                            "computed_at": nullable(STRING),
                            "seen_at": INSTANT,
                            "changed": array(DATE),
                        }
                    )
                ),
                "is_rebuilding": BOOLEAN,
                "held": array(DATE, "Dates whose data are waited for."),
                "since": nullable(INSTANT),
                "computed_at": nullable(STRING),
            }
        ),
    }
