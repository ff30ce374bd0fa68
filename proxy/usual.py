"""The questions that dashboards ask every day, whoever looks at them. Pure."""

from collections.abc import Sequence
from datetime import date, timedelta

from proxy.query import LEVELS, Breakdown, Query, ShapeName

LAST_DAYS = (7, 14, 30, 90)

_DAY = timedelta(days=1)
_SHAPE: ShapeName = "analytics"
"""What the dashboard's page asks for (`/analytics/data`); its alias shares the entry. The
other shape is warmed for those who ask for it, as popular questions."""


def usual_questions(today: date, breakdowns: Sequence[Breakdown]) -> list[Query]:
    """Each range for each level and each of `breakdowns`, without doubles.

    The cheap and common ones come first: whole levels before breakdowns,
    campaigns before ads.
    """
    questions = [
        Query(_SHAPE, start, end, level, breakdown)
        for breakdown in breakdowns
        for level in LEVELS
        for start, end in usual_ranges(today)
    ]
    return list(dict.fromkeys(questions))


def usual_ranges(today: date) -> list[tuple[date, date]]:
    """Yesterday; the last days, ending today and ending yesterday; month to date."""
    yesterday = today - _DAY
    lasts = [
        (end - timedelta(days=days - 1), end) for days in LAST_DAYS for end in (today, yesterday)
    ]
    return [(yesterday, yesterday), *lasts, (today.replace(day=1), today)]
