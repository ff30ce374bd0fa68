"""What one entity did on one day, in whole numbers that can be added and split without loss.

Money is in cents. A rate is held as the sum over users of its ten-thousandths,
so that adding ads gives the weighted rate of their adset.
"""

from dataclasses import dataclass
from functools import lru_cache
from random import Random

Figures = tuple[int, ...]
"""In the order of FIELDS."""

FIELDS = (
    "trials",
    "purchases",
    "spend",
    "impressions",
    "clicks",
    "meta_trials",
    "meta_purchases",
    "estimated_revenue",
    "adjusted_revenue",
    "actual_revenue",
    "actual_refunds",
    "conversion_estimated",
    "conversion_actual",
    "trial_refund_estimated",
    "trial_refund_actual",
    "purchase_refund_estimated",
    "purchase_refund_actual",
)

VALUES = {
    "country": ("US", "GB", "DE", "FR", "CA", "AU", "BR", "JP", "MX", "IT", "SE", "NL"),
    "region": (
        "California",
        "Texas",
        "New York",
        "Bavaria",
        "England",
        "Ontario",
        "Tokyo",
        "Unknown",
    ),
    "device": ("iphone", "android_smartphone", "ipad", "desktop"),
}
SHARES = ((100,), (100,), (65, 35), (55, 30, 15))

Split = tuple[tuple[str, int], ...]
"""Breakdown values with their share in percent; together 100."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What is typical of an ad. Money in cents, rates in ten-thousandths."""

    spend: int
    impressions_per_dollar: int
    click_rate: int
    cost_per_trial: int
    conversion: int
    trial_refund: int
    purchase_refund: int
    price: int
    adjustment_percent: int


@lru_cache(maxsize=50_000)
def traits_of(ad_id: str) -> Traits:
    rng = Random(f"traits {ad_id}")
    return Traits(
        spend=int(1_000 * rng.lognormvariate(1.0, 0.9)),
        impressions_per_dollar=rng.randrange(60, 160),
        click_rate=rng.randrange(60, 300),
        cost_per_trial=rng.randrange(700, 3_500),
        conversion=rng.randrange(1_500, 5_500),
        trial_refund=rng.randrange(50, 600),
        purchase_refund=rng.randrange(200, 1_500),
        price=rng.choice((2_999, 3_999, 4_999, 5_999)),
        adjustment_percent=rng.randrange(85, 125),
    )


@lru_cache(maxsize=10_000)
def splits_of(adset_id: str) -> dict[str, Split]:
    """How an adset's ads spread over countries, regions and devices: up to three of each."""
    rng = Random(f"splits {adset_id}")

    def split(values: tuple[str, ...]) -> Split:
        shares = rng.choice(SHARES)
        return tuple(zip(rng.sample(values, len(shares)), shares, strict=True))

    return {kind: split(values) for kind, values in VALUES.items()}


def draw(traits: Traits, rng: Random) -> Figures:
    """One day of one ad."""
    random = rng.random
    spend = int(traits.spend * (0.5 + random()))
    impressions = spend * traits.impressions_per_dollar // 100
    clicks = int(impressions * traits.click_rate * (0.7 + 0.6 * random()) / 10_000)
    meta_trials = int(spend / traits.cost_per_trial * (0.6 + 0.8 * random()) + random())
    meta_purchases = int(meta_trials * traits.conversion / 10_000 + random())
    trials = int(meta_trials * (0.75 + 0.3 * random()) + random() / 2)
    purchases = int(meta_purchases * (0.75 + 0.3 * random()) + random() / 2)
    swing = 0.8 + 0.4 * random()
    return figures(
        traits,
        meta=(spend, impressions, clicks, meta_trials, meta_purchases),
        trials=trials,
        purchases=purchases,
        conversion=int(traits.conversion * swing),
        trial_refund=int(traits.trial_refund * swing),
        purchase_refund=int(traits.purchase_refund * swing),
    )


def figures(
    traits: Traits,
    *,
    meta: tuple[int, int, int, int, int],
    trials: int,
    purchases: int,
    conversion: int,
    trial_refund: int,
    purchase_refund: int,
) -> Figures:
    """Everything that follows from what Meta counted, the users and the day's actual rates."""
    estimated_conversion = (conversion + traits.conversion) // 2
    kept = 10_000 - traits.purchase_refund
    estimated = (trials * estimated_conversion // 10 * traits.price) // 1_000
    estimated = (estimated + purchases * traits.price) * kept // 10_000
    actual = purchases * traits.price
    return (
        trials,
        purchases,
        *meta,
        estimated,
        estimated * traits.adjustment_percent // 100,
        actual,
        actual * purchase_refund // 10_000,
        trials * estimated_conversion,
        trials * conversion,
        trials * traits.trial_refund,
        trials * trial_refund,
        purchases * traits.purchase_refund,
        purchases * purchase_refund,
    )


def total(parts: list[Figures]) -> Figures:
    """The sum of all parts."""
    if len(parts) == 1:
        return parts[0]
    return tuple(map(sum, zip(*parts, strict=True)))


def divide(whole: Figures, split: Split) -> list[tuple[str, Figures]]:
    """One part per value; they add up to the whole, what does not divide goes to the first."""
    if len(split) == 1:
        return [(split[0][0], whole)]
    parts = [(value, tuple([x * share // 100 for x in whole])) for value, share in split[1:]]
    rest = whole
    for _, part in parts:
        rest = tuple([x - y for x, y in zip(rest, part, strict=True)])
    return [(split[0][0], rest), *parts]
