"""Where spans go, as a proxy in production sends them; and what a sick collector costs."""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from structlog.testing import capture_logs

from proxy.tracing.export import FLUSH_S, Complaints, WatchedExporter
from tests.clocks import HandClock
from tests.collector import Collector, collecting, fields
from tests.proxies import ProxyProcess
from tests.public_port import Reply, ask, make_database, post
from tests.waiting import until

QUESTION = orjson.dumps({"start_date": "2024-06-21", "end_date": "2024-06-30"})
DEAD = "http://127.0.0.1:1"
A_MOMENT_S = 1.5
"""What a stop takes besides, however busy the machine is."""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "data.db")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")


def send_to(monkeypatch: pytest.MonkeyPatch, collector: Collector | str, **more: str) -> None:
    url = collector if isinstance(collector, str) else str(collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    for name, value in more.items():
        monkeypatch.setenv(name, value)


async def question(proxy: ProxyProcess, number: int = 0) -> Reply:
    return await ask(proxy.url, post("/data", QUESTION + b" " * number, f"X-Request-ID: {number}"))


def complaints(proxy: ProxyProcess) -> list[str]:
    """What was logged besides the usual."""
    usual = ("listening", "tracing", "answered", "stopping", "stopped")
    return [line for line in proxy.said if json.loads(line)["event"] not in usual]


async def test_spans_arrive_with_the_name_of_the_service_and_each_process_is_told_apart(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with collecting() as collector:
        send_to(
            monkeypatch,
            collector,
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test,service.name=overruled",
            OTEL_SERVICE_NAME="numbers",
            OTEL_EXPORTER_OTLP_HEADERS="api-key=hush%20hush",
        )
        async with ProxyProcess(database) as one, ProxyProcess(database) as other:
            for proxy in (one, other):
                assert (await question(proxy)).status == 200
            await until(lambda: len(collector.named("POST /data")) == 2)
            pids = {one.pid, other.pid}
    request = fields(collector.named("POST /data")[0].attributes)
    assert request["http.response.status_code"] == 200
    assert request["proxy.request_id"] == "0"
    sent_by = collector.resources()
    assert {resource["service.name"] for resource in sent_by} == {"numbers"}
    assert {resource["deployment.environment.name"] for resource in sent_by} == {"test"}
    assert {resource["process.pid"] for resource in sent_by} == pids
    instances = {resource["service.instance.id"] for resource in sent_by}
    assert len(instances) == 2
    assert {int(str(instance).partition("-")[0]) for instance in instances} == pids
    assert collector.heads[0]["api-key"] == "hush hush"
    assert one.events("tracing")[0]["service"] == "numbers"


async def test_without_a_name_the_service_is_called_what_it_is(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with collecting() as collector:
        url = str(collector.url / "v1" / "traces")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url)
        async with ProxyProcess(database) as proxy:
            await question(proxy)
            # What waits in the queue is sent on the way out.
            assert await proxy.end() == 0
    assert collector.named("POST /data")
    assert collector.resources()[0]["service.name"] == "dashboard-proxy"


@pytest.mark.parametrize("is_dead", [True, False])
async def test_a_sick_collector_holds_up_no_answer_and_the_stop_for_a_moment_only(
    database: Path, monkeypatch: pytest.MonkeyPatch, is_dead: bool
) -> None:
    async with collecting(hangs=True) as collector:
        send_to(
            monkeypatch,
            DEAD if is_dead else collector,
            OTEL_BSP_MAX_QUEUE_SIZE="8",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4",
            OTEL_EXPORTER_OTLP_HEADERS="api-key=hush-1,no pair hush-2,an odd name=hush-3",
        )
        async with ProxyProcess(database) as proxy:
            await question(proxy)
            if not is_dead:
                await until(lambda: bool(collector.heads))
            for number in range(300):
                assert (await question(proxy, number % 3)).status == 200
            began = time.monotonic()
            assert await proxy.end() == 0
            took_s = time.monotonic() - began
    assert took_s < FLUSH_S + A_MOMENT_S
    said = complaints(proxy)
    assert len(said) < 8, said
    # Each complaint of the SDK once, however often it has it.
    begun = [json.loads(line)["event"][:20] for line in said]
    assert len(set(begun)) == len(begun), said
    assert proxy.events("traces_dropped") or proxy.events("traces_not_sent")
    assert "hush" not in "".join(proxy.said)


async def test_a_collector_that_comes_back_is_told_once(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with collecting() as collector:
        collector.status = 400
        send_to(monkeypatch, collector)
        async with ProxyProcess(database) as proxy:
            for number in range(3):
                await question(proxy, number)
                before = len(collector.heads)
                await until(lambda before=before: len(collector.heads) > before)  # type: ignore[misc]
            await until(lambda: bool(proxy.events("traces_not_sent")))
            collector.status = 200
            await question(proxy)
            await until(lambda: bool(proxy.events("traces_sent_again")))
    assert len(proxy.events("traces_not_sent")) == 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp or none"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1", "max_queue_size"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "9999", "max_export_batch_size"),
    ],
)
async def test_what_cannot_be_done_is_said_and_the_proxy_runs(
    database: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    send_to(monkeypatch, DEAD, **{name: value})
    async with ProxyProcess(database) as proxy:
        assert (await question(proxy)).status == 200
    [line] = proxy.events("no_traces")
    assert said in json.dumps(line)
    assert line["level"] == "warning"


SERVE = """
import asyncio, sys
{before}
from pathlib import Path
from proxy.app import run_proxy
from proxy.logs import configure_logs
from proxy.settings import Settings

async def main():
    configure_logs("json", sys.stderr)
    database = Path(sys.argv[1])
    settings = Settings(
        database=str(database), port=0, admin_port=0, state=database.with_name("state.db")
    )
    async with run_proxy(settings):
        parts = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "proxy.tracing.otel")
        print([name for name in sys.modules if name.startswith(parts)])

asyncio.run(main())
"""


def serve_alone(database: Path, before: str = "") -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", SERVE.format(before=before), str(database)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip(), done.stderr


def test_without_the_extra_one_line_names_it_and_the_proxy_runs(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_to(monkeypatch, DEAD)
    _, said = serve_alone(database, before="sys.modules['opentelemetry'] = None")
    lines = [json.loads(line) for line in said.splitlines()]
    [line] = [line for line in lines if line["event"] == "no_traces"]
    assert "pip install 'dashboard-proxy[otel]'" in line["why"]
    assert "listening" in [line["event"] for line in lines]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "numbers"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": DEAD, "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": DEAD, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_where_nobody_asks_for_traces_nothing_of_it_is_loaded(
    database: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    loaded, said = serve_alone(database)
    assert loaded == "[]"
    assert "no_traces" not in said


class Flaky(SpanExporter):
    def __init__(self, *results: SpanExportResult) -> None:
        self._results = iter(results)

    def export(self, spans: object) -> SpanExportResult:
        return next(self._results)


def test_a_loss_and_its_end_are_said_once_each() -> None:
    good, bad = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
    exporter = WatchedExporter(Flaky(good, bad, bad, bad, good, good, bad))
    with capture_logs() as logs:
        for _ in range(7):
            exporter.export([])
    assert [line["event"] for line in logs] == [
        "traces_not_sent",
        "traces_sent_again",
        "traces_not_sent",
    ]


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """What reaches the handlers of the root."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    listener = Listener()
    logging.getLogger().addHandler(listener)
    yield lines
    logging.getLogger().removeHandler(listener)


def test_the_same_complaint_is_heard_once_in_ten_minutes(heard: list[str]) -> None:
    clock = HandClock()
    handler = Complaints(clock)

    def complain(text: str, value: object) -> None:
        record = logging.LogRecord("otel", logging.WARNING, "x.py", 1, text, (value,), None)
        handler.handle(record)

    for second in range(601):
        complain("lost %s", second)
        complain("refused %s", second)
        clock.pass_s(1)
    assert heard == ["lost 0", "refused 0", "lost 600", "refused 600"]


async def test_each_of_several_workers_sends_its_own_spans(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with collecting() as collector:
        send_to(monkeypatch, collector)
        async with ProxyProcess(database, workers=2) as proxy:
            while len({resource["process.pid"] for resource in collector.resources()}) < 2:
                await question(proxy)
            assert await proxy.end() == 0
    sent_by = {resource["service.instance.id"] for resource in collector.resources()}
    assert len(sent_by) == 2
