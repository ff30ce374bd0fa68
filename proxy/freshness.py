"""Is an entry still true? Pure: a Watermark then, a Watermark now, a Verdict."""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Watermark:
    """The state of the data that a question is computed from.

    `token` stands for that state: equal tokens mean equal data, in every
    process that sees the same database. It says nothing about older or newer.
    `computed_at` is the newest `computed_at` of the range as the pipeline
    wrote it, for people and headers; None when there are no rows.
    """

    token: str
    computed_at: str | None = None


class Verdict(Enum):
    FRESH = "fresh"
    STALE = "stale"
    UNVERIFIED = "unverified"


def judge(held: Watermark, current: Watermark | None) -> Verdict:
    """`current` is None while the database cannot be looked at."""
    if current is None:
        return Verdict.UNVERIFIED
    return Verdict.FRESH if held.token == current.token else Verdict.STALE
