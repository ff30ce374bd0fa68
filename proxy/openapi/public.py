"""The public port: the questions, each by two paths and two methods, and configured routes."""

from typing import Any

from proxy.openapi.facts import Facts
from proxy.openapi.parts import JSON, STRING, Json, body, operation, query, ref, response, told
from proxy.openapi.questions import question_name, question_parameters
from proxy.query import ShapeName
from proxy.settings_tables import CachedRoute

TAG = "questions"
CACHED_TAG = "cached routes"

ROUTES: dict[str, tuple[str, ShapeName, str]] = {
    "/data": ("data", "dashboard", "Rows in the dashboard's shape"),
    "/analytics/data/optimized": ("optimized", "analytics", "Rows in the analytics shape"),
    "/analytics/data": ("analytics", "analytics", "Rows from the side that the split deals to"),
}
"""Path without its mount -> word, shape and summary."""

_HEADERS: dict[str, str] = {
    "If-None-Match": "An `ETag` that the caller has: with it the answer may be a 304.",
    "Accept-Encoding": "`zstd` and `gzip` are sent to those who take them.",
    "X-Request-ID": "Sent back with the answer: at most 200 printable ASCII characters.",
}
_SPLIT_HEADERS: dict[str, str] = {
    "X-Dashboard-Variant": "`legacy` or `optimized`: the side that a tester wants. Counts with"
    " `X-Dashboard-Token`, or where `[split] allow_override` is true; else it is overlooked.",
    "X-Dashboard-Token": "The admin token, beside `X-Dashboard-Variant`.",
}


def public_paths(facts: Facts) -> Json:
    paths: Json = {
        f"{mount}{path}": _question(mount, path, facts) for path in ROUTES for mount in facts.mounts
    }
    for route in facts.cached_routes:
        item = paths.setdefault(route.path, {})
        item |= {method.lower(): _cached(route, method) for method in route.methods}
    return paths


def _question(mount: str, path: str, facts: Facts) -> Json:
    word, shape, summary = ROUTES[path]
    where = "" if mount else "_at_root"
    shared: dict[str, Any] = {
        "description": "" if mount else "The same as the path under `/api/dashboard`.",
    }
    headers = _request_headers(path)
    parameters = [*question_parameters(shape, facts.bounds.max_range_days), *headers]
    asked = body(ref(question_name(shape)), "Content-Type is not looked at.")
    responses = _responses(shape, facts)
    return {
        "get": operation(
            TAG, f"get_{word}{where}", summary, responses, parameters=parameters, **shared
        ),
        "post": operation(
            TAG,
            f"post_{word}{where}",
            summary,
            responses,
            parameters=headers,
            request_body=asked,
            **shared,
        ),
    }


def _responses(shape: ShapeName, facts: Facts) -> Json:
    found: Json = {
        "200": response(f"{shape.title()}Rows"),
        "304": response("NotModified"),
        "400": response("Refused"),
        "408": response("TooSlow"),
        "413": response("TooLarge"),
        "414": response("TargetTooLong"),
        "431": response("HeadTooLong"),
        "503": response("NoSource"),
        "504": response("SourceTooSlow"),
    }
    if facts.is_guarded:
        found |= {"401": response("NotLetIn"), "403": response("NotLetIn")}
    if facts.has_legacy:
        found |= {"502": response("NoLegacy"), "default": response("Legacy")}
    return found


def _request_headers(path: str) -> list[Json]:
    told_here = _HEADERS | (_SPLIT_HEADERS if path == "/analytics/data" else {})
    return [
        {"name": name, "in": "header", "description": text, "schema": STRING}
        for name, text in told_here.items()
    ]


def _cached(route: CachedRoute, method: str) -> Json:
    kept = f"for {route.ttl_s:g} s" if route.ttl_s else "until the pipeline writes"
    text = (
        f"A route of the legacy application whose answer is kept {kept}. Any parameter but those"
        " named here goes past the cache."
    )
    parameters, request_body = [], None
    if method == "GET":
        parameters = [query(name, STRING, "As the legacy has it.") for name in route.key]
    else:
        request_body = {
            "content": {JSON: {"schema": told({"type": "object"}, f"Known: {list(route.key)}.")}}
        }
    return operation(
        CACHED_TAG,
        f"{method.lower()}{route.path.replace('/', '_').replace('-', '_')}",
        "A kept answer of the legacy application",
        {"default": response("Legacy"), "502": response("NoLegacy")},
        description=text,
        parameters=parameters,
        request_body=request_body,
    )
