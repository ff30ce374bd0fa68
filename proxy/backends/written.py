"""Which dates' rows were written since a look: found from indexes, without reading the history."""

import apsw

from proxy.backends.schema import Table
from proxy.timestamps import before

_CLOCK_SLACK_H = 2.0
"""How far `computed_at` may go back and still be found at once: clocks do, in autumn."""
_MOST_ROWS_AGAIN = 150_000
"""Rows of the newest hours that a look reads again; where more share them, ids must do.

Three days at 20,000 ads fit, and cost some twenty milliseconds. A history that
was loaded within one second does not.
"""


def written_dates(
    db: apsw.Connection, table: Table, newest: str | None, last_row: int, last_row_now: int
) -> frozenset[str] | None:
    """The dates of rows written since; None where only reading everything again could tell.

    `newest` and `last_row` are the greatest `computed_at` and row id of the look before. A date
    may be named though nothing of it changed, never the other way round. Raises apsw.Error.
    """
    found: set[str] = set()
    if table.has_rowid:
        if last_row_now < last_row:
            return None
        if last_row_now > last_row:
            found |= _with_ids_above(db, table, last_row)
    if not table.has_index_on("computed_at"):
        return frozenset(found) if table.has_rowid else None
    if newest is None:
        return None
    found |= _computed_after(db, table, newest, last_row)
    return frozenset(found | _computed_just_before(db, table, newest))


def _with_ids_above(db: apsw.Connection, table: Table, last_row: int) -> set[str]:
    if ("date",) not in table.indexes:
        # The plus keeps the planner from walking another index to make them distinct.
        return _dates(db, f"SELECT DISTINCT +date FROM {table.name} WHERE rowid > ?", last_row)
    # An index on date alone holds the ids of each date in order: one step per
    # date. EXISTS would leave the planner free to begin with the rows.
    return _dates(
        db,
        f"WITH RECURSIVE days (day) AS (SELECT MIN(date) FROM {table.name} UNION ALL"
        f" SELECT (SELECT MIN(date) FROM {table.name} WHERE date > day) FROM days"
        " WHERE day IS NOT NULL)"
        f" SELECT day FROM days WHERE (SELECT MAX(rowid) FROM {table.name} WHERE date = day) > ?",
        last_row,
    )


def _computed_after(db: apsw.Connection, table: Table, newest: str, last_row: int) -> set[str]:
    statement = f"SELECT DISTINCT +date FROM {table.name} WHERE computed_at > ?"
    if not table.has_rowid:
        return _dates(db, statement, newest)
    # Rows already found by their ids are passed over in the index, which holds
    # the ids. Without the plus SQLite would walk the table for them.
    return _dates(db, f"{statement} AND +rowid <= ?", newest, last_row)


def _computed_just_before(db: apsw.Connection, table: Table, newest: str) -> set[str]:
    """The newest hours again: rows may be rewritten within a second already known."""
    window = f"FROM {table.name} WHERE computed_at BETWEEN ? AND ?"
    span = (before(newest, _CLOCK_SLACK_H), newest)
    [(rows,)] = db.execute(
        f"SELECT COUNT(*) FROM (SELECT 1 {window} LIMIT ?)", (*span, _MOST_ROWS_AGAIN + 1)
    )
    if rows > _MOST_ROWS_AGAIN:
        return set()
    return _dates(db, f"SELECT DISTINCT +date {window}", *span)


def _dates(db: apsw.Connection, statement: str, *values: str | int) -> set[str]:
    return {str(day) for (day,) in db.execute(statement, values)}
