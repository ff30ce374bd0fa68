"""A question's reading from what is known of its dates. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from proxy.backends.backend import Fetched
from proxy.day_states import DayStates
from proxy.freshness import Watermark
from proxy.keys import fingerprint_of
from proxy.looks import TABLES, Reading, Snapshot, TableWord
from proxy.query import LEVELS, Level, Query
from proxy.timestamps import newer

_BATCH_DAYS = 14
"""Dates whose states are read in one go: others look at the database too."""


@dataclass(frozen=True, slots=True)
class Span:
    """Dates, both ends inclusive, of which anything may have been read. `Span()`: all there are."""

    start: date | None = None
    end: date | None = None


Subject = Query | Span
"""What a watermark is of."""


def days_read(subject: Subject, days: DayStates) -> Mapping[TableWord, Sequence[str]]:
    """The dates whose states a reading of `subject` takes, by table."""
    if isinstance(subject, Span):
        if subject.start is None or subject.end is None:
            return {table: days.dates(table) for table in TABLES}
        return dict.fromkeys(TABLES, days_between(subject.start, subject.end))
    window: dict[TableWord, Sequence[str]] = {
        "daily": days_between(subject.window_start, subject.end)
    }
    if subject.breakdown != "all":
        window["breakdown"] = days_between(subject.start, subject.end)
    return window


def read_watermark(
    subject: Subject, snapshot: Snapshot, days: DayStates, generation: int
) -> Reading:
    """The watermark of `subject`. Raises KeyError when one of its dates is not known."""
    if isinstance(subject, Span):
        return _read_span(subject, snapshot, days, generation)
    return _read_query(subject, snapshot, days, generation)


def _read_span(span: Span, snapshot: Snapshot, days: DayStates, generation: int) -> Reading:
    """All levels, breakdowns, names and parents: nobody knows which of them were read.

    A date without rows says nothing, so that processes agree whatever they know of it.
    """
    parts = [snapshot.schema, snapshot.meta, snapshot.hierarchy]
    for level, names in sorted(snapshot.names.items()):
        parts.extend((level, names))
    newest: str | None = None
    is_rebuilding = False
    for table, dates in days_read(span, days).items():
        for day in dates:
            for name, group in sorted(days.state(table, day).items()):
                parts.extend((table, day, name, group.digest))
                newest = newer(newest, group.computed_at)
        is_rebuilding |= days.is_held(table, dates)
    return Reading(Watermark(fingerprint_of(*parts), newest), {}, generation, is_rebuilding)


def _read_query(query: Query, snapshot: Snapshot, days: DayStates, generation: int) -> Reading:
    range_days = days_between(query.start, query.end)
    window = days_between(query.window_start, query.end)
    # Without a hierarchy an answer is flat: the levels below are not read.
    levels = query.levels if snapshot.hierarchy else query.levels[:1]
    parts = [snapshot.schema, snapshot.meta, *_names_read(levels, snapshot)]
    rows: dict[str, int] = dict.fromkeys(levels, 0)
    newest: str | None = None
    in_range = frozenset(range_days)
    for day in window:
        for level in levels:
            group = days.group("daily", day, level)
            parts.append(group.digest if group else "")
            if group and day in in_range:
                rows[level] += group.rows
                newest = newer(newest, group.computed_at)
    is_rebuilding = days.is_held("daily", window)
    if query.breakdown != "all":
        for day in range_days:
            for level in levels:
                group = days.group("breakdown", day, f"{level}/{query.breakdown}")
                parts.append(group.digest if group else "")
                newest = newer(newest, group.computed_at if group else None)
        is_rebuilding |= days.is_held("breakdown", range_days)
    watermark = Watermark(fingerprint_of(*parts), newest)
    return Reading(watermark, rows, generation, is_rebuilding)


def _names_read(levels: Sequence[Level], snapshot: Snapshot) -> list[str]:
    """Tokens of the names and parents an answer shows: its levels' and those above them."""
    deepest = LEVELS.index(levels[-1])
    names = [snapshot.names.get(level, "") for level in LEVELS[: deepest + 1]]
    return [*names, snapshot.hierarchy if deepest > 0 else ""]


def agrees(query: Query, fetched: Fetched, reading: Reading) -> bool:
    """Whether what was fetched is what the reading saw: else the data moved in between."""
    # Only of the levels that were read: without a hierarchy those below are not.
    for (table, level), rows in fetched.rows_read.items():
        if table == "daily" and rows != reading.rows.get(level):
            return False
    newest = (fetched.computed_at or "", reading.watermark.computed_at or "")
    # Where a day has texts with and without a `T`, each grouping names another as its newest.
    is_mixed = any("T" in text for text in newest)
    return query.breakdown != "all" or is_mixed or newest[0] == newest[1]


def days_between(start: date, end: date) -> list[str]:
    count = (end - start).days + 1
    return [(start + timedelta(days=ahead)).isoformat() for ahead in range(count)]


def batches(days: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(days), _BATCH_DAYS):
        yield days[first : first + _BATCH_DAYS]
