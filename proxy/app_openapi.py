"""Composes the OpenAPI document: what it has to be told of this proxy."""

from collections.abc import Callable

from yarl import URL

from proxy import __version__
from proxy.app_admin import LARGEST_BODY as LARGEST_ADMIN_BODY
from proxy.handlers.admin_diffs import LONGEST_FIELD
from proxy.handlers.admin_jobs import MOST_QUERIES
from proxy.handlers.admin_openapi import AdminOpenapi
from proxy.handlers.admin_request import LONGEST_TEXT
from proxy.handlers.dashboard import BODY_TIMEOUT_S, LARGEST_BODY, MOUNTS
from proxy.openapi.document import make_document
from proxy.openapi.facts import Bounds, Facts
from proxy.settings import Settings
from proxy.shapes import make_shapes


def make_openapi(settings: Callable[[], Settings]) -> AdminOpenapi:
    """`settings` are those in force: they may change while it is served."""
    return AdminOpenapi(
        lambda public, admin: make_document(
            facts_of(settings()), public_url=public, admin_url=admin
        ),
        # Until it listens: only then is it known that its host can be one.
        URL.build(scheme="http", host="127.0.0.1", port=settings().port),
    )


def facts_of(settings: Settings) -> Facts:
    has_legacy = settings.legacy_url is not None
    return Facts(
        version=__version__,
        shapes=make_shapes(settings.extra_fields),
        bounds=Bounds(
            largest_body=LARGEST_BODY,
            largest_admin_body=LARGEST_ADMIN_BODY,
            body_timeout_s=BODY_TIMEOUT_S,
            max_range_days=settings.max_range_days,
            longest_text=LONGEST_TEXT,
            longest_field=LONGEST_FIELD,
            most_queries=MOST_QUERIES,
        ),
        mounts=MOUNTS,
        has_legacy=has_legacy,
        has_token=settings.admin_token is not None,
        is_guarded=settings.auth == "forward",
        has_workers=settings.workers > 1,
        # Without a legacy there is nothing to keep.
        cached_routes=settings.cached_routes if has_legacy else (),
    )
