"""What is noted reaches the ledger once, whatever happens on the way."""

import asyncio
import timeit
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs

from proxy.background import Background
from proxy.cache.redis import RedisStore
from proxy.errors import StoreError
from proxy.rollout.journal import Journal
from proxy.rollout.ledger import Ledger
from proxy.rollout.ledger_file import LedgerFile
from proxy.rollout.redaction import LEFT_OUT, redact
from proxy.rollout.redis_ledger import RedisLedger
from proxy.rollout.result import Difference, Kind, Scalar
from proxy.rollout.sample_codec import LARGEST_BODY_BYTES, TOO_LARGE, UNREADABLE, unpacked
from proxy.rollout.tallies import (
    COMPARED,
    DISCARDED,
    DROPPED,
    ERRORS,
    MOST_NAMES,
    OPTIMIZED_ERROR,
    OPTIMIZED_OK,
)
from proxy.telemetry import Telemetry
from tests.clocks import HandClock
from tests.comparisons import AT, DAY, DAY_S, a_comparison, a_difference, as_it_is
from tests.kept_in_memory import LedgerInMemory
from tests.redis_server import RedisServer
from tests.waiting import until


@pytest.fixture
def ledger() -> LedgerInMemory:
    return LedgerInMemory()


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def clock() -> HandClock:
    return HandClock(AT)


@pytest.fixture
def journal(ledger: LedgerInMemory, clock: HandClock, telemetry: Telemetry) -> Journal:
    return a_journal(ledger, clock, telemetry)


def a_journal(
    ledger: Ledger,
    clock: HandClock,
    telemetry: Telemetry,
    redact: Callable[[object], object] = as_it_is,
) -> Journal:
    return Journal(
        ledger,
        clock,
        telemetry,
        redact=redact,
        latencies=lambda: telemetry.latencies("analytics", "optimized"),
        flush_s=0.001,
    )


def answer(telemetry: Telemetry, seconds: float, *, route: str = "analytics") -> None:
    telemetry.request_seconds.labels(route, "optimized").observe(seconds)


async def test_what_is_noted_is_in_the_ledger_after_a_flush(
    journal: Journal, ledger: LedgerInMemory
) -> None:
    journal.note(a_comparison(a_difference()))
    journal.note(a_comparison())
    journal.noted_discard("moved")
    journal.noted_error("timeout")
    journal.noted_drop()
    journal.noted_drop()
    assert ledger.asked == 0
    await journal.flush()
    tally = ledger.days[DAY]
    assert {name: tally[name] for name in (COMPARED, DISCARDED, ERRORS, DROPPED)} == {
        COMPARED: 2,
        DISCARDED: 1,
        ERRORS: 1,
        DROPPED: 2,
    }
    assert [sample.head.outcome for sample in ledger.kept.values()] == ["mismatched", "matched"]


async def test_where_nothing_happened_nothing_is_written(
    journal: Journal, ledger: LedgerInMemory
) -> None:
    await journal.flush()
    assert ledger.asked == 0


async def test_a_comparison_counts_on_its_own_day(
    journal: Journal, ledger: LedgerInMemory, clock: HandClock
) -> None:
    journal.note(a_comparison(at=AT - DAY_S))
    clock.pass_s(DAY_S)
    journal.noted_discard("moved")
    await journal.flush()
    assert sorted(ledger.days) == ["2023-11-13", "2023-11-15"]


async def test_answers_to_callers_come_from_the_latencies(
    ledger: LedgerInMemory, clock: HandClock, telemetry: Telemetry
) -> None:
    answer(telemetry, 0.01)
    journal = a_journal(ledger, clock, telemetry)
    answer(telemetry, 0.04)
    answer(telemetry, 0.04)
    answer(telemetry, 500)
    answer(telemetry, 0.04, route="dashboard")
    await journal.flush()
    assert (ledger.all[OPTIMIZED_OK], ledger.all["optimized|ms|50"]) == (3, 2)
    assert (ledger.all["optimized|ms|inf"], ledger.all["optimized|ms|10"]) == (1, 0)
    await journal.flush()
    assert ledger.all[OPTIMIZED_OK] == 3
    answer(telemetry, 0.04)
    await journal.flush()
    assert (ledger.all[OPTIMIZED_OK], ledger.all["optimized|ms|50"]) == (4, 3)


async def test_served_counts_only_failures_and_tried_both(
    journal: Journal, ledger: LedgerInMemory
) -> None:
    journal.served(True)
    journal.served(False)
    journal.tried(True, 0.02)
    journal.tried(False, 0.02)
    await journal.flush()
    assert ledger.all.counts == {OPTIMIZED_ERROR: 2, OPTIMIZED_OK: 1, "optimized|ms|25": 1}


