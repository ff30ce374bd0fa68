"""The measures of an answer's rows, worked out in plain Python from CONTRACT.md alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal

RateMode = Literal["mean", "ratio"]
Shape = Literal["dashboard", "analytics"]
Record = Mapping[str, Any]

ZERO = Decimal(0)

_SUMS = {
    "trials": "trial_users_count",
    "purchases": "purchase_users_count",
    "spend": "meta_spend",
    "impressions": "meta_impressions",
    "clicks": "meta_clicks",
    "meta_trials": "meta_trial_count",
    "meta_purchases": "meta_purchase_count",
    "revenue": "estimated_revenue_usd",
    "adjusted": "adjusted_estimated_revenue_usd",
    "actual_revenue": "actual_revenue_usd",
    "refunds": "actual_refunds_usd",
    "net_revenue": "net_actual_revenue_usd",
    "profit": "profit_usd",
}
_MEANS = {
    "conversion": "trial_conversion_rate_actual",
    "trial_refund": "trial_refund_rate_actual",
    "purchase_refund": "purchase_refund_rate_actual",
    "conversion_estimated": "trial_conversion_rate_estimated",
    "trial_refund_estimated": "trial_refund_rate_estimated",
    "purchase_refund_estimated": "purchase_refund_rate_estimated",
    "roas": "estimated_roas",
    "trial_accuracy": "trial_accuracy_ratio",
    "purchase_accuracy": "purchase_accuracy_ratio",
}
_META = {
    "spend": "spend",
    "impressions": "impressions",
    "clicks": "clicks",
    "meta_trials": "meta_trials",
    "meta_purchases": "meta_purchases",
}
_OTHER_SPELLING = {
    "trial_users_count": "mixpanel_trial_count",
    "purchase_users_count": "mixpanel_purchase_count",
}

COUNT, CENTS, FRACTION = 0, 2, 6

_ANALYTICS = {
    **dict.fromkeys(
        ("mixpanel_trials_started", "trial_users_count", "total_users", "new_users"),
        ("trials", COUNT),
    ),
    **dict.fromkeys(("mixpanel_purchases", "purchase_users_count"), ("purchases", COUNT)),
    "meta_trials_started": ("meta_trials", COUNT),
    "meta_purchases": ("meta_purchases", COUNT),
    "impressions": ("impressions", COUNT),
    "clicks": ("clicks", COUNT),
    "spend": ("spend", CENTS),
    **dict.fromkeys(
        ("trial_conversion_rate", "avg_trial_conversion_rate", "conversion_rate"),
        ("conversion", FRACTION),
    ),
    **dict.fromkeys(("trial_refund_rate", "avg_trial_refund_rate"), ("trial_refund", FRACTION)),
    **dict.fromkeys(
        ("purchase_refund_rate", "avg_purchase_refund_rate"), ("purchase_refund", FRACTION)
    ),
    "trial_conversion_rate_estimated": ("conversion_estimated", FRACTION),
    "trial_refund_rate_estimated": ("trial_refund_estimated", FRACTION),
    "purchase_refund_rate_estimated": ("purchase_refund_estimated", FRACTION),
    **dict.fromkeys(("estimated_revenue_usd", "mixpanel_revenue_usd"), ("revenue", CENTS)),
    "estimated_revenue_adjusted": ("adjusted", CENTS),
    "actual_revenue_usd": ("actual_revenue", CENTS),
    "actual_refunds_usd": ("refunds", CENTS),
    "net_actual_revenue_usd": ("net_revenue", CENTS),
    "profit": ("profit", CENTS),
    **dict.fromkeys(("roas", "estimated_roas", "performance_impact_score"), ("roas", FRACTION)),
    "trial_accuracy_ratio": ("trial_accuracy", FRACTION),
    "purchase_accuracy_ratio": ("purchase_accuracy", FRACTION),
}
_DASHBOARD = {
    "trials": ("trials", COUNT),
    "trial_conversion_rate": ("conversion", FRACTION),
    "trial_refund_rate": ("trial_refund", FRACTION),
    "purchases": ("purchases", COUNT),
    "purchase_refund_rate": ("purchase_refund", FRACTION),
    "spend": ("spend", CENTS),
    "estimated_revenue": ("adjusted", CENTS),
    "profit": ("profit", CENTS),
    "roas": ("roas", FRACTION),
}
_PERCENT = frozenset({"trial_conversion_rate", "trial_refund_rate", "purchase_refund_rate"})


@dataclass(frozen=True, slots=True)
class Cell:
    """A number before it is rounded to `places` decimals. A count has none and is an integer."""

    exact: Decimal
    places: int


def fields_of(shape: Shape, totals: Mapping[str, Decimal]) -> dict[str, Cell]:
    """The numbers of a row: a percent is the unrounded fraction times 100."""
    if shape == "analytics":
        return {name: Cell(totals[of], places) for name, (of, places) in _ANALYTICS.items()}
    return {
        name: Cell(totals[of] * (100 if name in _PERCENT else 1), places)
        for name, (of, places) in _DASHBOARD.items()
    }


def wide_totals(rows: Sequence[Record], rate_mode: RateMode) -> dict[str, Decimal]:
    """The measures of some pre-computed rows that hold all columns."""
    totals = {name: _sum(rows, column) for name, column in _SUMS.items()}
    if rate_mode == "mean":
        return totals | {name: _mean(rows, column) for name, column in _MEANS.items()}
    totals["roas"] = ratio(totals["adjusted"], totals["spend"])
    totals["trial_accuracy"] = ratio(totals["trials"], totals["meta_trials"])
    totals["purchase_accuracy"] = ratio(totals["purchases"], totals["meta_purchases"])
    for suffix, kind in (("", "actual"), ("_estimated", "estimated")):
        conversion = f"trial_conversion_rate_{kind}"
        totals[f"conversion{suffix}"] = _weighted(rows, conversion, ["trial_users_count"])
        totals[f"trial_refund{suffix}"] = _weighted(
            rows, f"trial_refund_rate_{kind}", ["trial_users_count", conversion]
        )
        totals[f"purchase_refund{suffix}"] = _weighted(
            rows, f"purchase_refund_rate_{kind}", ["purchase_users_count"]
        )
    return totals


def narrow_totals(rows: Sequence[Record], meta: Sequence[Record]) -> dict[str, Decimal]:
    """The measures of some narrow rows and the rows of the Meta database beside them."""
    totals = dict.fromkeys([*_SUMS, *_MEANS], ZERO)
    totals |= {name: _sum(meta, column) for name, column in _META.items()}
    totals["trials"] = _sum(rows, "trial_users_count")
    totals["purchases"] = _sum(rows, "purchase_users_count")
    totals["revenue"] = totals["adjusted"] = _sum(rows, "estimated_revenue_usd")
    totals["profit"] = totals["adjusted"] - totals["spend"]
    totals["roas"] = ratio(totals["adjusted"], totals["spend"])
    totals["trial_accuracy"] = ratio(totals["trials"], totals["meta_trials"])
    totals["purchase_accuracy"] = ratio(totals["purchases"], totals["meta_purchases"])
    return totals


def _cell(row: Record, column: str) -> Any:
    if column not in row:
        column = _OTHER_SPELLING[column]
    return row[column]


def number(raw: Any) -> Decimal:
    """A stored number as it was meant: the shortest decimal that a REAL stands for."""
    return ZERO if raw is None else Decimal(repr(raw))


def _sum(rows: Iterable[Record], column: str) -> Decimal:
    return sum((number(_cell(row, column)) for row in rows), ZERO)


def _mean(rows: Iterable[Record], column: str) -> Decimal:
    known = [number(row[column]) for row in rows if row[column] is not None]
    return sum(known, ZERO) / len(known) if known else ZERO


def _weighted(rows: Iterable[Record], column: str, weights: Sequence[str]) -> Decimal:
    top = bottom = ZERO
    for row in rows:
        if row[column] is None:
            continue
        weight = Decimal(1)
        for name in weights:
            weight *= number(_cell(row, name))
        top += number(row[column]) * weight
        bottom += weight
    return ratio(top, bottom)


def ratio(top: Decimal, bottom: Decimal) -> Decimal:
    return top / bottom if bottom else ZERO


def rounded(value: Decimal, places: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)
