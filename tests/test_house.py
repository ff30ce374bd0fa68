"""Holds proxy/ to its plan: which file stands on which floor, and who may import whom."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "proxy"
MOST_LINES = 300

# A file imports from lower floors only; on its own floor only from its own room,
# and never in a circle. A new file gets a line here: say which room it is.
FLOORS: dict[str, int] = {
    "__init__": 0,
    "access/__init__": 0,
    "access/circuit_gate": 4,
    "access/credentials": 2,
    "access/doorman": 5,
    "access/gate": 3,
    "access/legacy_gate": 4,
    "access/verdict": 2,
    "answer": 3,
    "app": 9,
    "app_access": 9,
    "app_admin": 9,
    "app_cached": 9,
    "app_checks": 9,
    "app_console": 9,
    "app_ground": 9,
    "app_operators": 9,
    "app_path": 9,
    "app_public": 9,
    "app_records": 9,
    "app_yardstick": 9,
    "app_listening": 9,
    "app_migration": 9,
    "app_openapi": 9,
    "app_shadow": 9,
    "app_start": 9,
    "app_workers": 9,
    "app_tracing": 9,
    "audit": 1,
    "background": 0,
    "live/broadcast": 1,
    "cached_answers": 7,
    "cached_reply": 0,
    "cached_route": 5,
    "live/calendar_days": 3,
    "canonical": 2,
    "circuit": 1,
    "cli": 11,
    "clock": 0,
    "compression": 1,
    "live/counters": 1,
    "live/day_stamps": 2,
    "day_states": 3,
    "document": 2,
    "errors": 0,
    "explaining": 6,
    "freshness": 0,
    "live/history": 3,
    "held_lease": 4,
    "jobs": 1,
    "keys": 2,
    "live_loads": 1,
    "looks": 1,
    "hang_up": 0,
    "logs": 1,
    "logs_human": 0,
    "__main__": 12,
    "measures": 1,
    "openapi/__init__": 0,
    "openapi/*": 7,
    "live/overheard": 3,
    "live/overview": 2,
    "patience": 0,
    "payload": 0,
    "popularity": 2,
    "query": 1,
    "read_through": 6,
    "reading": 4,
    "rebuild": 2,
    "live/runs": 2,
    "recount": 2,
    "rollout/__init__": 0,
    "rollout/comparison": 2,
    "rollout/result": 1,
    "rollout/state": 2,
    "rollout/shared_state": 3,
    "rollout/state_file": 4,
    "rollout/redis_state": 4,
    "rollout/steering": 4,
    "rollout/compare": 2,
    "rollout/rules": 2,
    "rollout/alignment": 2,
    "rollout/wilson": 0,
    "rollout/contract": 3,
    "rollout/redaction": 1,
    "rollout/registers": 1,
    "rollout/tallies": 3,
    "rollout/ledger": 3,
    "rollout/ledger_file": 4,
    "rollout/redis_ledger": 4,
    "rollout/journal": 4,
    "rollout/evidence": 3,
    "rollout/guard": 4,
    "rollout/rollout": 5,
    "rollout/webhook": 4,
    "rollout/shadow": 5,
    "rollout/split": 1,
    "rollout/state_codec": 3,
    "rollout/own_file": 3,
    "rollout/capture": 2,
    "rollout/comparing": 4,
    "rollout/differences": 2,
    "rollout/outcome": 4,
    "rollout/pace": 1,
    "rollout/pending": 3,
    "rollout/rate_modes": 3,
    "rollout/sample_codec": 3,
    "rollout/places": 2,
    "rollout/ramp": 4,
    "rollout/turn": 4,
    "rollout/sides": 4,
    "rollout/summary": 3,
    "rollout/uncompared": 1,
    "rollout/unpacking": 3,
    "backends/written": 4,
    "section": 1,
    "settings": 1,
    "settings_errors": 1,
    "settings_file": 1,
    "settings_tables": 1,
    "settings_values": 1,
    "settling": 1,
    "shapes": 2,
    "shared_flight": 5,
    "single_flight": 1,
    "telemetry": 0,
    "timestamps": 0,
    "tracing/traced": 7,
    "live/__init__": 0,
    "tracing/__init__": 0,
    "tracing/tracer": 0,
    "tracing/export": 1,
    "tracing/http": 0,
    "tracing/otel": 1,
    "tracing/parent": 0,
    "tracing/provider": 1,
    "tracing/request": 0,
    "tracing/wanted": 0,
    "translation": 3,
    "sparkline": 2,
    "tree": 3,
    "usual": 2,
    "warmup": 7,
    "warmup_replay": 7,
    "watermarks": 5,
    "workers/__init__": 0,
    "workers/backoff": 1,
    "workers/counted": 2,
    "workers/counts": 5,
    "workers/folders": 1,
    "workers/leash": 3,
    "workers/link": 3,
    "workers/listeners": 2,
    "workers/merging": 1,
    "workers/orders": 2,
    "workers/post": 4,
    "workers/process": 5,
    "workers/roster": 2,
    "workers/share": 2,
    "workers/supervisor": 7,
    "workers/totals": 1,
    "workers/watch": 6,
    "backends/__init__": 0,
    "backends/aggregates": 3,
    "backends/backend": 3,
    "backends/commits": 4,
    "backends/database": 4,
    "backends/legacy": 4,
    "backends/looks": 4,
    "backends/plans": 4,
    "backends/reader": 4,
    "backends/schema": 3,
    "backends/sqlite": 4,
    "backends/stamps": 4,
    "backends/statement": 3,
    "backends/survey": 4,
    "cache/__init__": 0,
    "cache/codec": 3,
    "cache/duty": 3,
    "cache/entry": 2,
    "cache/file_duty": 4,
    "cache/lease": 3,
    "cache/memory": 4,
    "cache/packing": 3,
    "cache/redis": 4,
    "cache/redis_connection": 3,
    "cache/redis_duty": 4,
    "cache/redis_leases": 4,
    "cache/redis_scan": 3,
    "cache/store": 3,
    "cache/tiered": 4,
    "commands/__init__": 0,
    "commands/*": 10,
    "demo/__init__": 0,
    "demo/*": 8,
    "handlers/__init__": 0,
    "handlers/*": 8,
}

# Someone else's system, or a tier: each knows its protocol and none of the others.
ADAPTERS = {
    "access/legacy_gate",
    "backends/legacy",
    "backends/looks",
    "backends/sqlite",
    "backends/stamps",
    "cache/memory",
    "cache/redis",
    "cache/redis_duty",
    "cache/redis_leases",
    "rollout/ledger_file",
    "rollout/redis_ledger",
    "rollout/redis_state",
    "rollout/state_file",
    "rollout/webhook",
    "tracing/export",
    "tracing/otel",
}
COMPOSERS = {
    "app_access",
    "app_cached",
    "app_checks",
    "app_console",
    "app_ground",
    "app_migration",
    "app_operators",
    "app_path",
    "app_records",
    "app_shadow",
    "app_tracing",
    "app_yardstick",
    "cache/tiered",
}

# The demo is a deployment to try the proxy on. It must not lean on what it tries.
HIGHEST_FLOOR_FOR_DEMO = 1


def files() -> dict[str, Path]:
    found = sorted(ROOT.rglob("*.py"))
    return {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in found}


def floor_of(name: str, floors: dict[str, int] = FLOORS) -> int | None:
    if name in floors:
        return floors[name]
    fitting = [floor for pattern, floor in floors.items() if fnmatch(name, pattern)]
    return fitting[0] if fitting else None


def room_of(name: str) -> str:
    """The package; at the top level the first word: settings_file is in settings' room."""
    return name.rpartition("/")[0] or name.lstrip("_").split("_")[0]


