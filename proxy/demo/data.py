"""Makes the demo's two databases: equal arguments give equal rows, no clock is looked at."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from random import Random
from sqlite3 import Connection

from proxy.demo.figures import VALUES, Figures, draw, traits_of
from proxy.demo.rows import BREAKDOWN, DAILY, Day, Row, breakdown_rows, daily_rows, gather
from proxy.demo.tables import (
    Counts,
    Form,
    Variant,
    building,
    create_indexes,
    create_meta_tables,
    create_tables,
    write_rows,
)
from proxy.demo.tree import Ad, Adset, Campaign, Tree, grow_tree


@dataclass(frozen=True, slots=True)
class Size:
    """`adsets` and `ads` count per parent; `density` is the share of days on which an ad is active.

    Breakdown rows are made for the last `breakdown_days` only (None: for all days).
    """

    campaigns: int
    adsets: int
    ads: int
    days: int
    density: float = 1.0
    breakdown_days: int | None = None


SIZES: dict[str, Size] = {
    "s": Size(campaigns=5, adsets=3, ads=4, days=60),
    "m": Size(campaigns=50, adsets=5, ads=8, days=180),
    # All of its breakdown rows would be 20 million: seven weeks show the same.
    "l": Size(campaigns=200, adsets=10, ads=10, days=365, density=0.3, breakdown_days=49),
}


def make_demo(
    database: Path,
    meta_database: Path | None,
    *,
    size: Size | str,
    end: date,
    seed: int = 1,
    computed_at: str | None = None,
    form: Form = "wide",
    counts: Counts = "mixpanel",
    has_breakdown: bool = True,
    has_hierarchy: bool = True,
    has_updated_at: bool = True,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Write both files, replacing those that are there once the new ones are complete.

    The last day is `end`; `computed_at` is by default three o'clock the
    morning after. The first file is in WAL mode. `progress` is told the share
    done, 0 to 1. `meta_database` None: only the first file.
    """
    size = SIZES[size] if isinstance(size, str) else size
    stamp = computed_at or f"{end + timedelta(days=1)} 03:00:00"
    tree = grow_tree(size.campaigns, size.adsets, size.ads, seed=seed)
    variant = Variant(form, counts, has_breakdown, has_hierarchy, has_updated_at)
    with building(database, wal=True) as db:
        create_tables(db, variant)
        first = end - timedelta(days=size.days - 1)
        _write_mappings(db, tree, variant, first, end, stamp)
        if meta_database is None:
            _write_days(db, None, tree, size, end, seed, stamp, has_breakdown, progress)
        else:
            with building(meta_database, wal=False) as meta:
                create_meta_tables(meta)
                _write_days(db, meta, tree, size, end, seed, stamp, has_breakdown, progress)
        create_indexes(db)
    if progress:
        progress(1.0)


def ads_of_day(tree: Tree, day: date, *, density: float, seed: int) -> dict[str, Figures]:
    """What each active ad did on that day, whatever other days there are."""
    rng = Random(f"{seed} {day}")
    ads = (ad.id for campaign in tree for adset in campaign.adsets for ad in adset.ads)
    return {ad_id: draw(traits_of(ad_id), rng) for ad_id in ads if rng.random() < density}


def _write_days(
    db: Connection,
    meta: Connection | None,
    tree: Tree,
    size: Size,
    end: date,
    seed: int,
    stamp: str,
    has_breakdown: bool,
    progress: Callable[[float], None] | None,
) -> None:
    owners = {
        ad.id: (campaign, adset, ad)
        for campaign in tree
        for adset in campaign.adsets
        for ad in adset.ads
    }
    divided = size.days if size.breakdown_days is None else size.breakdown_days
    for back in range(size.days - 1, -1, -1):
        day = end - timedelta(days=back)
        ads = ads_of_day(tree, day, density=size.density, seed=seed)
        is_divided = back < divided and (has_breakdown or meta is not None)
        sums = gather(tree, ads, has_breakdown=is_divided)
        write_rows(db, "daily_mixpanel_metrics", DAILY, daily_rows(sums, str(day), stamp))
        if is_divided and has_breakdown:
            parts = breakdown_rows(sums, str(day), stamp)
            write_rows(db, "daily_mixpanel_metrics_breakdown", BREAKDOWN, parts)
        if meta is not None:
            _write_meta_day(meta, owners, sums, str(day))
        if progress:
            # The indexes come after the days.
            progress(0.9 * (size.days - back) / size.days)


def _write_mappings(
    db: Connection, tree: Tree, variant: Variant, first: date, end: date, stamp: str
) -> None:
    named: list[tuple[str, Campaign | Adset | Ad]] = []
    hierarchy: list[Row] = []
    for campaign in tree:
        named.append(("campaign", campaign))
        for adset in campaign.adsets:
            named.append(("adset", adset))
            for ad in adset.ads:
                named.append(("ad", ad))
                line = (ad.id, adset.id, campaign.id, 1.0, str(first), str(end), stamp, stamp)
                hierarchy.append(line)
    names = [(level, own.id, own.name, 10, str(end), stamp, stamp) for level, own in named]
    stamps = ("created_at", "updated_at")
    name_columns = ("entity_type", "entity_id", "canonical_name", "frequency_count")
    write_rows(db, "id_name_mapping", (*name_columns, "last_seen_date", *stamps), names)
    if variant.has_hierarchy:
        parents = ("ad_id", "adset_id", "campaign_id", "relationship_confidence")
        seen = ("first_seen_date", "last_seen_date")
        write_rows(db, "id_hierarchy_mapping", (*parents, *seen, *stamps), hierarchy)


def _write_meta_day(
    meta: Connection, owners: dict[str, tuple[Campaign, Adset, Ad]], day: Day, on: str
) -> None:
    """What Meta counted for the ads: the same numbers as the meta_* columns."""

    def line(ad_id: str, key: tuple[str, ...], own: Figures) -> Row:
        campaign, adset, ad = owners[ad_id]
        names = (adset.id, campaign.id, ad.name, adset.name, campaign.name)
        return (ad_id, on, *key, *names, own[2] / 100, *own[3:7])

    entities = [line(i, (), own) for (level, i), own in day.entities.items() if level == "ad"]
    meta.executemany(_meta_insert("ad_performance_daily", 12), entities)
    by_kind: dict[str, list[Row]] = {kind: [] for kind in VALUES}
    for (level, ad_id, kind, value), own in day.parts.items():
        if level == "ad":
            by_kind[kind].append(line(ad_id, (value,), own))
    for kind, rows in by_kind.items():
        meta.executemany(_meta_insert(f"ad_performance_daily_{kind}", 13), rows)


def _meta_insert(table: str, columns: int) -> str:
    return f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})"
