"""`make bench`: measures on this machine and prints tables that docs/benchmarks.md keeps."""

import argparse
import platform
import sqlite3
import tempfile
from pathlib import Path

import aiohttp
import apsw
from rich.console import Console
from rich.table import Table

from bench.hits import END, HitRow, measure_hits, measure_strict
from bench.idle import measure_idle
from bench.looks import measure_looks
from bench.misses import LegacyRow, MissRow, measure_legacy, measure_misses
from bench.shadow import ShadowRow, measure_shadow
from bench.warmup import measure_warmup
from proxy.demo.data import make_demo

SECTIONS = ("hits", "misses", "legacy", "idle", "warmup", "looks", "shadow")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--rounds", type=int, default=5, help="pairs per comparison")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each half of a pair")
    parser.add_argument("--samples", type=int, default=15, help="questions per kind of miss")
    asked = parser.parse_args()
    sections = asked.sections or SECTIONS
    console = Console(width=110)
    console.print(
        f"Python {platform.python_version()}, aiohttp {aiohttp.__version__}, "
        f"SQLite {apsw.sqlite_lib_version()} (sqlite3: {sqlite3.sqlite_version})"
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        if "hits" in sections:
            console.print(_hit_table(measure_hits(folder, asked.rounds, asked.seconds)))
            row = measure_strict(folder, asked.rounds, asked.seconds)
            console.print(_hit_table([row]))
        if "shadow" in sections:
            shadowed = measure_shadow(folder, asked.rounds, asked.seconds)
            console.print(_hit_table([half for row in shadowed for half in (row.off, row.full)]))
            console.print(_shadow_table(shadowed))
        if "looks" in sections:
            with console.status("making demo data of size l"):
                looked = measure_looks(folder, asked.rounds)
            for look in looked:
                console.print(f"Looks, size l: {look.told()}")
        if {"misses", "legacy", "idle", "warmup"} & set(sections):
            databases = {}
            for size in ("s", "m"):
                databases[size] = folder / f"{size}.db"
                with console.status(f"making demo data of size {size}"):
                    make_demo(databases[size], folder / f"{size}-meta.db", size=size, end=END)
            if "misses" in sections:
                console.print(_miss_table(measure_misses(databases, asked.samples)))
            if "idle" in sections:
                share = measure_idle(databases["m"], 10.0)
                console.print(f"Idle, size m, strict: {share:.2f} % of a core over 10 s")
            if "warmup" in sections:
                # Last but one: its pipeline runs rewrite the newest days.
                warm = measure_warmup(databases["m"], asked.rounds)
                console.print(
                    f"Warm-up, size m, after three-day runs: the {warm.questions} most valuable"
                    f" questions ({warm.stale} stale) warm again after {warm.median_s:.2f} s"
                    f" (median; worst {warm.worst_s:.2f}), computing {warm.computing_s:.2f} s of it"
                )
            if "legacy" in sections:
                rows = measure_legacy(databases["s"], folder / "s-meta.db", asked.samples)
                console.print(_legacy_table(rows))


def _hit_table(rows: list[HitRow]) -> Table:
    table = Table(title="Hits: requests/s, medians over interleaved pairs", title_justify="left")
    for heading in ("", "body", "proxy", "other", "ratio", "CPU µs", "other's", "p99 ms"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.name, f"{row.body_bytes:,}", f"{row.ours.rate:,.0f}", f"{row.theirs.rate:,.0f}",
            f"{row.ratio:.2f}", f"{row.ours.cpu_us:.1f}", f"{row.theirs.cpu_us:.1f}",
            f"{row.ours.p99_ms:.2f}",
        )  # fmt: skip
    return table


def _shadow_table(rows: list[ShadowRow]) -> Table:
    table = Table(title="At rate 1 meanwhile", title_justify="left")
    for heading in ("body", "compared", "dropped", "errors and discarded"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            f"{row.full.body_bytes:,}", f"{row.compared:,}", f"{row.dropped:,}", f"{row.lost:,}"
        )
    return table


def _miss_table(rows: list[MissRow]) -> Table:
    table = Table(
        title="Misses over HTTP against stepping the statement with sqlite3, medians",
        title_justify="left",
    )
    for heading in ("size", "days", "depth", "shape", "HTTP ms", "sqlite3 ms", "ratio", "body"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.size, str(row.days), str(row.depth), row.shape, f"{row.http_ms:.2f}",
            f"{row.stepping_ms:.2f}", f"{row.ratio:.2f}", f"{row.body_bytes:,}",
        )  # fmt: skip
    return table


def _legacy_table(rows: list[LegacyRow]) -> Table:
    table = Table(title="Against the demo legacy API, size s, campaigns", title_justify="left")
    for heading in ("days", "miss ms", "hit ms", "legacy ms", "legacy / miss"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            str(row.days), f"{row.miss_ms:.2f}", f"{row.hit_ms:.2f}", f"{row.legacy_ms:.1f}",
            f"{row.legacy_ms / row.miss_ms:.0f}",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    main()
