"""The two answer shapes, declared as data: field = measure, percent of one, or one over another."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.errors import SettingsError
from proxy.measures import MEASURES, Unit, measure_named
from proxy.query import ShapeName

ANSWER_VERSION = 1
"""Raised by whoever changes what an answer holds in a way that no declaration shows."""

ORDER_MEASURE = "adjusted_revenue"
"""Rows are ordered by it, highest first."""

_EXPRESSION = re.compile(r"\s*(\w+)\s*(?:(%)|/\s*(\w+))?\s*", re.ASCII)

_OWN_FIELDS = frozenset(
    [
        "id",
        "entity_type",
        "entity_id",
        "name",
        "campaign_id",
        "campaign_name",
        "adset_id",
        "adset_name",
        "ad_id",
        "ad_name",
        "children",
        "breakdown_data",
        "breakdowns",
        "breakdown_type",
        "breakdown_value",
        "sparkline_data",
    ]
)

_DASHBOARD = {
    "trials": "trials",
    "trial_conversion_rate": "trial_conversion_rate %",
    "trial_refund_rate": "trial_refund_rate %",
    "purchases": "purchases",
    "purchase_refund_rate": "purchase_refund_rate %",
    "spend": "spend",
    "estimated_revenue": "adjusted_revenue",
    "profit": "profit",
    "roas": "roas",
}

_ANALYTICS = {
    "mixpanel_trials_started": "trials",
    "trial_users_count": "trials",
    "total_users": "trials",
    "new_users": "trials",
    "mixpanel_purchases": "purchases",
    "purchase_users_count": "purchases",
    "meta_trials_started": "meta_trials",
    "meta_purchases": "meta_purchases",
    "impressions": "impressions",
    "clicks": "clicks",
    "spend": "spend",
    "trial_conversion_rate": "trial_conversion_rate",
    "avg_trial_conversion_rate": "trial_conversion_rate",
    "conversion_rate": "trial_conversion_rate",
    "trial_refund_rate": "trial_refund_rate",
    "avg_trial_refund_rate": "trial_refund_rate",
    "purchase_refund_rate": "purchase_refund_rate",
    "avg_purchase_refund_rate": "purchase_refund_rate",
    "trial_conversion_rate_estimated": "trial_conversion_rate_estimated",
    "trial_refund_rate_estimated": "trial_refund_rate_estimated",
    "purchase_refund_rate_estimated": "purchase_refund_rate_estimated",
    "estimated_revenue_usd": "estimated_revenue",
    "mixpanel_revenue_usd": "estimated_revenue",
    "estimated_revenue_adjusted": "adjusted_revenue",
    "actual_revenue_usd": "actual_revenue",
    "actual_refunds_usd": "actual_refunds",
    "net_actual_revenue_usd": "net_actual_revenue",
    "profit": "profit",
    "roas": "roas",
    "estimated_roas": "roas",
    "performance_impact_score": "roas",
    "trial_accuracy_ratio": "trial_accuracy_ratio",
    "purchase_accuracy_ratio": "purchase_accuracy_ratio",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a row: a measure, the percent of one, or one measure over another."""

    measure: str
    divisor: str | None = None
    is_percent: bool = False

    @property
    def unit(self) -> Unit:
        if self.divisor is not None or self.is_percent:
            return Unit.FRACTION
        return MEASURES[self.measure].unit

    @property
    def zero(self) -> int | float:
        return 0 if self.unit is Unit.COUNT else 0.0

    @property
    def measures(self) -> tuple[str, ...]:
        return (self.measure,) if self.divisor is None else (self.measure, self.divisor)


@dataclass(frozen=True, slots=True)
class Shape:
    """Which fields a row has and which cell fills each. `has_parents`: rows name theirs."""

    name: ShapeName
    fields: Mapping[str, Cell]
    has_parents: bool
    has_breakdowns: bool

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Each distinct cell once, in a fixed order, the one that orders rows first."""
        return tuple(dict.fromkeys((Cell(ORDER_MEASURE), *self.fields.values())))

    @property
    def declaration(self) -> str:
        """The whole declaration as text: a part of the fingerprint of every answer."""
        fields = ";".join(f"{name}={cell!r}" for name, cell in self.fields.items())
        return f"{ANSWER_VERSION}|{self.name}|{self.has_parents}|{self.has_breakdowns}|{fields}"


def make_shapes(extra: Mapping[str, Mapping[str, str]] | None = None) -> dict[ShapeName, Shape]:
    """Both shapes, with the operator's own fields added (shape name -> field -> expression).

    Raises SettingsError that names the field.
    """
    more = extra or {}
    return {
        "dashboard": Shape(
            "dashboard",
            _fields("dashboard", _DASHBOARD, more.get("dashboard", {})),
            has_parents=False,
            has_breakdowns=False,
        ),
        "analytics": Shape(
            "analytics",
            _fields("analytics", _ANALYTICS, more.get("analytics", {})),
            has_parents=True,
            has_breakdowns=True,
        ),
    }


def _fields(
    shape: str, declared: Mapping[str, str], extra: Mapping[str, str]
) -> Mapping[str, Cell]:
    fields = {name: parse_cell(name, text, declared) for name, text in declared.items()}
    for name, text in extra.items():
        where = f"shapes.{shape}.fields.{name}"
        if name in _OWN_FIELDS:
            raise SettingsError(f"{where}: the row has a field of this name that is no measure")
        fields[name] = parse_cell(where, text, declared)
    return fields


def parse_cell(where: str, text: str, declared: Mapping[str, str]) -> Cell:
    """`spend`, `spend / clicks` or `roas %`. A name may be a measure, its column, or a field
    of `declared`. Raises SettingsError that begins with `where`.
    """
    found = _EXPRESSION.fullmatch(text)
    if found is None:
        raise SettingsError(
            f"{where} = {text!r}: must be a measure, 'measure / measure' or 'measure %'"
        )
    name, percent, divisor = found.groups()
    return Cell(
        _measure(where, name, declared),
        None if divisor is None else _measure(where, divisor, declared),
        percent is not None,
    )


def _measure(where: str, name: str, declared: Mapping[str, str]) -> str:
    for candidate in (name, declared.get(name, "").removesuffix("%").strip()):
        try:
            return measure_named(candidate).name
        except KeyError:
            continue
    raise SettingsError(
        f"{where}: no measure is called {name!r}. Must be one of: {sorted(MEASURES)}"
    )
