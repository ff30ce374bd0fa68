"""Alert rules, dashboard and runbook name only metrics, labels, words and pages that exist."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from proxy.handlers.workers_operations import WorkerMetrics
from proxy.telemetry import Telemetry
from tests.programs import program
from tests.public_port import ask, get, make_database, post, serving
from tests.redis_server import RedisServer

ROOT = Path(__file__).parent.parent
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
RUNBOOK = ROOT / "docs" / "operations.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]

# What Prometheus itself adds to each series, and the one metric it makes of each scrape.
ADDED_LABELS = frozenset({"job", "instance"})
UP = {"up": ADDED_LABELS}
MISS_S = 0.05


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


RULES: list[dict[str, Any]] = [
    rule for group in load(PROMETHEUS / "alerts.yml")["groups"] for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards/dashboard-proxy.json").read_text())
PANELS: list[dict[str, Any]] = [p for p in DASHBOARD["panels"] if p["type"] != "row"]
CONFIG: dict[str, Any] = load(PROMETHEUS / "prometheus.yml")
COMPOSE: dict[str, Any] = load(ROOT / "docker-compose.yml")["services"]


@cache
def exposed() -> Mapping[str, frozenset[str]]:
    """Series -> its labels, as /metrics shows them once each metric has been counted once."""
    telemetry = Telemetry()
    for metric in vars(telemetry).values():
        if isinstance(metric, MetricWrapperBase) and metric._labelnames:
            metric.labels(*("x" for _ in metric._labelnames))
    text = generate_latest(telemetry.registry).decode()
    # What a supervisor of several workers adds of its own.
    text += generate_latest(WorkerMetrics().registry).decode()
    samples = (s for family in text_string_to_metric_families(text) for s in family.samples)
    return {sample.name: frozenset(sample.labels) for sample in samples}


@cache
def families() -> frozenset[str]:
    """The metrics as people write them: with _total, without _bucket, _sum and _count."""
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed()}
    return frozenset(name for name in names if not name.endswith("_created"))


@cache
def words() -> frozenset[str]:
    """Every word that the program can put into a label: its texts, and those of its metrics."""
    found = set()
    for path in (ROOT / "proxy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    described = " ".join(family.documentation for family in Telemetry().registry.collect())
    return frozenset(found | set(re.findall(r"\w+", described)))


@dataclass(frozen=True, slots=True)
class Selected:
    """One series that a query asks for, with the words that each label may have."""

    name: str
    labels: Mapping[str, frozenset[str]]


def parse(query: str) -> promql_parser.Expr:
    """`query` as Prometheus would get it, with Grafana's own variables filled in."""
    filled = query.replace("$__rate_interval", "5m").replace("$__range", "1h")
    return promql_parser.parse(filled)


def nodes(query: str) -> list[promql_parser.Expr]:
    found: list[promql_parser.Expr] = []
    promql_parser.walk(parse(query), found.append)
    return found


def selected(query: str) -> list[Selected]:
    found = []
    for node in nodes(query):
        if isinstance(node, promql_parser.VectorSelector):
            assert node.name is not None, query
            labels = {m.name: frozenset(m.value.split("|")) for m in node.matchers.matchers}
            found.append(Selected(node.name, labels))
    return found


def grouped(query: str) -> set[str]:
    """Labels that aggregations and matchings in `query` go by."""
    found: set[str] = set()
    for node in nodes(query):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            found |= set(node.modifier.labels)
        elif isinstance(node, promql_parser.BinaryExpr) and node.modifier is not None:
            matching = node.modifier.matching
            found |= set(matching.labels if matching is not None else ())
    return found


def wrong_in(query: str) -> list[str]:
    """What `query` names that does not exist."""
    series = {**exposed(), **UP}
    wrong = []
    known: set[str] = set(ADDED_LABELS)
    for one in selected(query):
        if one.name not in series:
            wrong.append(one.name)
            continue
        known |= series[one.name]
        for label, values in one.labels.items():
            if label not in series[one.name] | ADDED_LABELS:
                wrong.append(f"{one.name}{{{label}}}")
            elif label not in ADDED_LABELS:
                wrong += [f"{label}={value}" for value in values - words()]
    return wrong + sorted(grouped(query) - known)


