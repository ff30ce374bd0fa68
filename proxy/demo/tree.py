"""The demo's campaigns, adsets and ads: who belongs to whom and what it is called.

No figures here: what an ad earns is decided in figures.py, from its id alone.
"""

from dataclasses import dataclass
from itertools import count
from random import Random

MARKETS = ("US", "UK", "DACH", "FR", "LATAM", "ANZ", "JP", "Nordics", "WW")
PLATFORMS = ("iOS", "Android", "Web2App")
GOALS = ("Trial", "Purchase", "Install", "Retargeting")
BUDGETS = ("CBO", "ABO", "ASC+")
AUDIENCES = (
    "Broad",
    "LAL 1% payers",
    "LAL 3% trials",
    "Interest yoga",
    "Interest sleep",
    "Engaged 90d",
)
AGES = ("18-24", "25-44", "25-54", "45+", "All ages")
PLACEMENTS = ("Reels", "Stories", "Feed", "Advantage+ placements")
CONCEPTS = ("UGC", "Founder", "Testimonial", "Before-After", "Screencast", "Meme", "Static")
HOOKS = ("Morning routine", "3 mistakes", "No gym", "Doctor reacts", "POV", "Last chance", "Quiz")
FORMATS = ("9x16", "4x5", "1x1", "Carousel")


@dataclass(frozen=True, slots=True)
class Ad:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Adset:
    id: str
    name: str
    ads: tuple[Ad, ...]


@dataclass(frozen=True, slots=True)
class Campaign:
    id: str
    name: str
    adsets: tuple[Adset, ...]


Tree = tuple[Campaign, ...]


def grow_tree(campaigns: int, adsets: int, ads: int, *, seed: int) -> Tree:
    """`campaigns` campaigns of `adsets` adsets of `ads` ads; equal arguments give equal trees."""
    rng = Random(f"tree {seed}")
    numbers = count(1)

    def new_id() -> str:
        return str(120_210_000_000_000_000 + next(numbers) * 1_000_003 + rng.randrange(1_000_000))

    def new_ad(number: int) -> Ad:
        concept, hook, form = rng.choice(CONCEPTS), rng.choice(HOOKS), rng.choice(FORMATS)
        return Ad(new_id(), f"{concept}_{hook}_{form}_v{number}")

    def new_adset(number: int) -> Adset:
        audience, age, place = rng.choice(AUDIENCES), rng.choice(AGES), rng.choice(PLACEMENTS)
        adset_id = new_id()
        own = tuple(new_ad(n) for n in range(1, ads + 1))
        return Adset(adset_id, f"{number:02d} {audience} | {age} | {place}", own)

    def new_campaign(number: int) -> Campaign:
        market, platform = rng.choice(MARKETS), rng.choice(PLATFORMS)
        goal, budget = rng.choice(GOALS), rng.choice(BUDGETS)
        campaign_id = new_id()
        own = tuple(new_adset(n) for n in range(1, adsets + 1))
        return Campaign(campaign_id, f"{market}_{platform}_{goal}_{budget}_{number:03d}", own)

    return tuple(new_campaign(n) for n in range(1, campaigns + 1))