def test_a_run_of_errors_ends_with_an_answer(journal: Journal) -> None:
    journal.served(False)
    journal.tried(False, 1)
    journal.noted_error("legacy_error")
    journal.note(a_comparison())
    assert journal.errors_in_a_row == 2
    journal.served(True)
    assert journal.errors_in_a_row == 0
    journal.served(False)
    journal.tried(True, 1)
    assert journal.errors_in_a_row == 0


def test_a_listener_hears_at_once_of_what_a_guard_looks_at(journal: Journal) -> None:
    heard: list[int] = []
    journal.listen(lambda: heard.append(journal.errors_in_a_row))
    journal.served(False)
    journal.tried(False, 1)
    assert heard == [1, 2]
    journal.note(a_comparison())
    journal.noted_error("timeout")
    journal.tried(True, 1)
    assert heard == [1, 2, 2, 2, 0]
    journal.noted_drop()
    journal.noted_discard("moved")
    journal.served(True)
    assert len(heard) == 5


async def test_metrics_count_outcomes_at_once_and_drops_at_the_flush(
    journal: Journal, telemetry: Telemetry
) -> None:
    def value(outcome: str) -> float | None:
        labels = {"outcome": outcome}
        return telemetry.registry.get_sample_value("proxy_shadow_results_total", labels)

    journal.note(a_comparison(a_difference()))
    journal.noted_discard("moved")
    journal.noted_error("timeout")
    journal.noted_drop()
    assert [value(word) for word in ("mismatched", "discarded", "error")] == [1, 1, 1]
    await journal.flush()
    assert telemetry.registry.get_sample_value("proxy_shadow_dropped_total") == 1


def test_noting_a_drop_costs_well_under_a_microsecond(journal: Journal) -> None:
    # The best of many: the least that the machine lets it cost.
    best_s = min(timeit.repeat(journal.noted_drop, number=1000, repeat=50)) / 1000
    assert best_s < 0.5e-6


async def test_while_the_ledger_is_down_it_counts_on_and_writes_all_later(
    journal: Journal, ledger: LedgerInMemory
) -> None:
    ledger.is_down = True
    for _ in range(5):
        journal.note(a_comparison(a_difference()))
        journal.noted_drop()
        with pytest.raises(StoreError):
            await journal.flush()
    ledger.is_down = False
    await journal.flush()
    assert (ledger.all[COMPARED], ledger.all[DROPPED], len(ledger.kept)) == (5, 5, 5)
    await journal.flush()
    assert ledger.all[COMPARED] == 5


async def test_a_lost_answer_makes_nothing_count_twice(
    journal: Journal, ledger: LedgerInMemory
) -> None:
    ledger.is_lossy = True
    for _ in range(3):
        journal.note(a_comparison())
        with pytest.raises(StoreError):
            await journal.flush()
    ledger.is_lossy = False
    await journal.flush()
    assert (ledger.all[COMPARED], len(ledger.kept)) == (3, 3)


@pytest.mark.parametrize("at", ["add", "keep"])
async def test_a_cancelled_flush_loses_nothing_and_counts_nothing_twice(
    journal: Journal, ledger: LedgerInMemory, at: str
) -> None:
    journal.note(a_comparison())
    ledger.gates[at] = asyncio.Event()
    async with Background() as background:
        flush = background.spawn(journal.flush(), name="flush", endless=True)
        written = ledger.batches if at == "add" else ledger.kept
        await until(lambda: bool(written))
        journal.note(a_comparison())
        flush.cancel()
        ledger.gates.clear()
        await until(flush.done)
    await journal.flush()
    assert (ledger.all[COMPARED], len(ledger.kept)) == (2, 2)


async def test_flushes_at_once_write_in_turn(journal: Journal, ledger: LedgerInMemory) -> None:
    journal.note(a_comparison())
    gate = ledger.gates["add"] = asyncio.Event()
    async with Background() as background:
        one = background.spawn(journal.flush(), name="one")
        await until(lambda: bool(ledger.batches))
        journal.note(a_comparison())
        two = background.spawn(journal.flush(), name="two")
        background.spawn(asyncio.sleep(0.01), name="a while")
        await until(lambda: len(background) == 2)
        assert ledger.asked == 1
        gate.set()
        await asyncio.gather(one, two)
    assert (ledger.all[COMPARED], len(ledger.kept)) == (2, 2)
    assert [batch.number for batch in ledger.batches] == [1, 2]


