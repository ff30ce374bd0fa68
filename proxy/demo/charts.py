"""What the legacy's smaller routes answer: date range, charts, segments, user ids."""

import json
import sqlite3
from datetime import date, timedelta

from proxy.demo.fields import Json
from proxy.demo.records import DAILY, DIVIDED
from proxy.demo.tables import columns_of

RANGE = "date BETWEEN ? AND ?"


def date_range(db: sqlite3.Connection, today: date) -> Json:
    """The latest date is today, whatever the tables hold: so does the real one."""
    [(earliest,)] = db.execute(f"SELECT MIN(date) FROM {DAILY}")
    return {"earliest_date": earliest, "latest_date": str(today)}


def roas_chart(db: sqlite3.Connection, start: date | None, end: date | None) -> Json:
    """All campaigns by day; without dates the two weeks up to the newest."""
    if end is None:
        [(newest,)] = db.execute(f"SELECT MAX(date) FROM {DAILY}")
        end = date.fromisoformat(newest) if newest else date.min
    start = start or end - timedelta(days=min(13, (end - date.min).days))
    return _series(db, f"entity_type = 'campaign' AND {RANGE}", (str(start), str(end)))


def entity_chart(
    db: sqlite3.Connection, level: str, entity_id: str, start: date, end: date
) -> Json:
    where = f"entity_type = ? AND entity_id = ? AND {RANGE}"
    return _series(db, where, (level, entity_id, str(start), str(end)))


def segments(db: sqlite3.Connection, start: date, end: date) -> Json:
    """Each breakdown value there is, with its trials over all campaigns."""
    present = columns_of(db, DIVIDED)
    trials = "mixpanel_trial_count" if "mixpanel_trial_count" in present else "trial_users_count"
    rows = db.execute(
        f"SELECT breakdown_type, breakdown_value, SUM({trials}) FROM {DIVIDED}"
        f" WHERE {RANGE} AND entity_type = 'campaign' GROUP BY 1, 2 ORDER BY 1, 2",
        (str(start), str(end)),
    )
    return [{"type": kind, "value": value, "trials": count} for kind, value, count in rows]


def user_ids(db: sqlite3.Connection, level: str, entity_id: str, start: date, end: date) -> Json:
    rows = db.execute(
        f"SELECT trial_user_ids, purchase_user_ids FROM {DAILY}"
        f" WHERE entity_type = ? AND entity_id = ? AND {RANGE} ORDER BY date",
        (level, entity_id, str(start), str(end)),
    ).fetchall()
    return {
        "trial_user_ids": [user for trial, _ in rows for user in json.loads(trial or "[]")],
        "purchase_user_ids": [user for _, bought in rows for user in json.loads(bought or "[]")],
    }


def last_run(db: sqlite3.Connection) -> Json:
    [(newest,)] = db.execute(f"SELECT MAX(computed_at) FROM {DAILY}")
    return [{"name": "daily_metrics", "status": "idle", "last_run": newest}]


def _series(db: sqlite3.Connection, where: str, values: tuple[str, ...]) -> Json:
    is_wide = "meta_spend" in columns_of(db, DAILY)
    spend = "meta_spend" if is_wide else "0"
    revenue = "adjusted_estimated_revenue_usd" if is_wide else "estimated_revenue_usd"
    rows = db.execute(
        f"SELECT date, SUM({spend}), SUM({revenue}), SUM(trial_users_count) FROM {DAILY}"
        f" WHERE {where} GROUP BY date ORDER BY date",
        values,
    )
    return [
        {
            "date": day,
            "spend": round(spent, 2),
            "revenue": round(earned, 2),
            "roas": round(earned / spent, 2) if spent else 0,
            "trials": trials,
        }
        for day, spent, earned, trials in rows
    ]
