"""Looks a deployment's database over: what it holds, what it lacks, how it would answer."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import apsw

from proxy.backends.aggregates import Aggregates, RateMode
from proxy.backends.database import Database, translated
from proxy.backends.plans import Plan, forms, plan_of
from proxy.backends.schema import BREAKDOWN, HIERARCHY, META, Schema, Table, form_of
from proxy.errors import SettingsError
from proxy.measures import MEASURES
from proxy.query import ShapeName
from proxy.shapes import Shape

MetaState = Literal["none", "not needed", "used"]


@dataclass(frozen=True, slots=True)
class TableSurvey:
    """What a table holds. Dates are those of its rows, None where it has none.

    `newest` is the last `computed_at` of the daily tables, `updated_at` of the others.
    """

    name: str
    rows: int
    days: int = 0
    first_date: str | None = None
    last_date: str | None = None
    newest: str | None = None

    @property
    def days_missing(self) -> int:
        """Days between the first and the last that have no row at all."""
        try:
            first = date.fromisoformat(self.first_date or "")
            last = date.fromisoformat(self.last_date or "")
        except ValueError:
            return 0
        return max(0, (last - first).days + 1 - self.days)


@dataclass(frozen=True, slots=True)
class MissingIndex:
    """`columns` as the usual deployment has them; `purpose` is what we use it for."""

    table: str
    columns: tuple[str, ...]
    purpose: str

    @property
    def sql(self) -> str:
        return f"CREATE INDEX idx_{self.table}_{self.columns[0]} ON {self.table} " + (
            f"({', '.join(self.columns)})"
        )


@dataclass(frozen=True, slots=True)
class Survey:
    """`zero_measures` has, per breakdown that can be asked for, the measures that would be 0."""

    form: Literal["wide", "narrow"]
    breakdown_counts: tuple[str, ...]
    absent: tuple[str, ...]
    meta: MetaState
    tables: tuple[TableSurvey, ...]
    missing_indexes: tuple[MissingIndex, ...]
    plans: tuple[Plan, ...]
    zero_measures: Mapping[str, tuple[str, ...]]

    @property
    def walks(self) -> tuple[Plan, ...]:
        """The plans whose cost grows with all of history."""
        return tuple(plan for plan in self.plans if plan.walks)


@contextmanager
def opened(database: Database) -> Iterator[apsw.Connection]:
    """A connection to look through. SettingsError when there is no file or it is no database."""
    for path in (database.path, database.meta_path):
        if path is not None and not path.is_file():
            raise SettingsError(f"no such file: {path}")
    try:
        connection = database.open()
    except (apsw.CantOpenError, apsw.NotADBError) as error:
        raise SettingsError(f"{database.path} cannot be opened as SQLite: {error}") from error
    except apsw.Error as error:
        raise translated(error) from error
    try:
        connection.pragma("schema_version")
        yield connection
    except apsw.NotADBError as error:
        raise SettingsError(f"{database.path} is not a SQLite database") from error
    except apsw.Error as error:
        raise translated(error) from error
    finally:
        connection.close()


def take_survey(
    connection: apsw.Connection,
    schema: Schema,
    shapes: Mapping[ShapeName, Shape],
    rate_mode: RateMode,
) -> Survey:
    """Everything is read and nothing is written. Raises apsw.Error."""
    counts: tuple[str, ...] = ()
    if schema.breakdown is not None:
        named = (schema.column(schema.breakdown, MEASURES[m]) for m in ("trials", "purchases"))
        counts = tuple(name for name in named if name is not None)
    optional = {BREAKDOWN: schema.breakdown, HIERARCHY: schema.hierarchy}
    return Survey(
        form=schema.form,
        breakdown_counts=counts,
        absent=tuple(name for name, table in optional.items() if table is None),
        meta=_meta_state(schema),
        tables=tuple(_table_survey(connection, schema)),
        missing_indexes=missing_indexes(schema),
        plans=tuple(
            plan_of(connection, query, shapes, schema, rate_mode) for query in forms(schema)
        ),
        zero_measures=zero_measures(schema, rate_mode),
    )


def missing_indexes(schema: Schema) -> tuple[MissingIndex, ...]:
    """The indexes we would use and do not find, in the order of how much they matter."""
    daily, breakdown, hierarchy = schema.daily, schema.breakdown, schema.hierarchy
    key = ("entity_type", "entity_id")
    wanted: list[tuple[Table | None, tuple[str, ...], str]] = [
        (daily, ("date", "entity_type"), "every question: goes straight to the days of its range"),
        (breakdown, (*key, "date"), "breakdowns: goes straight to an entity's days"),
        (schema.names, key, "the name of each row"),
        (hierarchy, ("ad_id",), "the adset of each ad"),
        (hierarchy, ("adset_id",), "the campaign of each adset"),
        (daily, ("computed_at",), "finding what the pipeline has written, without reading it all"),
        (breakdown, ("computed_at",), "the same for breakdown rows"),
        (daily, ("date",), "counting rows by day, which is how deleted rows are found"),
        (breakdown, ("date",), "the state of a day's breakdown rows, and finding deleted ones"),
    ]
    missing = [
        MissingIndex(table.name, columns, purpose)
        for table, columns, purpose in wanted
        if table is not None and not table.has_index_on(*columns)
    ]
    for table in _meta_tables(schema):
        if not (table.has_index_on("ad_id", "date") or table.has_index_on("date")):
            purpose = "Meta numbers: goes straight to an ad's days"
            missing.append(MissingIndex(table.name, ("ad_id", "date"), purpose))
    return tuple(missing)


def zero_measures(schema: Schema, rate_mode: RateMode) -> Mapping[str, tuple[str, ...]]:
    """Breakdown (`all`: none) -> measures that no column and no stand-in gives a value."""
    zeros = {"all": _zeros(schema, schema.daily, "all", rate_mode)}
    if schema.breakdown is not None:
        for kind in ("country", "region", "device"):
            zeros[kind] = _zeros(schema, schema.breakdown, kind, rate_mode)
    return zeros


def _zeros(schema: Schema, table: Table, kind: str, rate_mode: RateMode) -> tuple[str, ...]:
    meta = schema.meta_table_for(table, kind)
    aggregates = Aggregates(schema, table, rate_mode, meta is not None)
    return tuple(
        name
        for name, measure in MEASURES.items()
        if aggregates.value(measure) == "0"
        or (
            meta is not None
            and schema.column(table, measure) is None
            and measure.meta_column is not None
            and measure.meta_column not in meta.columns
        )
    )


def _meta_state(schema: Schema) -> MetaState:
    if not schema.meta:
        return "none"
    return "used" if _meta_tables(schema) else "not needed"


def _meta_tables(schema: Schema) -> list[Table]:
    """The Meta tables that answers take numbers from."""
    needed = {META} if form_of(schema.daily) == "narrow" else set()
    if schema.breakdown is not None and form_of(schema.breakdown) == "narrow":
        needed |= {f"{META}_{kind}" for kind in ("country", "region", "device")}
    return [table for name, table in sorted(schema.meta.items()) if name in needed]


def _table_survey(connection: apsw.Connection, schema: Schema) -> Iterator[TableSurvey]:
    for table in (schema.daily, schema.breakdown):
        if table is not None:
            newest = _one(connection, f"SELECT MAX(computed_at) FROM {table.name}")[0]
            yield _dated(connection, table.name, table.name, newest)
    for table in (schema.names, schema.hierarchy):
        if table is not None:
            newest = "MAX(updated_at)" if "updated_at" in table.columns else "NULL"
            rows, last = _one(connection, f"SELECT COUNT(*), {newest} FROM {table.name}")
            yield TableSurvey(table.name, rows, newest=last)
    for table in _meta_tables(schema):
        yield _dated(connection, table.name, f"meta.{table.name}", None)


def _dated(connection: apsw.Connection, name: str, source: str, newest: str | None) -> TableSurvey:
    days, rows, first, last = _one(
        connection,
        "SELECT COUNT(*), COALESCE(SUM(n), 0), MIN(date), MAX(date)"
        f" FROM (SELECT date, COUNT(*) AS n FROM {source} GROUP BY date)",
    )
    return TableSurvey(name, rows, days, first, last, newest)


def _one(connection: apsw.Connection, sql: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] = connection.execute(sql).fetchall()[0]
    return row
