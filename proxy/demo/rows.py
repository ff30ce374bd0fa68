"""One day of figures as rows of the pipeline's tables: every level, every breakdown."""

import json
from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass, field

from proxy.demo.figures import Figures, divide, splits_of, total
from proxy.demo.tree import Tree

DayOfAds = Mapping[str, Figures]
"""ad_id -> what it did that day; ads that did nothing are not in it."""

MEASURES = (
    "trial_users_count",
    "purchase_users_count",
    "meta_spend",
    "meta_impressions",
    "meta_clicks",
    "meta_trial_count",
    "meta_purchase_count",
    "trial_conversion_rate_estimated",
    "trial_conversion_rate_actual",
    "trial_refund_rate_estimated",
    "trial_refund_rate_actual",
    "purchase_refund_rate_estimated",
    "purchase_refund_rate_actual",
    "estimated_revenue_usd",
    "adjusted_estimated_revenue_usd",
    "actual_revenue_usd",
    "actual_refunds_usd",
    "net_actual_revenue_usd",
    "profit_usd",
    "mixpanel_cost_per_trial",
    "mixpanel_cost_per_purchase",
    "meta_cost_per_trial",
    "meta_cost_per_purchase",
    "estimated_roas",
    "trial_accuracy_ratio",
    "purchase_accuracy_ratio",
    "click_to_trial_rate",
)
DAILY = (
    "date",
    "entity_type",
    "entity_id",
    *MEASURES,
    "trial_user_ids",
    "purchase_user_ids",
    "post_trial_user_ids",
    "converted_user_ids",
    "trial_refund_user_ids",
    "purchase_refund_user_ids",
    "data_quality_score",
    "computed_at",
)
BREAKDOWN = (
    "entity_type",
    "entity_id",
    "date",
    "breakdown_type",
    "breakdown_value",
    "mixpanel_trial_count",
    "mixpanel_purchase_count",
    *MEASURES[2:],
    "computed_at",
)

Row = tuple[object, ...]
Cell = tuple[str, str, str, str]
"""entity_type, entity_id, breakdown_type, breakdown_value."""


@dataclass(frozen=True, slots=True)
class Day:
    """All entities of a day, and their parts by country, region and device.

    Campaigns equal the sum of their adsets, adsets that of their ads, and the
    parts of one breakdown type that of their entity.
    """

    entities: dict[tuple[str, str], Figures] = field(default_factory=dict)
    parts: dict[Cell, Figures] = field(default_factory=dict)


def gather(tree: Tree, ads: DayOfAds, *, has_breakdown: bool) -> Day:
    """Add up a day from its ads; an entity none of whose ads did anything is left out."""
    day = Day()
    for campaign in tree:
        adsets: list[Figures] = []
        adset_parts: dict[tuple[str, str], list[Figures]] = {}
        for adset in campaign.adsets:
            active = [(ad.id, ads[ad.id]) for ad in adset.ads if ad.id in ads]
            if not active:
                continue
            for ad_id, own in active:
                day.entities["ad", ad_id] = own
            whole = total([own for _, own in active])
            day.entities["adset", adset.id] = whole
            adsets.append(whole)
            for cell, parts in _parts_of_adset(day, adset.id, active if has_breakdown else []):
                adset_parts.setdefault(cell, []).append(total(parts))
                day.parts["adset", adset.id, *cell] = adset_parts[cell][-1]
        if adsets:
            day.entities["campaign", campaign.id] = total(adsets)
        for (kind, value), parts in adset_parts.items():
            day.parts["campaign", campaign.id, kind, value] = total(parts)
    return day


def _parts_of_adset(
    day: Day, adset_id: str, active: list[tuple[str, Figures]]
) -> ItemsView[tuple[str, str], list[Figures]]:
    """Divide the ads of an adset, note their parts in `day`, and return them by value."""
    by_value: dict[tuple[str, str], list[Figures]] = {}
    for kind, split in splits_of(adset_id).items():
        for ad_id, own in active:
            for value, part in divide(own, split):
                day.parts["ad", ad_id, kind, value] = part
                by_value.setdefault((kind, value), []).append(part)
    return by_value.items()


def daily_rows(day: Day, date: str, computed_at: str) -> Iterator[Row]:
    """Rows for the columns DAILY, ordered as the table's unique key is."""
    for level, entity_id in sorted(day.entities):
        own = day.entities[level, entity_id]
        trial_users = _user_ids(date, entity_id, "t", own[0])
        purchase_users = _user_ids(date, entity_id, "p", own[1])
        users = (trial_users, purchase_users, None, purchase_users, None, None)
        yield (date, level, entity_id, *measures(own), *users, 0.95, computed_at)


def breakdown_rows(day: Day, date: str, computed_at: str) -> Iterator[Row]:
    """Rows for the columns BREAKDOWN, in the order of the table's primary key."""
    for cell in sorted(day.parts):
        level, entity_id, kind, value = cell
        yield (level, entity_id, date, kind, value, *measures(day.parts[cell]), computed_at)


def measures(own: Figures) -> tuple[float, ...]:
    """The values of MEASURES: money in dollars, rates and ratios to four decimals."""
    (
        trials,
        purchases,
        spend,
        impressions,
        clicks,
        meta_trials,
        meta_purchases,
        estimated,
        adjusted,
        actual,
        refunds,
        conversion_estimated,
        conversion_actual,
        trial_refund_estimated,
        trial_refund_actual,
        purchase_refund_estimated,
        purchase_refund_actual,
    ) = own
    return (
        trials,
        purchases,
        spend / 100,
        impressions,
        clicks,
        meta_trials,
        meta_purchases,
        conversion_estimated // trials / 10_000 if trials else 0,
        conversion_actual // trials / 10_000 if trials else 0,
        trial_refund_estimated // trials / 10_000 if trials else 0,
        trial_refund_actual // trials / 10_000 if trials else 0,
        purchase_refund_estimated // purchases / 10_000 if purchases else 0,
        purchase_refund_actual // purchases / 10_000 if purchases else 0,
        estimated / 100,
        adjusted / 100,
        actual / 100,
        refunds / 100,
        (actual - refunds) / 100,
        (adjusted - spend) / 100,
        spend // trials / 100 if trials else 0,
        spend // purchases / 100 if purchases else 0,
        spend // meta_trials / 100 if meta_trials else 0,
        spend // meta_purchases / 100 if meta_purchases else 0,
        adjusted * 10_000 // spend / 10_000 if spend else 0,
        trials * 10_000 // meta_trials / 10_000 if meta_trials else 0,
        purchases * 10_000 // meta_purchases / 10_000 if meta_purchases else 0,
        trials * 10_000 // clicks / 10_000 if clicks else 0,
    )


def _user_ids(date: str, entity_id: str, kind: str, users: int) -> str | None:
    """A short JSON list; long ones are left out, they would only fill the file."""
    if not 1 <= users <= 3:
        return None
    return json.dumps([f"{kind}{date[5:]}-{entity_id[-6:]}-{n}" for n in range(users)])
