"""The whole document, put together from the rooms' parts. Pure."""

from proxy.openapi.admin_cache import cache_paths, cache_schemas
from proxy.openapi.admin_diffs import diffs_paths, diffs_schemas
from proxy.openapi.admin_jobs import jobs_paths, jobs_schemas
from proxy.openapi.admin_live import live_paths, live_schemas
from proxy.openapi.admin_rollout import rollout_paths, rollout_schemas
from proxy.openapi.admin_split import split_paths, split_schemas
from proxy.openapi.admin_status import status_paths, status_schemas
from proxy.openapi.answers import public_responses
from proxy.openapi.facts import Facts
from proxy.openapi.operations import operations_paths, operations_schemas
from proxy.openapi.parts import Json
from proxy.openapi.public import public_paths
from proxy.openapi.questions import question_schemas
from proxy.openapi.rooms import admin_responses, security_schemes
from proxy.openapi.rows import row_schemas

_ABOUT = """\
One URL in front of a marketing dashboard, and a second port for those who run it.

Questions are answered on the public port. Any other path and method there goes to the legacy \
application as it came, and so does a question that is not understood. HEAD works as GET does.
Every error of ours is `{"success": false, "error": "…"}`. Bytes that are no HTTP get a 400, a \
method that a path of the admin port does not have a 405 with `Allow`, one connection too many \
a 503."""


def make_document(facts: Facts, *, public_url: str, admin_url: str) -> Json:
    """OpenAPI 3.1. `…_url` are where callers reach the two ports, without a path."""
    public = {"url": public_url, "description": "The public port, where the frontend comes in."}
    admin = {"url": admin_url, "description": "The admin port, for those who run it."}
    ours = {path: {"servers": [public], **item} for path, item in public_paths(facts).items()}
    operators = {
        **operations_paths(facts),
        **status_paths(facts),
        **cache_paths(facts),
        **jobs_paths(facts),
        **split_paths(facts),
        **rollout_paths(facts),
        **diffs_paths(facts),
        **live_paths(facts),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dashboard-proxy",
            "version": facts.version,
            "description": _ABOUT,
        },
        "servers": [admin],
        "security": [],
        "paths": {
            **ours,
            **{path: {"servers": [admin], **item} for path, item in operators.items()},
        },
        "components": {
            "securitySchemes": security_schemes(),
            "responses": {**public_responses(facts), **admin_responses(facts)},
            "schemas": _schemas(facts),
        },
    }


def _schemas(facts: Facts) -> Json:
    legacy = {"type": "object", "description": "The legacy application's own answer."}
    return {
        **question_schemas(facts.bounds.max_range_days),
        **row_schemas(facts.shapes),
        **({"LegacyAnswer": legacy} if facts.has_legacy else {}),
        **operations_schemas(),
        **status_schemas(),
        **cache_schemas(),
        **jobs_schemas(),
        **split_schemas(),
        **rollout_schemas(),
        **diffs_schemas(),
        **live_schemas(),
    }
