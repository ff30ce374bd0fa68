"""The demo's pipeline: writes as a real one does, a few recent days or everything anew.

Run it by itself with `python -m proxy.demo.pipeline --help`.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import count, groupby
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Annotated

import typer

from proxy.clock import Clock, SystemClock
from proxy.demo.figures import Figures, figures, traits_of
from proxy.demo.rows import BREAKDOWN, DAILY, DayOfAds, Row, breakdown_rows, daily_rows, gather
from proxy.demo.tables import columns_of, write_rows
from proxy.demo.tree import Ad, Adset, Campaign, Tree

DAILY_TABLE = "daily_mixpanel_metrics"
BREAKDOWN_TABLE = "daily_mixpanel_metrics_breakdown"
READ = (
    "entity_id",
    "trial_users_count",
    "purchase_users_count",
    "meta_spend",
    "meta_impressions",
    "meta_clicks",
    "meta_trial_count",
    "meta_purchase_count",
    "trial_conversion_rate_actual",
    "trial_refund_rate_actual",
    "purchase_refund_rate_actual",
)


def run_pipeline(
    database: Path,
    *,
    now: datetime,
    days: int = 3,
    seed: int = 1,
    between: Callable[[], None] | None = None,
) -> None:
    """Rewrite the newest `days` dates with users that came or went; what Meta counted stays.

    The daily rows are one commit, the breakdown rows a later one; `between`
    is called between them. `computed_at` becomes `now`. Only for data that
    data.py made with a hierarchy: everything is added up from the ads.
    """
    stamp = _stamp(now)
    rng = Random(f"pipeline {seed} {stamp}")
    with _open(database) as db:
        tree = _read_tree(db)
        sums = {
            day: gather(tree, _changed(_read_ads(db, day), rng), has_breakdown=True)
            for day in _newest_days(db, days)
        }
        with _commit(db):
            for day, own in sums.items():
                write_rows(db, DAILY_TABLE, DAILY, daily_rows(own, day, stamp))
        if between:
            between()
        if columns_of(db, BREAKDOWN_TABLE):
            with _commit(db):
                for day, own in sums.items():
                    parts = breakdown_rows(own, day, stamp)
                    write_rows(db, BREAKDOWN_TABLE, BREAKDOWN, parts)


def empty(database: Path) -> None:
    """Delete all rows of both daily tables in one commit; `refill` knows where they went."""
    with _open(database) as db, _stash(db, database):
        tables = [name for name in (DAILY_TABLE, BREAKDOWN_TABLE) if columns_of(db, name)]
        with _commit(db):
            for table in tables:
                db.execute(f"DROP TABLE IF EXISTS stash.{table}")
                db.execute(f"CREATE TABLE stash.{table} AS SELECT * FROM main.{table}")
        with _commit(db):
            for table in tables:
                db.execute(f"DELETE FROM main.{table}")


def refill(database: Path, *, now: datetime, between: Callable[[], None] | None = None) -> None:
    """Put back what `empty` took: the daily rows in one commit, the breakdown rows in a later one.

    The numbers are those from before, `computed_at` and the rows' ids are
    new. `between` is called between the commits.
    """
    with _open(database) as db, _stash(db, database):
        for table in (DAILY_TABLE, BREAKDOWN_TABLE):
            columns = columns_of(db, table)
            if not columns:
                continue
            if between and table == BREAKDOWN_TABLE:
                between()
            kept = ", ".join(name for name in columns if name not in ("metric_id", "computed_at"))
            with _commit(db):
                db.execute(
                    f"INSERT INTO main.{table} ({kept}, computed_at)"
                    f" SELECT {kept}, ? FROM stash.{table}",
                    (_stamp(now),),
                )
    _stash_path(database).unlink()


async def keep_running(
    database: Path,
    *,
    clock: Clock,
    interval_s: float = 5.0,
    runs: int | None = None,
    days: int = 3,
    seed: int = 1,
    rebuild_every: int = 0,
    silence_s: float = 10.0,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """A run every `interval_s` seconds, `runs` of them or without end.

    Every `rebuild_every`th run (0: none) empties the tables and refills them
    `silence_s` seconds later. Cancelled in that silence, its thread refills
    at once; closing the loop's executor waits for it. `tell` may be called
    from that thread.
    """
    for number in count(1) if runs is None else range(1, runs + 1):
        if rebuild_every and number % rebuild_every == 0:
            is_cancelled = threading.Event()

            def rebuild(is_cancelled: threading.Event = is_cancelled, run: int = number) -> None:
                empty(database)
                tell(f"run {run}: emptied, refilling in {silence_s:g} s")
                is_cancelled.wait(silence_s)
                refill(database, now=_now(clock))
                tell(f"run {run}: refilled")

            try:
                await asyncio.to_thread(rebuild)
            finally:
                is_cancelled.set()
        else:
            now = _now(clock)
            await asyncio.to_thread(run_pipeline, database, now=now, days=days, seed=seed)
            tell(f"run {number}: the last {days} days rewritten")
        if number != runs:
            await asyncio.sleep(interval_s)


def _changed(ads: list[Row], rng: Random) -> DayOfAds:
    """The day's ads with some users more or fewer."""
    return {str(row[0]): _redrawn(row, rng) for row in ads}


