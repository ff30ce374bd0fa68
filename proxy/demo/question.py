"""What the legacy's `/analytics/data` can be asked, and how it refuses anything else."""

import json
from dataclasses import dataclass
from datetime import date, timedelta

from proxy.errors import RequestError
from proxy.query import BREAKDOWNS, LEVELS, Breakdown, Level


@dataclass(frozen=True, slots=True)
class Question:
    start: date
    end: date
    level: Level
    breakdown: Breakdown

    @property
    def days(self) -> list[str]:
        span = (self.end - self.start).days + 1
        return [str(self.start + timedelta(days=n)) for n in range(span)]


def parse_question(body: bytes) -> Question:
    """Unknown parameters are ignored, as that application does. Raises RequestError."""
    asked = parse_object(body)
    if not asked:
        raise RequestError("No data provided in request")
    start, end = parse_date(asked, "start_date"), parse_date(asked, "end_date")
    breakdown = asked.get("breakdown", "all")
    if breakdown not in BREAKDOWNS:
        raise RequestError(f"Invalid breakdown parameter. Must be one of: {list(BREAKDOWNS)}")
    level = asked.get("group_by", "ad")
    if level not in LEVELS:
        raise RequestError(f"Invalid group_by parameter. Must be one of: {list(LEVELS)}")
    return Question(
        start,
        end,
        next(known for known in LEVELS if known == level),
        next(known for known in BREAKDOWNS if known == breakdown),
    )


def parse_object(body: bytes) -> dict[str, object]:
    """The JSON object in `body`; anything else counts as no data."""
    try:
        asked = json.loads(body)
    except ValueError:
        return {}
    return asked if isinstance(asked, dict) else {}


def parse_date(asked: dict[str, object], name: str) -> date:
    if name not in asked:
        raise RequestError(f"Missing required parameter: {name}")
    try:
        return date.fromisoformat(str(asked[name]))
    except ValueError as error:
        raise RequestError(f"Invalid {name} parameter. Must be YYYY-MM-DD") from error