def queries() -> Iterator[tuple[str, str]]:
    """Where it stands -> each query that is shipped."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for note in DASHBOARD["annotations"]["list"]:
        yield note["name"], note["expr"]


QUERIES = dict(queries())


@pytest.mark.parametrize("where", QUERIES)
def test_every_query_names_only_what_the_metrics_have(where: str) -> None:
    assert wrong_in(QUERIES[where]) == []


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("rate(proxy_requests_totals[5m])", ["proxy_requests_totals"]),
        ("rate(proxy_requests[5m])", ["proxy_requests"]),
        ('proxy_entries{tier="memory"}', ["proxy_entries{tier}"]),
        ('rate(proxy_requests_total{source=~"optimized|optimised"}[5m])', ["source=optimised"]),
        ("sum by (rute) (rate(proxy_requests_total[5m]))", ["rute"]),
        ("proxy_entries / on (tier) proxy_entry_bytes", ["tier"]),
        ("rate(proxy_request_seconds_bucket[$__rate_interval])", []),
    ],
)
def test_what_does_not_exist_would_be_seen(query: str, wrong: list[str]) -> None:
    assert wrong_in(query) == wrong


@pytest.mark.parametrize("where", QUERIES)
def test_counters_are_looked_at_as_rates_and_gauges_as_they_are(where: str) -> None:
    calls = re.findall(r"(?:rate|increase|resets)\((\w+)", QUERIES[where])
    for name in calls:
        assert re.search(r"_(total|bucket|sum|count)$", name), name
    bare = {one.name for one in selected(QUERIES[where])} - set(calls)
    # The first rollback of a process brings its series with it: it is no increase.
    assert {name for name in bare if re.search(r"_(total|bucket|sum|count)$", name)} == set()


# Alerts and their runbook


def anchors(page: Path) -> list[str]:
    """What a link to a heading of `page` may say, as the usual hosts make it."""
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    headings = re.findall(r"(?m)^#+ (.*)$", text)
    return [re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-") for one in headings]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_how_bad_it_is_and_where_help_stands(rule: dict[str, Any]) -> None:
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert ROOT / page == RUNBOOK
    assert anchor in anchors(RUNBOOK)
    assert anchor == rule["alert"].lower()


def test_every_alert_has_its_page_in_the_runbook_and_no_other_has() -> None:
    text = RUNBOOK.read_text(encoding="utf-8").split("\n## Alerts\n")[1].split("\n## ")[0]
    sections = re.split(r"(?m)^### ", text)[1:]
    explained = {section.split("\n")[0]: section for section in sections}
    assert list(explained) == [rule["alert"] for rule in RULES]
    for name, section in explained.items():
        assert "\n**Means.** " in section, name
        assert "\n**Do.** " in section, name


def test_the_labels_in_a_summary_are_those_of_the_alert() -> None:
    for rule in RULES:
        named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        kept = grouped(rule["expr"])
        # Without an aggregation a series keeps all its labels.
        has_all = not re.search(r"\b(sum|max|min)\b", rule["expr"])
        assert has_all or named <= kept, rule["alert"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_heading_leads_to_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", text):
        assert anchor in anchors(page.parent / target if target else page), f"{target}#{anchor}"


def test_the_runbook_explains_every_metric_and_no_other() -> None:
    text = RUNBOOK.read_text(encoding="utf-8")
    (table,) = re.findall(r"(?m)^\| metric \|.*\n(?:\|.*\n)+", text)
    rows = re.findall(r"(?m)^\| (`proxy_.*?) \|", table)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == families()
    named = {name for page in PAGES for name in re.findall(r"\bproxy_[a-z_]+_total\b",
             page.read_text(encoding="utf-8"))}  # fmt: skip
    assert named <= families()


def test_the_files_that_the_security_page_names_are_there() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(
        r"`((?:proxy|tests|docs|deploy|bench)/[\w/.-]*|[\w-]+\.(?:yml|md|txt))`", text
    )
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert named
    for name in [*named, *links]:
        assert (ROOT / name).exists(), name


def promtool(*words: str, told: bytes = b"") -> str:
    """What it says of what it was `told`. Nothing where it is not installed, which says nothing."""
    path = program("promtool")
    if path is None:
        return ""
    done = subprocess.run(
        [path, *words], input=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    said = done.stdout.decode()
    assert done.returncode == 0, said
    return said


def test_prometheus_accepts_its_configuration_where_promtool_is_there() -> None:
    promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))


def test_prometheus_accepts_the_rules_where_promtool_is_there() -> None:
    said = promtool("check", "rules", str(PROMETHEUS / "alerts.yml"))
    assert not said or f"SUCCESS: {len(RULES)} rules found" in said


def test_alerts_fire_when_they_should_where_promtool_is_there() -> None:
    promtool("test", "rules", str(Path(__file__).parent / "alerts.yml"))


async def test_prometheus_finds_nothing_wrong_with_a_live_page_where_promtool_is_there(
    tmp_path: Path,
) -> None:
    database = make_database(tmp_path / "tables.db")
    async with RedisServer() as redis, serving(database, redis_url=redis.url) as running:
        question = b'{"start_date":"2024-06-21","end_date":"2024-06-30"}'
        for path in ("/data", "/data", "/analytics/data", "/elsewhere"):
            await ask(running.url, post(path, question))
        page = (await ask(running.admin_url, get("/metrics"))).body
    assert b'proxy_requests_total{result="hit",route="data",source="optimized"} 1.0' in page
    assert promtool("check", "metrics", told=page) == ""


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    cases = [
        c for t in load(Path(__file__).parent / "alerts.yml")["tests"] for c in t["alert_rule_test"]
    ]
    fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
    quiet = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    names = {rule["alert"] for rule in RULES}
    assert fires == names
    assert quiet == names


# Prometheus and Grafana find what they need


def test_prometheus_reads_the_rules_and_asks_the_admin_port() -> None:
    assert CONFIG["rule_files"] == ["alerts.yml"]
    (job,) = CONFIG["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    assert job["static_configs"] == [
        {"targets": [f"proxy:{COMPOSE['proxy']['environment']['PROXY_ADMIN_PORT']}"]}
    ]
    jobs = {v for q in QUERIES.values() for s in selected(q) for v in s.labels.get("job", ())}
    assert jobs == {job["job_name"]}
    mounts = COMPOSE["prometheus"]["volumes"]
    assert "./deploy/prometheus:/etc/prometheus:ro" in mounts
    assert "--config.file=/etc/prometheus/prometheus.yml" in COMPOSE["prometheus"]["command"]


def test_grafana_finds_its_dashboard_and_its_data() -> None:
    mounts = dict(v.split(":")[:2] for v in COMPOSE["grafana"]["volumes"])
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    (provider,) = load(GRAFANA / "provisioning/dashboards/dashboards.yml")["providers"]
    folder = provider["options"]["path"]
    assert mounts["./deploy/grafana/dashboards"] == folder
    home = COMPOSE["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/dashboard-proxy.json"
    (source,) = load(GRAFANA / "provisioning/datasources/prometheus.yml")["datasources"]
    (port,) = COMPOSE["prometheus"]["ports"]
    assert source["url"] == f"http://prometheus:{port.split(':')[-1]}"
    used = {"type": source["type"], "uid": source["uid"]}
    variables = DASHBOARD["templating"]["list"]
    for part in [*PANELS, *(t for p in PANELS for t in p["targets"]), *variables]:
        assert part["datasource"] == used


def test_the_dashboard_s_variable_asks_for_a_metric_and_a_label_that_exist() -> None:
    (variable,) = DASHBOARD["templating"]["list"]
    found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
    assert found is not None
    assert found[1] in exposed()
    assert found[2] in exposed()[found[1]] | ADDED_LABELS
    used = {name for query in QUERIES.values() for name in re.findall(r"\$(?!__)(\w+)", query)}
    assert used == {variable["name"]}


def test_no_panel_lies_on_another_or_beside_the_page() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert max(x for x, _ in cells) < 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_latency_is_shown_per_source_with_the_line_at_50_ms() -> None:
    shown = set()
    for panel in PANELS:
        asked = [s for t in panel["targets"] for s in selected(t["expr"])]
        sources = {v for s in asked if s.name == "proxy_request_seconds_bucket"
                   for v in s.labels["source"]}  # fmt: skip
        if sources:
            steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            assert MISS_S in [step["value"] for step in steps], panel["title"]
            shown |= sources
    assert shown == {"optimized", "legacy", "stale"}


@pytest.mark.parametrize(
    "name",
    [
        "proxy_requests_total",
        "proxy_watermark_age_seconds",
        "proxy_split_percent",
        "proxy_rolled_back",
        "proxy_rollbacks_total",
        "proxy_shadow_results_total",
        "proxy_shadow_dropped_total",
        "proxy_store_errors_total",
        "proxy_upstream_errors_total",
    ],
)
def test_what_an_operator_wants_to_see_is_on_the_dashboard(name: str) -> None:
    assert name in {s.name for p in PANELS for t in p["targets"] for s in selected(t["expr"])}