def _redrawn(row: Row, rng: Random) -> Figures:
    ad_id, *numbers = row
    traits = traits_of(str(ad_id))
    trials, purchases, spend, impressions, clicks, meta_trials, meta_purchases, *rates = (
        float(str(number or 0)) for number in numbers
    )
    conversion, trial_refund, purchase_refund = (round(rate * 10_000) for rate in rates)
    spend_cents = round(spend * 100)
    meta = (spend_cents, int(impressions), int(clicks), int(meta_trials), int(meta_purchases))
    return figures(
        traits,
        meta=meta,
        trials=max(0, int(trials) + rng.choice((-1, 0, 1, 2))),
        purchases=max(0, int(purchases) + rng.choice((-1, 0, 0, 1))),
        conversion=conversion or traits.conversion,
        trial_refund=trial_refund or traits.trial_refund,
        purchase_refund=purchase_refund or traits.purchase_refund,
    )


def _read_ads(db: sqlite3.Connection, day: str) -> list[Row]:
    """The columns READ of that day's ads; 0 for what a narrow table lacks."""
    present = columns_of(db, DAILY_TABLE)
    listed = ", ".join(name if name in present else "0" for name in READ)
    return db.execute(
        f"SELECT {listed} FROM {DAILY_TABLE} WHERE date = ? AND entity_type = 'ad'"
        " ORDER BY entity_id",
        (day,),
    ).fetchall()


def _read_tree(db: sqlite3.Connection) -> Tree:
    lines = db.execute(
        "SELECT campaign_id, adset_id, ad_id FROM id_hierarchy_mapping ORDER BY 1, 2, 3"
    ).fetchall()
    return tuple(
        Campaign(
            campaign_id,
            "",
            tuple(
                Adset(adset_id, "", tuple(Ad(ad_id, "") for _, _, ad_id in ads))
                for adset_id, ads in groupby(adsets, itemgetter(1))
            ),
        )
        for campaign_id, adsets in groupby(lines, itemgetter(0))
    )


def _newest_days(db: sqlite3.Connection, days: int) -> list[str]:
    [(newest,)] = db.execute(f"SELECT MAX(date) FROM {DAILY_TABLE}")
    if newest is None:
        return []
    last = date.fromisoformat(newest)
    return [str(last - timedelta(days=back)) for back in range(days)]


@contextmanager
def _open(database: Path) -> Iterator[sqlite3.Connection]:
    uri = f"{database.resolve().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)) as db:
        yield db


@contextmanager
def _commit(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


@contextmanager
def _stash(db: sqlite3.Connection, database: Path) -> Iterator[None]:
    db.execute("ATTACH ? AS stash", (f"{_stash_path(database).resolve().as_uri()}?mode=rwc",))
    yield
    db.execute("DETACH stash")


def _stash_path(database: Path) -> Path:
    return database.with_name(f"{database.name}.emptied")


def _stamp(now: datetime) -> str:
    return now.strftime("%Y-%m-%d %H:%M:%S.%f")


def _now(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock.now(), UTC)


def main(
    database: Annotated[Path, typer.Option(help="The pre-computed tables to write to.")],
    interval: Annotated[float, typer.Option(help="Seconds between two runs.")] = 5.0,
    runs: Annotated[int | None, typer.Option(help="How many; without it, no end.")] = None,
    days: Annotated[int, typer.Option(help="How many of the newest days to rewrite.")] = 3,
    seed: Annotated[int, typer.Option(help="Equal seeds and times write equal rows.")] = 1,
    rebuild_every: Annotated[int, typer.Option(help="Empty and refill each so many runs.")] = 0,
    silence: Annotated[float, typer.Option(help="Seconds the tables then stay empty.")] = 10.0,
) -> None:
    """Play the pipeline on demo data until interrupted."""
    work = keep_running(
        database,
        clock=SystemClock(),
        interval_s=interval,
        runs=runs,
        days=days,
        seed=seed,
        rebuild_every=rebuild_every,
        silence_s=silence,
        tell=typer.echo,
    )
    asyncio.run(work)


if __name__ == "__main__":
    typer.run(main)
