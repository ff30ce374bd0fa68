"""What the pipeline's tables look like in this deployment, and what that leaves us without."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import apsw

from proxy.errors import SettingsError
from proxy.measures import MEASURES, REQUIRED_MEASURES, Measure

DAILY = "daily_mixpanel_metrics"
BREAKDOWN = "daily_mixpanel_metrics_breakdown"
NAMES = "id_name_mapping"
HIERARCHY = "id_hierarchy_mapping"
META = "ad_performance_daily"

_REQUIRED = {
    DAILY: ("date", "entity_type", "entity_id", "computed_at"),
    NAMES: ("entity_type", "entity_id", "canonical_name"),
}
_BREAKDOWN_KEY = (
    "entity_type", "entity_id", "date", "breakdown_type", "breakdown_value", "computed_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """A table's columns and, per index, its leading columns in order."""

    name: str
    columns: frozenset[str]
    indexes: tuple[tuple[str, ...], ...] = ()
    has_rowid: bool = True

    def has_index_on(self, *columns: str) -> bool:
        return any(index[: len(columns)] == columns for index in self.indexes)


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables found. `meta` maps `ad_performance_daily…` names to tables, empty without it."""

    daily: Table
    names: Table
    breakdown: Table | None = None
    hierarchy: Table | None = None
    meta: Mapping[str, Table] = field(default_factory=dict)
    version: int = 0

    @property
    def form(self) -> Literal["wide", "narrow"]:
        return form_of(self.daily)

    def column(self, table: Table, measure: Measure) -> str | None:
        """The column of `table` that holds `measure`, in this deployment's spelling."""
        return next((name for name in measure.columns if name in table.columns), None)

    def missing(self, table: Table) -> tuple[str, ...]:
        """Measures that are 0 here: no column, no stand-in, nothing in the Meta database."""
        return tuple(
            name for name, measure in MEASURES.items() if not self._is_known(table, measure)
        )

    def meta_table_for(self, table: Table, breakdown: str) -> Table | None:
        """The Meta table that fills in for `table`, where its form is narrow and it is there."""
        if form_of(table) == "wide":
            return None
        name = META if table.name == DAILY else f"{META}_{breakdown}"
        return self.meta.get(name)

    def _is_known(self, table: Table, measure: Measure) -> bool:
        if self.column(table, measure) is not None:
            return True
        if form_of(table) == "wide":
            return False
        if measure.meta_column is not None:
            return META in self.meta
        if measure.narrow is None:
            return False
        left, _, right = measure.narrow
        return all(self._is_known(table, MEASURES[name]) for name in {left, right})


def form_of(table: Table) -> Literal["wide", "narrow"]:
    """The older, narrow form has no `meta_*` column."""
    return "wide" if any(name.startswith("meta_") for name in table.columns) else "narrow"


def read_schema(connection: apsw.Connection) -> Schema:
    """Look at the database on `connection`, and at the one attached as `meta` if there is one.

    Raises SettingsError that names the required table or column that is missing.
    """
    tables = _tables(connection, "main")
    for name, columns in _REQUIRED.items():
        if name not in tables:
            raise SettingsError(f"the database lacks the required table {name}")
        _require(tables[name], columns)
    daily = tables[DAILY]
    for measure in (MEASURES[name] for name in REQUIRED_MEASURES):
        if not any(column in daily.columns for column in measure.columns):
            spellings = " or ".join(measure.columns)
            raise SettingsError(f"the table {DAILY} lacks the required column {spellings}")
    if BREAKDOWN in tables:
        _require(tables[BREAKDOWN], _BREAKDOWN_KEY)
    if HIERARCHY in tables:
        _require(tables[HIERARCHY], ("ad_id", "adset_id", "campaign_id"))
    version = connection.pragma("schema_version")
    attached = {name for _, name, _ in connection.execute("PRAGMA database_list")}
    meta = _tables(connection, "meta") if "meta" in attached else {}
    return Schema(
        daily=daily,
        names=tables[NAMES],
        breakdown=tables.get(BREAKDOWN),
        hierarchy=tables.get(HIERARCHY),
        meta={name: table for name, table in meta.items() if name.startswith(META)},
        version=version if isinstance(version, int) else 0,
    )


def _require(table: Table, columns: Iterable[str]) -> None:
    for column in columns:
        if column not in table.columns:
            raise SettingsError(f"the table {table.name} lacks the required column {column}")


def _tables(connection: apsw.Connection, database: str) -> dict[str, Table]:
    listed = connection.execute(
        "SELECT name, type = 'table' AND NOT wr FROM pragma_table_list WHERE schema = ?",
        (database,),
    ).fetchall()
    return {str(name): _table(connection, database, str(name), bool(has)) for name, has in listed}


def _table(connection: apsw.Connection, database: str, name: str, has_rowid: bool) -> Table:
    columns = connection.execute(
        "SELECT name FROM pragma_table_xinfo(?, ?)", (name, database)
    ).fetchall()
    indexes = connection.execute(
        "SELECT l.name, i.name FROM pragma_index_list(?1, ?2) AS l"
        " JOIN pragma_index_info(l.name, ?2) AS i WHERE NOT l.partial ORDER BY l.seq, i.seqno",
        (name, database),
    ).fetchall()
    by_index: dict[str, list[str]] = {}
    for index, column in indexes:
        by_index.setdefault(str(index), []).append(str(column or ""))
    return Table(
        name,
        frozenset(str(column) for (column,) in columns),
        tuple(tuple(leading) for leading in by_index.values()),
        has_rowid,
    )