async def test_a_sample_that_is_always_refused_is_given_up_and_those_behind_it_come(
    journal: Journal, ledger: LedgerInMemory
) -> None:
    ledger.is_refusing_samples = True
    journal.note(a_comparison(a_difference()))
    tries = 0
    with capture_logs() as logs:
        while not logs:
            tries += 1
            journal.noted_discard("moved")
            try:
                await journal.flush()
            except StoreError:
                assert tries < 50
    assert [entry["event"] for entry in logs] == ["sample_not_kept"]
    assert ledger.all[DISCARDED] == tries
    ledger.is_refusing_samples = False
    journal.note(a_comparison())
    await journal.flush()
    assert [sample.head.outcome for sample in ledger.kept.values()] == ["matched"]


async def test_what_waits_is_bounded_and_mismatches_are_not_pushed_out(
    journal: Journal, ledger: LedgerInMemory
) -> None:
    ledger.is_down = True
    journal.note(a_comparison(a_difference()))
    for number in range(2 * MOST_NAMES):
        journal.note(a_comparison(a_difference(f"f{number}", is_deciding=False)))
    ledger.is_down = False
    await journal.flush()
    assert len(ledger.all.counts) < MOST_NAMES + 50
    assert ledger.all[COMPARED] == 2 * MOST_NAMES + 1
    kept = [sample.head.differences[0].field for sample in ledger.kept.values()]
    assert kept == ["spend", *(f"f{2 * MOST_NAMES - left}" for left in range(20, 0, -1))]


async def test_large_bodies_that_wait_are_bounded(journal: Journal, ledger: LedgerInMemory) -> None:
    for number in range(20):
        journal.note(a_comparison(control={"text": "x" * 2**20, "n": number}))
    await journal.flush()
    assert ledger.all[COMPARED] == 20
    assert 1 <= len(ledger.kept) <= 2


async def test_days_that_wait_are_bounded(journal: Journal, ledger: LedgerInMemory) -> None:
    for number in range(100):
        journal.note(a_comparison(at=AT + number * DAY_S))
    await journal.flush()
    assert len(ledger.days) == 92
    assert DAY not in ledger.days


async def test_bodies_are_redacted_before_they_are_kept(
    ledger: LedgerInMemory, clock: HandClock, telemetry: Telemetry
) -> None:
    def without_ids(document: object) -> object:
        assert isinstance(document, dict)
        return {name: value for name, value in document.items() if name != "user_ids"}

    journal = a_journal(ledger, clock, telemetry, without_ids)
    secret = {"user_ids": ["u1"], "data": ["x" * 200_000]}
    for body in (secret, {"user_ids": ["u1"], "data": []}):
        journal.note(a_comparison(control=body, candidate=body))
    await journal.flush()
    for sample in ledger.kept.values():
        for frame in (sample.control, sample.candidate):
            assert list(orjson.loads(unpacked(frame))) == ["data"]


async def test_what_tells_users_stays_out_of_the_differences_too(
    ledger: LedgerInMemory, clock: HandClock, telemetry: Telemetry
) -> None:
    def at(path: str, control: Scalar, kind: Kind = "value") -> Difference:
        field = path.rpartition(".")[2]
        return a_difference(field, path=path, kind=kind, control=control, candidate=None)

    found = {
        at("data.*.name", "for ann@example.com only"): "for left out only",
        at("data.*.name", "x" * 184 + " ann.smith@example.com"): "x" * 184 + " left out",
        at("data.*.name", "campaign_1"): "campaign_1",
        at("data.*.spend", 3.5): 3.5,
        at("data.*.is_new", True): True,
        at("data.*.user_id", "u-17"): LEFT_OUT,
        at("data.*.userId", 17): LEFT_OUT,
        at("data.*.user_details.*.revenue", 3.5): LEFT_OUT,
        at("data.*.user_details.*", "u-17", "missing_row"): LEFT_OUT,
        at("data.*.trial_users.*", "u-17", "extra_row"): LEFT_OUT,
        at("data.*.trial_users", "list of 3", "set"): "list of 3",
        at("data.*", "campaign_1", "missing_row"): "campaign_1",
        at(".".join("a" * 80), 1): LEFT_OUT,
        at("", "list of 3", "type"): "list of 3",
    }
    journal = a_journal(ledger, clock, telemetry, redact)
    journal.note(a_comparison(*found))
    await journal.flush()
    (sample,) = ledger.kept.values()
    assert [one.control for one in sample.head.differences] == list(found.values())
    assert {one.candidate for one in sample.head.differences} == {None}
    assert "ann" not in repr(sample.head)
    assert "u-17" not in repr(sample.head)


