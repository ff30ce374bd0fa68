"""Metrics of several processes as one: nothing is lost, and nothing goes back."""

from random import Random

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import generate_latest

from proxy.telemetry import GAUGES, Telemetry
from proxy.workers.totals import Totals, exposition, parse


def said(telemetry: Telemetry) -> str:
    return generate_latest(telemetry.registry).decode()


def answer(telemetry: Telemetry, times: int = 1, source: str = "optimized") -> None:
    for _ in range(times):
        telemetry.requests.labels("data", source, "hit").inc()
        telemetry.request_seconds.labels("data", source).observe(0.02)


def test_every_gauge_of_ours_says_how_it_becomes_one_of_many() -> None:
    kinds = {metric.name: metric.type for metric in Telemetry().registry.collect()}
    gauges = {name for name, kind in kinds.items() if kind == "gauge" and name[-8:] != "_created"}
    assert set(GAUGES) == gauges
    assert {"counter", "histogram"} <= set(kinds.values())
    assert set(kinds.values()) <= {"counter", "gauge", "histogram"}


def test_what_is_read_is_written_as_it_was() -> None:
    telemetry = Telemetry()
    answer(telemetry, 3)
    answer(telemetry, 1, 'of "two" words\n')
    telemetry.watermark_age_seconds.set(12.5)
    assert exposition(parse(said(telemetry))).decode() == said(telemetry)


def test_counters_and_histograms_add_up() -> None:
    totals = Totals(GAUGES)
    for worker, times in ((1, 2), (2, 3)):
        telemetry = Telemetry()
        answer(telemetry, times)
        if worker == 2:
            answer(telemetry, 1, "legacy")
        totals.report(worker, said(telemetry))
    assert totals.sum("proxy_requests_total") == 6
    assert totals.sum("proxy_requests_total", source="optimized") == 5
    assert totals.sum("proxy_requests_total", 1) == 2
    assert totals.sum("proxy_request_seconds_bucket", le="0.025") == 6
    assert totals.sum("proxy_request_seconds_bucket", le="0.01") == 0
    assert totals.sum("proxy_request_seconds_count", source="legacy") == 1


def test_gauges_add_up_or_are_maxima_as_declared() -> None:
    totals = Totals(GAUGES)
    for worker, entries, age_s in ((1, 10, 3.0), (2, 20, 5.0)):
        telemetry = Telemetry()
        telemetry.entries.set(entries)
        telemetry.watermark_age_seconds.set(age_s)
        totals.report(worker, said(telemetry))
    assert totals.sum("proxy_entries") == 30
    assert totals.sum("proxy_watermark_age_seconds") == 5


def test_one_that_is_gone_is_still_counted_but_holds_nothing() -> None:
    totals = Totals(GAUGES)
    telemetry = Telemetry()
    answer(telemetry, 4)
    telemetry.entries.set(10)
    totals.report(1, said(telemetry))
    totals.leave(1)
    assert totals.sum("proxy_requests_total") == 4
    assert totals.sum("proxy_entries") == 0
    fresh = Telemetry()
    answer(fresh)
    totals.report(2, said(fresh))
    assert totals.sum("proxy_requests_total") == 5
    assert totals.sum("proxy_request_seconds_count") == 5
    totals.leave(2)
    totals.leave(2)
    assert totals.sum("proxy_requests_total") == 5


def test_when_counting_began_is_the_earliest_of_all() -> None:
    totals = Totals(GAUGES)
    first, second = Telemetry(), Telemetry()
    answer(first)
    answer(second)
    began = parse(said(first))["proxy_requests_created"].samples
    totals.report(2, said(second))
    totals.report(1, said(first))
    totals.leave(1)
    assert totals.families()["proxy_requests_created"].samples == began


def test_a_report_that_was_overtaken_takes_nothing_back() -> None:
    totals = Totals(GAUGES)
    telemetry = Telemetry()
    answer(telemetry)
    old = said(telemetry)
    answer(telemetry)
    totals.report(1, said(telemetry))
    totals.report(1, old)
    assert totals.sum("proxy_requests_total") == 2
    assert totals.sum("proxy_request_seconds_count") == 2


def test_through_any_life_of_workers_no_count_goes_back() -> None:
    chance = Random(1)
    totals = Totals(GAUGES)
    workers = {number: Telemetry() for number in range(3)}
    done = 0
    seen = 0.0
    for turn in range(300):
        number = chance.choice(list(workers))
        answer(workers[number])
        done += 1
        totals.report(number, said(workers[number]))
        if turn % 10 == 0:
            totals.leave(number)
            del workers[number]
            workers[turn + 100] = Telemetry()
        now = totals.sum("proxy_requests_total")
        assert now >= seen
        seen = now
    assert seen == done


def test_labels_in_another_order_are_the_same_labels() -> None:
    totals = Totals({})
    totals.report(1, '# TYPE a_total counter\na_total{x="1",y="2"} 1\n')
    totals.report(2, '# TYPE a_total counter\na_total{y="2",x="1"} 1\n')
    [(_, value)] = totals.families()["a"].samples.items()
    assert value == 2


def test_a_gauge_that_nobody_knows_is_a_maximum() -> None:
    totals = Totals({})
    for worker in (1, 2):
        registry = CollectorRegistry()
        Gauge("of_the_future", "One.", registry=registry).set(worker)
        Counter("of_the_future_too", "One.", registry=registry).inc()
        totals.report(worker, generate_latest(registry).decode())
    assert totals.sum("of_the_future") == 2
    assert totals.sum("of_the_future_too_total") == 2
