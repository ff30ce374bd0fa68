"""The SQL: one statement per question, whose rows come in the sections of section.py.

Every table of history is reached day by day or entity by entity through an
index, in an order that CROSS JOIN fixes: SQLite's planner left alone walks all
of history for a week. A unary plus keeps it off an index that would.
"""

from dataclasses import dataclass

from proxy.backends.aggregates import Aggregates, RateMode
from proxy.backends.schema import BREAKDOWN, DAILY, HIERARCHY, NAMES, Schema, Table
from proxy.measures import MEASURES
from proxy.query import Level, Query
from proxy.section import HEAD_WIDTH, Section
from proxy.shapes import Cell, Shape

SPARKLINE_CELLS = (
    Cell("trials"),
    Cell("purchases"),
    Cell("meta_trials"),
    Cell("spend"),
    Cell("adjusted_revenue"),
)

_DAYS = (
    "{name}(d) AS (VALUES({start}) UNION ALL SELECT date(d, '+1 day') FROM {name} WHERE d < :end)"
)
_NAME = (
    f"(SELECT m.canonical_name FROM {NAMES} AS m"
    " WHERE m.entity_type = {type} AND m.entity_id = {id})"
)


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with the named parameters `start`, `end`, `breakdown` and `sparkline`."""

    sql: str

    def parameters(self, query: Query) -> dict[str, str]:
        return {
            "start": query.start.isoformat(),
            "end": query.end.isoformat(),
            "breakdown": query.breakdown,
            "sparkline": query.sparkline_start.isoformat(),
        }


def levels_read(query: Query, schema: Schema) -> tuple[Level, ...]:
    """Without a hierarchy an answer is flat: its own level is all there is to read."""
    return query.levels if schema.hierarchy is not None else query.levels[:1]


def compile_statement(query: Query, shape: Shape, schema: Schema, rate_mode: RateMode) -> Statement:
    """The statement for `query`. Only its level, depth, breakdown and sparkline shape the SQL."""
    return Statement(_Compiler(query, shape, schema, rate_mode).sql())


class _Compiler:
    def __init__(self, query: Query, shape: Shape, schema: Schema, rate_mode: RateMode) -> None:
        self.query = query
        self.schema = schema
        self.rate_mode: RateMode = rate_mode
        self.cells = shape.cells
        self.levels = levels_read(query, schema)
        self.width = HEAD_WIDTH + max(len(self.cells), len(SPARKLINE_CELLS) + 1)
        self.has_parents = schema.hierarchy is not None and query.level != "campaign"
        self.has_parents |= len(self.levels) > 1
        self.ctes: list[str] = [_DAYS.format(name="days", start=":start")]
        self.sections: list[str] = []

    def sql(self) -> str:
        self._own()
        if self.has_parents:
            self._parents()
        if self.query.breakdown != "all" and self.schema.breakdown is not None:
            self._breakdown(self.schema.breakdown)
        if self.query.include_sparkline:
            self._sparkline()
        ctes = ",\n".join(self.ctes)
        sections = "\nUNION ALL\n".join(self.sections)
        return f"WITH RECURSIVE {ctes}\n{sections}"

    def _section(self, section: Section, columns: list[str], source: str) -> None:
        padding = ["NULL"] * (self.width - len(columns) - 1)
        listed = ", ".join([str(int(section)), *columns, *padding])
        self.sections.append(f"SELECT {listed}\nFROM {source}")

    def _types(self, levels: tuple[Level, ...]) -> str:
        return ", ".join(f"'{level}'" for level in levels)

    def _own(self) -> None:
        meta = self.schema.meta_table_for(self.schema.daily, "all")
        aggregates = Aggregates(self.schema, self.schema.daily, self.rate_mode, meta is not None)
        cells = [aggregates.cell(cell) for cell in self.cells]
        columns = ", ".join(
            [
                "d.entity_type AS t",
                "d.entity_id AS i",
                "COUNT(*) AS n",
                "MAX(d.computed_at) AS c",
                *aggregates.columns(),
            ]
        )
        grouping = "1, 2" if len(self.levels) > 1 else "2"
        self.ctes.append(
            f"own AS MATERIALIZED (SELECT {columns}\n"
            f"  FROM days CROSS JOIN {DAILY} AS d"
            f" ON d.date = days.d AND d.entity_type IN ({self._types(self.levels)})\n"
            f"  GROUP BY {grouping})"
        )
        parent = self._adset_of("own.i") if self.has_parents else "NULL"
        if self.has_parents and "ad" in self.levels:
            parent = f"CASE own.t WHEN 'ad' THEN {parent} END"
        elif self.has_parents:
            parent = "NULL"
        if meta is None:
            name = _NAME.format(type="own.t", id="own.i")
            self._section(
                Section.OWN, ["own.t", "own.i", name, parent, "own.n", "own.c", *cells], "own"
            )
            return
        # A parent that has no row of its own still has what its ads spent.
        self.ctes.append(self._ad_sums(meta, "ads", self.levels, "days"))
        parent = parent.replace("own.", "e.")
        name = _NAME.format(type="e.t", id="e.i")
        self._section(
            Section.OWN,
            ["e.t", "e.i", name, parent, "own.n", "own.c", *cells],
            f"({self._entities()}) AS e LEFT JOIN own ON own.t = e.t AND own.i = e.i"
            " LEFT JOIN ads ON ads.t = e.t AND ads.i = e.i",
        )

    def _entities(self) -> str:
        """Every (t, i) that the answer shows, parents without rows of their own included."""
        parts = ["SELECT t, i FROM own"]
        if self.has_parents and "adset" in self.levels:
            parts.append("SELECT 'adset', i FROM adsets")
        if self.has_parents and "campaign" in self.levels:
            parts.append("SELECT 'campaign', campaign FROM placed WHERE campaign IS NOT NULL")
        return " UNION ".join(parts)

    def _best(self, wanted: str, known: str, entity: str) -> str:
        hierarchy = self.schema.hierarchy
        columns = hierarchy.columns if hierarchy is not None else frozenset()
        order = [
            f"h.{name} DESC"
            for name in ("relationship_confidence", "last_seen_date")
            if name in columns
        ]
        ordering = ", ".join([*order, f"CAST(h.{wanted} AS TEXT)"])
        return (
            f"(SELECT h.{wanted} FROM {HIERARCHY} AS h WHERE h.{known} = {entity}"
            f" AND h.{wanted} IS NOT NULL ORDER BY {ordering} LIMIT 1)"
        )

    def _adset_of(self, ad: str) -> str:
        return self._best("adset_id", "ad_id", ad)

    def _parents(self) -> None:
        adsets = []
        if "adset" in self.levels:
            adsets.append("SELECT i FROM own WHERE t = 'adset'")
        if "ad" in self.levels:
            adsets.append(
                f"SELECT adset FROM (SELECT {self._adset_of('own.i')} AS adset"
                " FROM own WHERE t = 'ad') WHERE adset IS NOT NULL"
            )
        placed = self._best("campaign_id", "adset_id", "adsets.i")
        ctes = [
            f"adsets(i) AS MATERIALIZED ({' UNION '.join(adsets)})",
            f"placed(i, campaign) AS MATERIALIZED (SELECT i, {placed} FROM adsets)",
        ]
        # Before the sums of the Meta database, which are joined to these.
        self.ctes[2:2] = ctes
        adset = _NAME.format(type="'adset'", id="placed.i")
        self._section(Section.ADSET, ["'adset'", "i", adset, "campaign"], "placed")
        campaign = _NAME.format(type="'campaign'", id="parents.campaign")
        self._section(
            Section.CAMPAIGN,
            ["'campaign'", "parents.campaign", campaign],
            "(SELECT DISTINCT campaign FROM placed WHERE campaign IS NOT NULL) AS parents",
        )

    def _breakdown(self, table: Table) -> None:
        meta = self.schema.meta_table_for(table, self.query.breakdown)
        aggregates = Aggregates(self.schema, table, self.rate_mode, meta is not None)
        cells = [aggregates.cell(cell) for cell in self.cells]
        columns = ", ".join(
            [
                "e.t AS t",
                "e.i AS i",
                "COALESCE(d.breakdown_value, 'Unknown') AS v",
                "COUNT(*) AS n",
                "MAX(d.computed_at) AS c",
                *aggregates.columns(),
            ]
        )
        grouped = (
            f"(SELECT {columns}\n  FROM ({self._entities()}) AS e CROSS JOIN {BREAKDOWN} AS d"
            " ON d.entity_type = e.t AND d.entity_id = e.i"
            " AND d.date BETWEEN :start AND :end AND +d.breakdown_type = :breakdown\n"
            "  GROUP BY 1, 2, 3) AS own"
        )
        if meta is not None:
            self.ctes.append(
                self._ad_sums(meta, "split_ads", self.levels, "days", self.query.breakdown)
            )
            grouped += (
                " LEFT JOIN split_ads AS ads ON ads.t = own.t AND ads.i = own.i AND ads.v = own.v"
            )
        self._section(
            Section.BREAKDOWN,
            ["own.t", "own.i", "own.v", "NULL", "own.n", "own.c", *cells],
            grouped,
        )

    def _sparkline(self) -> None:
        window = _DAYS.format(name="window", start=":sparkline")
        self.ctes.insert(0, window)
        meta = self.schema.meta_table_for(self.schema.daily, "all")
        aggregates = Aggregates(self.schema, self.schema.daily, "ratio", meta is not None)
        cells = [aggregates.cell(cell) for cell in SPARKLINE_CELLS]
        roas = aggregates.value(MEASURES["roas"])
        cells.append(f"ROUND(ROUND(({roas}) * 1e8) / 1e6) / 1e2 + 0.0")
        columns = ", ".join(
            ["d.entity_type AS t", "d.entity_id AS i", "d.date AS v", *aggregates.columns()]
        )
        rows = (
            f"(SELECT {columns}\n  FROM window CROSS JOIN {DAILY} AS d"
            f" ON d.date = window.d AND d.entity_type IN ({self._types(self.levels)})\n"
            "  GROUP BY 3, 1, 2) AS own"
        )
        if meta is None:
            head = ["own.t", "own.i", "own.v", "1", "NULL", "NULL"]
            self._section(Section.SPARKLINE, [*head, *cells], rows)
            return
        self.ctes.append(self._ad_sums(meta, "day_ads", self.levels, "window", "date"))
        known = "SELECT t, i, v FROM own_days UNION SELECT t, i, v FROM day_ads"
        self.ctes.append(f"own_days AS MATERIALIZED (SELECT * FROM {rows})")
        self._section(
            Section.SPARKLINE,
            ["e.t", "e.i", "e.v", "own.t IS NOT NULL", "NULL", "NULL", *cells],
            f"({known}) AS e"
            " LEFT JOIN own_days AS own ON own.t = e.t AND own.i = e.i AND own.v = e.v"
            " LEFT JOIN day_ads AS ads ON ads.t = e.t AND ads.i = e.i AND ads.v = e.v",
        )

    def _ad_sums(
        self, table: Table, name: str, levels: tuple[Level, ...], days: str, split: str = "NULL"
    ) -> str:
        """Sums of the Meta database per entity of `levels`, and per `split` column if any."""
        split_by = "NULL" if split == "NULL" else f"COALESCE(p.{split}, 'Unknown')"
        start = ":start" if days == "days" else ":sparkline"
        measures = [m.meta_column for m in MEASURES.values() if m.meta_column is not None]
        known = [column for column in measures if column in table.columns]
        listed = ", ".join(f"p.{column} AS {column}" for column in known)
        if table.has_index_on("date"):
            source = f"{days} CROSS JOIN meta.{table.name} AS p ON p.date = {days}.d"
            skip = ""
        else:
            # Its key leads with the ad: hop from ad to ad, whatever the length of history.
            skip = (
                f"{name}_ids(ad) AS (SELECT MIN(ad_id) FROM meta.{table.name} UNION ALL"
                f" SELECT (SELECT MIN(q.ad_id) FROM meta.{table.name} AS q"
                f" WHERE q.ad_id > {name}_ids.ad) FROM {name}_ids WHERE ad IS NOT NULL),\n"
            )
            source = (
                f"{name}_ids CROSS JOIN meta.{table.name} AS p"
                f" ON p.ad_id = {name}_ids.ad AND p.date BETWEEN {start} AND :end"
            )
        rows = (
            f"{name}_rows AS MATERIALIZED (SELECT p.ad_id, p.adset_id, p.campaign_id,"
            f" {split_by} AS v, {listed} FROM {source})"
        )
        sums = ", ".join(
            f"SUM({column}) AS {column}" if column in known else f"0 AS {column}"
            for column in measures
        )
        parts = " UNION ALL ".join(
            f"SELECT '{level}' AS t, {level}_id AS i, v, {sums} FROM {name}_rows GROUP BY 2, 3"
            for level in levels
        )
        return f"{skip}{rows},\n{name} AS MATERIALIZED ({parts})"