async def test_an_address_in_a_path_or_a_field_is_left_out(
    ledger: LedgerInMemory, clock: HandClock, telemetry: Telemetry
) -> None:
    journal = a_journal(ledger, clock, telemetry, redact)
    journal.note(a_comparison(a_difference("ann@example.com")))
    await journal.flush()
    (sample,) = ledger.kept.values()
    assert "ann@example" not in repr(sample)


async def test_bodies_that_cannot_be_kept_leave_the_rest_of_the_sample(
    ledger: LedgerInMemory, clock: HandClock, telemetry: Telemetry
) -> None:
    def fail(document: object) -> object:
        raise RecursionError

    huge = b'"' + b"x" * LARGEST_BODY_BYTES + b'"'
    journal = a_journal(ledger, clock, telemetry, fail)
    for body in (huge, b"{", b"{}"):
        journal.note(a_comparison(a_difference(), candidate=body))
        await journal.flush()
    notes = [sample.head.note for sample in ledger.kept.values()]
    assert notes == [TOO_LARGE, UNREADABLE, UNREADABLE]
    assert all(not s.control and not s.candidate for s in ledger.kept.values())
    assert all(s.head.differences for s in ledger.kept.values())


async def test_following_writes_by_itself_and_says_once_that_the_ledger_is_down(
    journal: Journal, ledger: LedgerInMemory
) -> None:
    with capture_logs() as logs:
        async with Background() as background:
            background.spawn(journal.follow(), name="journal", endless=True)
            journal.note(a_comparison())
            await until(lambda: ledger.all[COMPARED] == 1)
            ledger.is_down = True
            journal.note(a_comparison())
            asked = ledger.asked
            await until(lambda: ledger.asked > asked + 2)
            ledger.is_down = False
            await until(lambda: ledger.all[COMPARED] == 2)
            await until(lambda: len(logs) == 2)
    assert [entry["event"] for entry in logs] == ["ledger_down", "ledger_back"]


async def test_on_close_what_was_noted_is_written(journal: Journal, ledger: LedgerInMemory) -> None:
    async with journal:
        journal.note(a_comparison())
    assert ledger.all[COMPARED] == 1


async def test_a_close_while_the_ledger_is_down_or_hangs_does_not_raise(
    journal: Journal, ledger: LedgerInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.rollout.journal._CLOSE_S", 0.01)

    async def leave(set_up: Callable[[], Awaitable[None]]) -> str:
        with capture_logs() as logs:
            async with journal:
                journal.note(a_comparison())
                await set_up()
        return str(logs[0]["event"])

    async def down() -> None:
        ledger.is_down = True

    async def hang() -> None:
        ledger.is_down = False
        ledger.gates["add"] = asyncio.Event()

    assert await leave(down) == "ledger_not_written"
    assert await leave(hang) == "ledger_not_written"


async def test_two_processes_write_to_one_file(tmp_path: Path, clock: HandClock) -> None:
    path = tmp_path / "state.db"
    async with LedgerFile(path) as one, LedgerFile(path) as two:
        journals = [a_journal(ledger, clock, Telemetry()) for ledger in (one, two)]

        for journal in journals:
            journal.note(a_comparison())
            await journal.flush()

        async def work(journal: Journal) -> None:
            for _ in range(50):
                journal.note(a_comparison(a_difference()))
                journal.noted_drop()
                await journal.flush()

        await asyncio.gather(*map(work, journals))
        tally = (await one.tallies())[DAY]
        assert (tally[COMPARED], tally[DROPPED]) == (102, 100)
        assert len(await two.heads()) == 102


async def test_a_redis_that_hangs_and_comes_back_counts_each_thing_once(clock: HandClock) -> None:
    async with (
        RedisServer() as server,
        RedisStore(
            server.url, telemetry=Telemetry(), clock=clock, entry_ttl_s=60, timeout_s=0.2
        ) as store,
    ):
        ledger = RedisLedger(store.connection)
        journal = a_journal(ledger, clock, Telemetry())
        journal.note(a_comparison())
        await journal.flush()
        server.stop()
        for _ in range(3):
            # Each is sent, stays in the socket, and is read when the server goes on.
            journal.note(a_comparison())
            clock.pass_s(60)
            with pytest.raises(StoreError):
                await journal.flush()
        server.cont()
        clock.pass_s(60)
        await journal.flush()
        assert (await ledger.tallies())[DAY][COMPARED] == 4
        assert len(await ledger.heads()) == 4
