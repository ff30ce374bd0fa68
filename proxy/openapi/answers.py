"""What the public port answers: the responses of its routes, and the headers they carry."""

from typing import get_args

from proxy.answer import Source
from proxy.document import WARNINGS
from proxy.openapi.facts import Facts
from proxy.openapi.parts import STRING, Json, answer, enum, ref, sent
from proxy.openapi.rows import answer_name
from proxy.rollout.split import Variant

_WARNINGS = ", ".join(f"`{word}`" for word in WARNINGS)
_HEADERS: dict[str, tuple[str, Json]] = {
    "ETag": ("Stands for the bytes of the body. `If-None-Match` with it gives 304.", STRING),
    "Cache-Control": (
        "`private, no-cache`: keep it, but ask again each time. `no-store` on errors.",
        STRING,
    ),
    "Vary": ("`Accept-Encoding`, and `Origin` where origins are named.", STRING),
    "Cache-Status": ("RFC 9211: `hit`, or why it went on, and whether it is kept.", STRING),
    "Age": ("Seconds since the answer was made.", {"type": "integer", "minimum": 0}),
    "Server-Timing": ("How long the body took to make; on a hit, back then.", STRING),
    "X-Dashboard-Source": (
        "Who answered: the tables, the legacy application, or the last known numbers.",
        enum(get_args(Source)),
    ),
    "X-Data-Watermark": ("The newest `computed_at` that was read, or `none`.", STRING),
    "X-Dashboard-Variant": (
        "On `/analytics/data`: which side answered. Elsewhere only where the request was handed"
        " to the legacy application.",
        enum(get_args(Variant)),
    ),
    "X-Dashboard-Warning": (f"What is lacking, divided by commas: {_WARNINGS}.", STRING),
}
_SOMETIMES = frozenset({"X-Dashboard-Variant", "X-Dashboard-Warning"})
_ON_ERRORS = (
    "Cache-Control",
    "Cache-Status",
    "X-Dashboard-Source",
    "X-Dashboard-Variant",
)


def public_responses(facts: Facts) -> Json:
    """Components. Where there is a legacy, what it answers itself has fewer headers."""
    bounds = facts.bounds
    errors = {
        "Refused": "The text names the parameter and what it may be.",
        "TooSlow": f"The body did not arrive within {bounds.body_timeout_s:g} s.",
        "TooLarge": f"The body has more than {bounds.largest_body} bytes.",
        "NoSource": "No source can answer now.",
        "SourceTooSlow": "The last source that was asked took too long.",
        "NoLegacy": "The legacy application, which would have to answer, is not there.",
        "TargetTooLong": "The URL is too long.",
        "HeadTooLong": "A header is too long, or all of them together are.",
    }
    on_errors = {name: _header(name) for name in _ON_ERRORS}
    found = {name: answer(text, ref("Error"), on_errors) for name, text in errors.items()}
    found["NoSource"]["headers"]["Retry-After"] = {
        "description": "Seconds, where it is known when another try is worth it.",
        "schema": {"type": "integer", "minimum": 1},
    }
    headers = {
        name: _header(name, required=name not in _SOMETIMES and not facts.has_legacy)
        for name in _HEADERS
    }
    for shape in facts.shapes:
        rows: Json = ref(answer_name(shape))
        if facts.has_legacy and shape == "analytics":
            rows = {"anyOf": [rows, ref("LegacyAnswer")]}
        found[f"{shape.title()}Rows"] = answer("The rows.", rows, headers)
    found["NotModified"] = sent("The caller has these bytes already.", {}, headers)
    found["Legacy"] = sent(
        "The legacy application's own answer, unchanged: the request is not one that we"
        " understand, or it is not ours to answer.",
        {"*/*": {}},
    )
    found["NotLetIn"] = sent(
        "The legacy application does not let this caller in: its own refusal.",
        {"*/*": {}},
        on_errors | {"WWW-Authenticate": {"schema": STRING}},
    )
    return found


def _header(name: str, *, required: bool = False) -> Json:
    text, schema = _HEADERS[name]
    return {"description": text, "schema": schema} | ({"required": True} if required else {})
