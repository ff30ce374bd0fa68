"""What the document has to be told: the settings and limits of the proxy that serves it."""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.query import ShapeName
from proxy.settings_tables import CachedRoute
from proxy.shapes import Shape


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits that the handlers hold callers to. Sizes in bytes, texts in characters."""

    largest_body: int
    largest_admin_body: int
    body_timeout_s: float
    max_range_days: int
    longest_text: int
    longest_field: int
    most_queries: int


@dataclass(frozen=True, slots=True)
class Facts:
    """`paths` are those of the questions by mount; `has_…` say what is configured.

    `is_guarded`: only those whom the legacy lets in get an answer of ours.
    """

    version: str
    shapes: Mapping[ShapeName, Shape]
    bounds: Bounds
    mounts: tuple[str, ...]
    has_legacy: bool
    has_token: bool
    is_guarded: bool
    has_workers: bool = False
    cached_routes: tuple[CachedRoute, ...] = ()
