"""The tables of the configuration file. Each may be partial; each is frozen once read."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from proxy.settings_values import (
    Allowed,
    Count,
    Flag,
    Names,
    NotNegative,
    Positive,
    Secret,
    Share,
    Text,
    parse_url,
)

_IDENTITY = re.compile(r"(cookie|header):[!#$%&'*+.^_`|~0-9A-Za-z-]+|authorization|address")


def _parse_identity(value: str | None) -> str | None:
    if value is not None and not _IDENTITY.fullmatch(value):
        raise ValueError("no way to tell callers apart")
    return value


def _parse_webhook(value: object) -> object:
    return parse_url(value, ("http", "https"), may_have_query=True) if value != "" else ""


def _parse_steps(value: tuple[float, ...]) -> tuple[float, ...]:
    is_rising = all(a < b for a, b in pairwise(value))
    if not value or not is_rising or not 0 < value[0] <= value[-1] <= 100:
        raise ValueError("no rising percents")
    return value


def _parse_route(value: str) -> str:
    if not value.startswith("/") or re.search(r"[?#\s]", value):
        raise ValueError("no path")
    return value


def _parse_expression(value: str) -> str:
    if not value.strip():
        raise ValueError("empty")
    return value.strip()


Identity = Annotated[
    str | None,
    AfterValidator(_parse_identity),
    Allowed("cookie:NAME, header:NAME, authorization or address"),
]
Steps = Annotated[
    tuple[float, ...],
    AfterValidator(_parse_steps),
    Allowed("a list of percents that rise, each above 0 and at most 100"),
]
Webhook = Annotated[
    str,
    BeforeValidator(_parse_webhook),
    Secret(is_whole=True),
    Allowed('an http:// or https:// URL, or ""'),
]
RoutePath = Annotated[str, AfterValidator(_parse_route), Allowed("a path like /api/x, no query")]
Methods = Annotated[
    tuple[Literal["GET", "POST"], ...],
    Field(min_length=1),
    Allowed('a list of "GET" and "POST"'),
]
Expression = Annotated[
    str, AfterValidator(_parse_expression), Allowed("a measure, or measure / measure")
]
Tolerance = Annotated[
    float | None, Field(ge=0, allow_inf_nan=False), Allowed("a number, 0 or more")
]


class Table(BaseModel):
    """Unknown keys are refused and nothing changes after reading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True
    )


class SplitTable(Table):
    identity: Identity = Field(
        None,
        description="What tells callers apart, so that one stays on one side. "
        "Without it: the credentials, else the address.",
    )
    salt: Text = Field("", description="Change it to deal the callers anew.")
    allow_override: Flag = Field(
        False, description="Whether any caller may force a side with `X-Dashboard-Variant`."
    )


class ShadowTable(Table):
    """`rate` is not here: it is the setting `shadow_rate`, under its name in the table."""

    queue: Count = Field(100, description="Comparisons that may wait; more are dropped.")
    concurrency: Count = Field(2, description="Comparisons at a time.")
    timeout_s: Positive = Field(120, description="Seconds that the other side may take.")
    noise_every: Count = Field(
        10, description="Each so-many-th sample asks the legacy twice, to learn its own noise."
    )


class FieldTolerance(Table):
    relative: Tolerance = Field(None, description="In place of the table's `relative`.")
    floor: Tolerance = Field(None, description="In place of the table's `floor`.")


class CompareTable(Table):
    relative: NotNegative = Field(
        0.01, description="a and b differ when |a - b| > relative × max(|a|, |b|, floor)."
    )
    floor: NotNegative = Field(1, description="See `relative`.")
    deciding: Names = Field(
        (
            "mixpanel_trials_started",
            "mixpanel_purchases",
            "spend",
            "estimated_revenue_adjusted",
            "profit",
        ),
        description="Fields that make a result *mismatched*; all others are only reported.",
    )
    ignore: Names = Field(("metadata.*",), description="Paths that are not compared.")
    as_set: Names = Field(("user_details.*",), description="Lists whose order means nothing.")
    fields: Annotated[Mapping[str, FieldTolerance], Allowed("a table of fields")] = Field(
        default_factory=dict, description="`fields.NAME.relative` and `.floor` for one field."
    )


class RolloutTable(Table):
    steps: Steps = Field((1, 5, 25, 50, 100), description="Percents to go through.")
    interval_s: Positive = Field(3600, description="Seconds to stay on each step at least.")
    min_samples: Count = Field(200, description="Comparisons a verdict needs at least.")
    mismatch_rate: Share = Field(
        0.01, description="Mismatches allowed in excess of the legacy's own noise."
    )
    structural_rate: Share = Field(0.001, description="Differences of structure allowed.")
    error_rate: Share = Field(0.01, description="Errors of our side allowed.")
    p95_ms: Positive = Field(50, description="Milliseconds that 95 of 100 answers may take.")
    consecutive_errors: Count = Field(5, description="So many in a row roll back at once.")
    webhook: Webhook = Field("", description="URL that is told of each change.", repr=False)


class CachedRoute(Table):
    path: RoutePath = Field(description="The path, as the frontend asks for it.")
    methods: Methods = Field(("GET",), description="Methods that are cached.")
    key: Names = Field((), description="Parameters that make the key. Any other: past the cache.")
    freshness: Annotated[Literal["watermark"] | None, Allowed("watermark")] = Field(
        None,
        description="`watermark`: kept until the pipeline writes. So also without `ttl_s`.",
    )
    ttl_s: Annotated[
        float | None, Field(gt=0, allow_inf_nan=False), Allowed("a number greater than 0")
    ] = Field(None, description="Kept so many seconds, in place of `freshness`.")
    shared_between_users: Flag = Field(
        False, description="Whether one user's answer may be given to another."
    )

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.freshness and self.ttl_s:
            raise ValueError("has freshness and ttl_s: it may have one of them")
        return self


class ShapeTable(Table):
    fields: Annotated[Mapping[str, Expression], Allowed("a table: name of the field = measure")] = (
        Field(default_factory=dict, description="`NAME = MEASURE`, one more field in every row.")
    )


class ShapesTable(Table):
    dashboard: ShapeTable = Field(ShapeTable(), description="The rows of `/data`.")
    analytics: ShapeTable = Field(ShapeTable(), description="The rows of `/analytics/data`.")
