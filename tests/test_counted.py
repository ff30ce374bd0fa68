"""The requests of several processes, read from their metrics."""

import pytest
from prometheus_client.exposition import generate_latest

from proxy.live.counters import NOTHING, counters_of
from proxy.telemetry import Telemetry
from proxy.workers.counted import counted_of
from proxy.workers.totals import Totals, parse


def some(*seconds: float) -> Telemetry:
    telemetry = Telemetry()
    for second in seconds:
        telemetry.requests.labels("data", "optimized", "hit").inc()
        telemetry.request_seconds.labels("data", "optimized").observe(second)
        telemetry.beyond_memory_seconds.labels("data", "redis").observe(second)
    telemetry.requests.labels("passthrough", "legacy", "none").inc()
    telemetry.request_seconds.labels("passthrough", "legacy").observe(100)
    return telemetry


def text_of(telemetry: Telemetry) -> str:
    return generate_latest(telemetry.registry).decode()


@pytest.mark.parametrize("seconds", [(), (0.001, 0.02, 0.02, 70.0)])
def test_of_one_process_it_is_what_that_process_says_of_itself(seconds: tuple[float, ...]) -> None:
    telemetry = some(*seconds)
    assert counted_of(parse(text_of(telemetry))) == telemetry.counted()


def test_of_several_it_is_what_one_would_have_counted_also_when_some_have_left() -> None:
    totals = Totals({})
    totals.report(1, text_of(some(0.001, 5.0)))
    totals.leave(1)
    totals.report(2, text_of(some(0.02)))
    totals.report(3, text_of(some(70.0)))
    at_once = some(0.001, 5.0, 0.02, 70.0)
    for _ in range(2):
        at_once.requests.labels("passthrough", "legacy", "none").inc()
        at_once.request_seconds.labels("passthrough", "legacy").observe(100)
    assert counted_of(totals.families()) == at_once.counted()


def test_before_anything_was_told_there_is_nothing() -> None:
    assert counters_of(counted_of({})) == NOTHING
