"""What the shadow costs hits on the split route: off, and at rate 1.0 with its queue full."""

import urllib.request
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from bench.hits import END, HitRow, ask, compare, question, raw_request
from bench.servers import Server, bare, proxy
from proxy.demo.data import Size, make_demo

PATH = "/api/dashboard/analytics/data"
_CAMPAIGNS = {"5 KB": 4, "50 KB": 38, "500 KB": 380}


@dataclass(frozen=True, slots=True)
class ShadowRow:
    """`off`: rate 0 over a proxy that has no legacy to ask. `full`: rate 1.0 over rate 0.

    The counts are of rate 1.0; `lost` counts errors and what was discarded.
    """

    off: HitRow
    full: HitRow
    compared: int
    dropped: int
    lost: int


def measure_shadow(folder: Path, rounds: int, seconds: float) -> list[ShadowRow]:
    """The legacy is a handler that sends our own bytes: it costs little and agrees with us."""
    rows = []
    for name, campaigns in _CAMPAIGNS.items():
        database = folder / f"shadow-{campaigns}.db"
        make_demo(database, None, size=Size(campaigns, 1, 1, 3), end=END, has_breakdown=False)
        with ExitStack() as stack:
            alone = stack.enter_context(_proxy(database, folder / f"{name}-alone.db"))
            asked = question(group_by="campaign")
            body = ask(alone.port, asked, PATH)
            copy = folder / f"legacy-{campaigns}.json"
            copy.write_bytes(body)
            legacy = stack.enter_context(bare(copy))
            url = f"http://127.0.0.1:{legacy.port}"
            off = stack.enter_context(_proxy(database, folder / f"{name}-off.db", legacy_url=url))
            full = stack.enter_context(
                _proxy(database, folder / f"{name}-full.db", legacy_url=url, shadow_rate="1")
            )
            for server in (off, full):
                ask(server.port, asked, PATH)
            raw = raw_request(asked, PATH)
            size = len(body)
            off_row = compare(f"{name}: rate 0 / no legacy", off, alone, raw, size, rounds, seconds)
            full_row = compare(f"{name}: rate 1 / rate 0", full, off, raw, size, rounds, seconds)
            compared = _results(full, "matched", "ignored", "mismatched")
            dropped = _metric(full, "proxy_shadow_dropped_total")
            lost = _results(full, "error", "discarded")
            rows.append(ShadowRow(off_row, full_row, compared, dropped, lost))
    return rows


def _proxy(database: Path, state: Path, **settings: str) -> AbstractContextManager[Server]:
    """With a state file of its own: else they would follow each other's shadow rate."""
    return proxy(database, state=str(state), **settings)


def _results(server: Server, *outcomes: str) -> int:
    name = "proxy_shadow_results_total"
    return sum(_metric(server, name, outcome=outcome) for outcome in outcomes)


def _metric(server: Server, name: str, **labels: str) -> int:
    url = f"http://127.0.0.1:{server.admin_port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as response:
        text = response.read().decode()
    return int(
        sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
    )
