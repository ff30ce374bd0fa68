"""The days of a sparkline as answers hold them. Pure."""

from datetime import timedelta
from typing import Any

from proxy.query import SPARKLINE_DAYS, Query
from proxy.section import HEAD_WIDTH, Row


def sparkline_days(query: Query) -> list[str]:
    """The days of a sparkline, oldest first: 14 unless the calendar itself begins later."""
    count = min(SPARKLINE_DAYS, (query.end - query.sparkline_start).days + 1)
    return [(query.end - timedelta(days=back)).isoformat() for back in range(count - 1, -1, -1)]


def blank_sparkline(query: Query) -> list[dict[str, Any]]:
    """The sparkline of an entity of which nothing is known."""
    return [sparkline_day(day, None) for day in sparkline_days(query)]


def sparkline_day(day: str, row: Row | None) -> dict[str, Any]:
    """One day; `row` is of the section SPARKLINE, None where the tables have none."""
    trials, purchases, meta_trials, spend, revenue, roas = (
        row[HEAD_WIDTH : HEAD_WIDTH + 6] if row else (0, 0, 0, 0.0, 0.0, 0.0)
    )
    return {
        "date": day,
        "rolling_1d_roas": roas,
        "rolling_1d_spend": spend,
        "rolling_1d_revenue": revenue,
        "rolling_1d_conversions": purchases,
        "rolling_1d_trials": trials,
        "rolling_1d_meta_trials": meta_trials,
        "rolling_window_days": 1,
        "has_data": bool(row and row[4]),
    }