def imports_in(source: str, known: set[str]) -> Iterator[str]:
    """Names of the project's files that `source` imports, anywhere and under any condition."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"line {node.lineno}: write the import in full, from proxy")
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            if module == "proxy" or module.startswith("proxy."):
                yield file_of(module.split(".")[1:], known)


def file_of(parts: list[str], known: set[str]) -> str:
    """The file behind a dotted name whose last words may be names inside that file."""
    for length in range(len(parts), -1, -1):
        path = "/".join(parts[:length])
        package = f"{path}/__init__" if path else "__init__"
        for name in (path, package):
            if name in known:
                return name
    raise AssertionError(f"no file for {parts}")


def edges() -> dict[str, set[str]]:
    known = set(files())
    return {
        name: set(imports_in(path.read_text(encoding="utf-8"), known)) - {name}
        for name, path in files().items()
    }


def misplaced(imports: dict[str, set[str]], floors: dict[str, int] = FLOORS) -> list[str]:
    """Imports that go up, or sideways into another room."""
    wrong = []
    for name, targets in imports.items():
        for target in sorted(targets):
            here, there = floor_of(name, floors), floor_of(target, floors)
            if here is None or there is None or there < here:
                continue
            if there > here or room_of(name) != room_of(target):
                wrong.append(f"{name} ({here}) imports {target} ({there})")
    return wrong


def circle_in(imports: dict[str, set[str]]) -> list[str]:
    """The files of one import cycle, or nothing."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(imports.get(name, ())):
            if found := walk(target, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in imports if (found := walk(name, []))), [])


