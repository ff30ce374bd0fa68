"""The catalogue of measures: names, columns, units, and how their days are put together."""

from dataclasses import dataclass
from enum import Enum


class Unit(Enum):
    """Decides rounding: counts are whole, money is cents, everything else has 6 decimals."""

    COUNT = "count"
    MONEY = "usd"
    FRACTION = "fraction"


@dataclass(frozen=True, slots=True)
class Measure:
    """A numeric field of the daily tables.

    `columns` are the spellings deployments use, the usual one first. Without
    a `weighting` or `ratio` the days are summed. With one, `mean` mode takes
    the plain mean of the daily values, and `ratio` mode either divides the
    sums of the two measures in `ratio`, or weighs each day by the product of
    the measures in `weighting`.

    `meta_column` is where the Meta database has the measure; `narrow` is its
    stand-in on a table that lacks the column: a measure of the same value
    ("revenue"), a difference ("revenue - spend") or a ratio of sums.
    """

    name: str
    unit: Unit
    columns: tuple[str, ...]
    ratio: tuple[str, str] | None = None
    weighting: tuple[str, ...] = ()
    meta_column: str | None = None
    narrow: tuple[str, str, str] | None = None

    @property
    def is_sum(self) -> bool:
        return self.ratio is None and not self.weighting


def _count(name: str, *columns: str, meta: str | None = None) -> Measure:
    return Measure(name, Unit.COUNT, columns, meta_column=meta)


def _money(
    name: str,
    column: str,
    *,
    meta: str | None = None,
    narrow: tuple[str, str, str] | None = None,
) -> Measure:
    return Measure(name, Unit.MONEY, (column,), meta_column=meta, narrow=narrow)


def _ratio(name: str, column: str, numerator: str, denominator: str) -> Measure:
    pair = (numerator, denominator)
    return Measure(name, Unit.FRACTION, (column,), ratio=pair, narrow=(numerator, "/", denominator))


def _rate(name: str, column: str, *weighting: str) -> Measure:
    return Measure(name, Unit.FRACTION, (column,), weighting=weighting)


_CATALOGUE = (
    _count("trials", "trial_users_count", "mixpanel_trial_count"),
    _count("purchases", "purchase_users_count", "mixpanel_purchase_count"),
    _count("meta_trials", "meta_trial_count", meta="meta_trials"),
    _count("meta_purchases", "meta_purchase_count", meta="meta_purchases"),
    _count("impressions", "meta_impressions", meta="impressions"),
    _count("clicks", "meta_clicks", meta="clicks"),
    _money("spend", "meta_spend", meta="spend"),
    _money("estimated_revenue", "estimated_revenue_usd"),
    _money(
        "adjusted_revenue",
        "adjusted_estimated_revenue_usd",
        narrow=("estimated_revenue", "=", "estimated_revenue"),
    ),
    _money("actual_revenue", "actual_revenue_usd"),
    _money("actual_refunds", "actual_refunds_usd"),
    _money("net_actual_revenue", "net_actual_revenue_usd"),
    _money("profit", "profit_usd", narrow=("estimated_revenue", "-", "spend")),
    _rate("trial_conversion_rate", "trial_conversion_rate_actual", "trials"),
    _rate("trial_conversion_rate_estimated", "trial_conversion_rate_estimated", "trials"),
    _rate("trial_refund_rate", "trial_refund_rate_actual", "trials", "trial_conversion_rate"),
    _rate(
        "trial_refund_rate_estimated",
        "trial_refund_rate_estimated",
        "trials",
        "trial_conversion_rate_estimated",
    ),
    _rate("purchase_refund_rate", "purchase_refund_rate_actual", "purchases"),
    _rate("purchase_refund_rate_estimated", "purchase_refund_rate_estimated", "purchases"),
    _ratio("roas", "estimated_roas", "adjusted_revenue", "spend"),
    _ratio("trial_accuracy_ratio", "trial_accuracy_ratio", "trials", "meta_trials"),
    _ratio("purchase_accuracy_ratio", "purchase_accuracy_ratio", "purchases", "meta_purchases"),
)

MEASURES: dict[str, Measure] = {measure.name: measure for measure in _CATALOGUE}

REQUIRED_MEASURES = ("trials", "purchases", "estimated_revenue")
"""What even the narrow daily table has; without their columns there is nothing to answer from."""


def measure_named(name: str) -> Measure:
    """Look a measure up by its name or by a column that holds it; KeyError when there is none."""
    if name in MEASURES:
        return MEASURES[name]
    for measure in _CATALOGUE:
        if name in measure.columns:
            return measure
    raise KeyError(name)