def test_every_file_is_in_the_plan() -> None:
    for name in files():
        assert floor_of(name) is not None, f"proxy/{name}.py: say which room it is, in FLOORS"


def test_imports_go_to_lower_floors_only() -> None:
    assert misplaced(edges()) == []


def test_nothing_imports_in_a_circle() -> None:
    assert circle_in(edges()) == []


def test_only_the_composition_root_imports_adapters() -> None:
    for name, targets in edges().items():
        if name not in COMPOSERS:
            assert targets & ADAPTERS == set(), name


def test_every_adapter_of_the_plan_is_there() -> None:
    assert set(files()) >= ADAPTERS


def test_the_demo_leans_on_the_low_floors_only() -> None:
    for name, targets in edges().items():
        if name.startswith("demo/"):
            for target in targets:
                floor = floor_of(target)
                is_low = floor is not None and floor <= HIGHEST_FLOOR_FOR_DEMO
                assert target.startswith("demo/") or is_low, f"{name} imports {target}"


def test_no_file_is_longer_than_it_may_be() -> None:
    for name, path in files().items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES, f"proxy/{name}.py has {lines} lines: look for a second noun"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import proxy.cache.entry", {"cache/entry"}),
        ("from proxy.cache import entry", {"cache/entry"}),
        ("from proxy.cache.entry import Entry", {"cache/entry"}),
        ("from proxy import __version__", {"__init__"}),
        ("from proxy import cache", {"cache/__init__"}),
        ("def f():\n    from proxy.errors import ProxyError", {"errors"}),
        ("if TYPE_CHECKING:\n    from proxy.errors import ProxyError", {"errors"}),
        ("import proxyless\nfrom aiohttp import web", set()),
    ],
)
def test_an_import_is_seen_however_it_is_written(source: str, found: set[str]) -> None:
    known = {"__init__", "errors", "cache/__init__", "cache/entry"}
    assert set(imports_in(source, known)) == found


def test_a_relative_import_is_refused() -> None:
    with pytest.raises(AssertionError, match="write the import in full"):
        list(imports_in("from .errors import ProxyError", {"errors"}))


def test_upward_and_sideways_imports_are_seen() -> None:
    floors = {"low": 0, "low_other": 0, "beside": 0, "high": 1}
    imports = {"low": {"high", "low_other", "beside"}, "high": {"low"}}
    assert misplaced(imports, floors) == ["low (0) imports beside (0)", "low (0) imports high (1)"]


def test_a_circle_is_seen() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
