"""The shadow: what is compared, what is not, and that no caller ever notices."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import date

import orjson
import pytest

from proxy.backends.backend import Fetched
from proxy.background import Background
from proxy.errors import BackendError, BackendTimeout, BackendUnavailable
from proxy.handlers.sampling import Sampling
from proxy.payload import Payload
from proxy.query import Query
from proxy.rollout import shadow as shadow_file
from proxy.rollout.result import Result
from tests.scripted_looks import DAY
from tests.shadowing import Stage, make_stage, relay
from tests.waiting import until

QUERY = Query("analytics", date(2024, 1, 1), date(2024, 1, 1), "campaign", depth=1)
OURS = b'{"success":true,"data":[{"number":1}]}'
OTHER = b'{"success":true,"data":[{"number":99}]}'


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    async with Background(drain_s=0) as background:
        yield background


@pytest.fixture
async def stage(background: Background) -> AsyncIterator[Stage]:
    stage = make_stage(background)
    async with stage.comparing:
        yield stage


def used(stage: Stage) -> tuple[int, int]:
    """Bytes held and places taken."""
    shadow = stage.shadow
    return shadow._room.used_bytes, 3 - shadow._free_places


async def told(stage: Stage, *lines: tuple[object, ...]) -> None:
    """Wait until exactly so much came of the samples, and nothing of them is held any more."""
    await until(lambda: len(stage.journal.samples()) >= len(lines) and used(stage) == (0, 0))
    assert stage.journal.samples() == list(lines)


async def test_what_a_caller_got_is_held_against_the_legacys_answer(
    stage: Stage, background: Background
) -> None:
    stage.path.looks.write(99)
    stage.shadow.start(background)
    sent = await stage.caller_asks(QUERY)
    await told(stage, ("compared", "matched"))
    [comparison] = stage.journal.comparisons
    assert comparison.control == sent
    assert comparison.candidate == OTHER
    assert (comparison.query, comparison.control_side) == (QUERY, "optimized")
    assert comparison.at == stage.path.clock.now() - sum(stage.rests.rested_s)
    # A hit is compared like what was computed.
    await stage.caller_asks(QUERY)
    await told(stage, ("compared", "matched"), ("compared", "matched"))


async def test_a_body_that_waits_is_not_copied(stage: Stage) -> None:
    sent = await stage.caller_asks(QUERY)
    assert stage.shadow._queue.get_nowait().chunks[0] is sent


async def test_two_sides_that_disagree_are_a_mismatch(stage: Stage, background: Background) -> None:
    stage.shadow.start(background)
    await stage.caller_asks(QUERY)
    await told(stage, ("compared", "mismatched"))


async def test_the_rate_is_the_share_that_is_sampled(stage: Stage) -> None:
    for rate, chance, is_wanted in ((0.0, 0.0, False), (0.1, 0.0999, True), (0.1, 0.1, False),
                                    (1.0, 0.999, True)):  # fmt: skip
        stage.shadow.rate, stage.chance[0] = rate, chance
        assert stage.shadow.wants() is is_wanted
    assert stage.journal.told == []


async def test_what_finds_the_queue_full_is_dropped_and_counted(
    stage: Stage, background: Background
) -> None:
    for _ in range(5):
        await stage.caller_asks(QUERY)
    assert stage.journal.told == [("drop",), ("drop",)]
    with stage.shadow.watching(QUERY) as capture:
        assert capture is None
    assert stage.journal.told == 3 * [("drop",)]
    stage.shadow.start(background)
    await told(stage, *3 * [("drop",)], *3 * [("compared", "mismatched")])
    assert stage.shadow.wants()


async def test_bodies_that_wait_are_bounded_in_bytes_too(stage: Stage) -> None:
    await stage.path.watermarks.current(QUERY)
    size = shadow_file._MOST_WAITING_BYTES
    stage.shadow.offer(QUERY, bytes(size - 10), "")
    stage.shadow.offer(QUERY, bytes(11), "")
    assert stage.journal.told == [("drop",)]
    stage.legacy_answers(QUERY, bytes(11))
    assert stage.journal.told == [("drop",), ("discard", "too_long")]
    assert used(stage) == (size - 10, 1)


async def test_nothing_is_sampled_while_the_pipeline_rebuilds(stage: Stage) -> None:
    answer = await stage.path.ask(QUERY)
    await stage.path.watermarks.poll()
    stage.path.looks.delete(9)
    await stage.path.watermarks.poll()
    await stage.path.watermarks._recount.now()
    assert stage.path.watermarks.state == "rebuilding"
    stage.shadow.offer(QUERY, answer.payload.body, "")
    stage.legacy_answers(QUERY, OURS)
    assert (used(stage), stage.journal.told) == ((0, 0), [])


async def test_data_that_moved_before_the_other_side_is_asked_end_it_there(
    stage: Stage, background: Background
) -> None:
    await stage.caller_asks(QUERY)
    stage.path.looks.write(2)
    stage.shadow.start(background)
    await told(stage, ("discard", "moved"))
    assert "legacy" not in stage.path.gates.steps


async def test_a_comparison_is_thrown_away_when_the_data_moved_between_the_answers(
    stage: Stage, background: Background
) -> None:
    gates = stage.path.gates
    gates.shut("legacy")
    stage.shadow.start(background)
    await stage.caller_asks(QUERY)
    await until(lambda: gates.waiting["legacy"] == 1)
    stage.path.looks.write(2)
    gates.open("legacy")
    await told(stage, ("discard", "moved"))


async def test_rows_deleted_between_the_answers_are_counted(
    stage: Stage, background: Background
) -> None:
    await stage.path.watermarks.poll()
    gates = stage.path.gates
    # Of many dates one becomes smaller: too little for a rebuild.
    for day in range(2, 30):
        stage.path.looks.write(1, day=f"2024-01-{day:02}")
    gates.shut("legacy")
    stage.shadow.start(background)
    await stage.caller_asks(QUERY)
    await until(lambda: gates.waiting["legacy"] == 1)
    stage.path.looks.delete(1)
    gates.open("legacy")
    await until(lambda: used(stage) == (0, 0))
    [(kind, word)] = stage.journal.samples()
    assert kind == "discard"
    assert word in ("moved", "rebuilding")


async def test_a_commit_that_polling_has_not_seen_yet_is_looked_for(background: Background) -> None:
    stage = make_stage(background)
    stage.path.watermarks._is_strict = False
    async with stage.comparing:
        await stage.caller_asks(QUERY)
        stage.path.looks.write(99)
        stage.legacy_answers(QUERY, OTHER)
        stage.shadow.start(background)
        await told(stage, ("discard", "moved"), ("discard", "moved"))


async def test_a_rebuild_that_began_between_the_answers_ends_it(
    stage: Stage, background: Background
) -> None:
    gates = stage.path.gates
    gates.shut("legacy")
    await stage.path.watermarks.poll()
    stage.shadow.start(background)
    await stage.caller_asks(QUERY)
    await until(lambda: gates.waiting["legacy"] == 1)
    stage.path.looks.delete(9)
    gates.open("legacy")
    await told(stage, ("discard", "rebuilding"))


async def test_nobody_is_asked_for_what_waited_until_a_rebuild_began(
    stage: Stage, background: Background
) -> None:
    await stage.path.watermarks.poll()
    await stage.caller_asks(QUERY)
    stage.legacy_answers(QUERY, OURS)
    stage.path.looks.delete(9)
    await stage.path.watermarks.poll()
    await stage.path.watermarks._recount.now()
    stage.path.gates.steps.clear()
    stage.shadow.start(background)
    await told(stage, ("discard", "rebuilding"), ("discard", "rebuilding"))
    assert {"legacy", "fetch"}.isdisjoint(stage.path.gates.steps)


async def test_a_database_that_cannot_be_looked_at_vouches_for_nothing(
    stage: Stage, background: Background
) -> None:
    await stage.caller_asks(QUERY)
    stage.path.looks.failures["counter"] = BackendError("gone", reason="no_database")
    stage.shadow.start(background)
    await told(stage, ("discard", "unverified"))
    stage.legacy_answers(QUERY, OURS)
    await told(stage, ("discard", "unverified"), ("discard", "moved"))


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (BackendError("500", reason="legacy_error"), "legacy_error"),
        (BackendTimeout("late", reason="legacy_timeout"), "legacy_timeout"),
        (BackendUnavailable("down", reason="legacy_down"), "legacy_down"),
    ],
)
async def test_a_legacy_without_an_answer_is_an_error_and_no_mismatch(
    stage: Stage, background: Background, error: BackendError, word: str
) -> None:
    stage.path.legacy.failure = error
    stage.shadow.start(background)
    await stage.caller_asks(QUERY)
    await told(stage, ("error", word))
    assert not [line for line in stage.journal.told if line[0] == "tried"]


async def test_a_legacy_that_hides_its_failure_as_no_rows_is_an_error(
    stage: Stage, background: Background
) -> None:
    stage.path.legacy.is_empty = True
    stage.shadow.start(background)
    await stage.caller_asks(QUERY)
    await told(stage, ("error", "legacy_empty"))


async def test_a_side_that_takes_too_long_is_left(background: Background) -> None:
    stage = make_stage(background, timeout_s=0.001)
    stage.path.gates.shut("legacy")
    stage.shadow.start(background)
    async with stage.comparing:
        await stage.caller_asks(QUERY)
        await told(stage, ("error", "legacy_timeout"))
        stage.path.looks.write(2)
        stage.path.gates.shut("fetch")
        await stage.path.watermarks.poll()
        stage.legacy_answers(QUERY, OURS)
        await told(stage, ("error", "legacy_timeout"), ("error", "timeout"))
        assert stage.journal.told.count(("tried", False)) == 1
        stage.path.gates.open("fetch")
        stage.path.gates.open("legacy")


async def test_a_comparison_that_goes_wrong_is_counted_and_the_work_goes_on(
    background: Background,
) -> None:
    calls = []

    def fails_once(control: object, candidate: object, *, query: Query) -> Result:
        calls.append(query)
        if len(calls) == 1:
            raise LookupError("bug")
        return Result("matched")

    stage = make_stage(background, compare=fails_once)
    stage.shadow.start(background, concurrency=1)
    async with stage.comparing:
        for _ in range(2):
            await stage.caller_asks(QUERY)
        await told(stage, ("error", "internal"), ("compared", "matched"))


class Mode:
    """Our tables in the other rate mode: they have the number 98."""

    def __init__(self) -> None:
        self.failure: BackendError | None = None

    async def fetch(self, query: Query) -> Fetched:
        if self.failure is not None:
            raise self.failure
        return Fetched(Payload.of(OTHER.replace(b"99", b"98")), cost_ms=1.0)


async def test_every_so_many_samples_the_legacy_is_held_against_itself(
    background: Background,
) -> None:
    stage = make_stage(background, other_mode=Mode(), noise_every=3)
    stage.shadow.start(background, concurrency=1)
    async with stage.comparing:
        for done in range(1, 6):
            await stage.caller_asks(QUERY)
            await told(stage, *done * [("compared", "mismatched")])
    noises = [comparison.noise for comparison in stage.journal.comparisons]
    assert noises == [Result("matched", rows=1), None, None, Result("matched", rows=1), None]
    assert stage.path.gates.steps.count("legacy") == 7
    # The legacy has 99, our mean 1, our ratio 98.
    closer = [comparison.closer for comparison in stage.journal.comparisons]
    assert closer == [{"rate": (0, 1, 0)}, None, None, {"rate": (0, 1, 0)}, None]


async def test_without_a_second_answer_the_comparison_stands_alone(background: Background) -> None:
    mode = Mode()
    mode.failure = BackendError("busy")
    stage = make_stage(background, other_mode=mode, noise_every=1)
    stage.path.gates.shut("legacy")
    stage.shadow.start(background, concurrency=1)
    async with stage.comparing:
        await stage.caller_asks(QUERY)
        await until(lambda: stage.path.gates.waiting["legacy"] == 1)
        first = stage.path.gates.hold_back("legacy")
        stage.path.gates.shut("legacy")
        first.set()
        await until(lambda: stage.path.gates.steps.count("legacy") == 2)
        stage.path.legacy.failure = BackendError("500", reason="legacy_error")
        stage.path.gates.open("legacy")
        await told(stage, ("compared", "mismatched"))
    [comparison] = stage.journal.comparisons
    assert (comparison.noise, comparison.closer) == (None, None)


async def test_what_the_legacy_sent_a_caller_is_held_against_our_tables(
    stage: Stage, background: Background
) -> None:
    await stage.path.watermarks.current(QUERY)
    stage.shadow.start(background)
    packed = zlib.compress(OURS, wbits=31)
    stage.legacy_answers(QUERY, packed[:9], packed[9:], coding="gzip")
    await told(stage, ("compared", "matched"))
    [comparison] = stage.journal.comparisons
    assert (comparison.control, comparison.control_side) == (OURS, "legacy")
    assert orjson.loads(comparison.candidate)["data"] == [{"number": 1}]
    assert ("tried", True) in stage.journal.told


async def test_a_date_that_was_not_known_yet_is_compared_unless_there_was_a_commit(
    stage: Stage, background: Background
) -> None:
    other = replace(QUERY, start=date(2024, 1, 5), end=date(2024, 1, 5))
    await stage.path.watermarks.current(other)
    for is_written, come_of_it in ((False, ("compared", "matched")), (True, ("discard", "moved"))):
        stage.journal.told.clear()
        stage.path.watermarks._days.let_go("daily", [DAY])
        stage.path.watermarks._readings.clear()
        assert stage.path.watermarks.believed(QUERY) is None
        stage.legacy_answers(QUERY, OURS)
        if is_written:
            # Of another date: without a token nobody can tell.
            stage.path.looks.write(1, day="2024-01-07")
        else:
            stage.shadow.start(background, concurrency=1)
        await told(stage, come_of_it)


async def test_a_commit_that_nobody_has_looked_at_yet_leaves_nothing_to_compare(
    stage: Stage,
) -> None:
    await stage.path.watermarks.current(QUERY)
    stage.path.looks.write(2)
    stage.legacy_answers(QUERY, OURS)
    assert stage.journal.told == [("discard", "moved")]
    assert used(stage) == (0, 0)


async def test_an_answer_that_does_not_come_through_whole_is_not_compared(stage: Stage) -> None:
    await stage.path.watermarks.current(QUERY)
    with stage.shadow.watching(QUERY) as capture:
        assert capture is not None
        capture.begin(200, "")
        capture.add(OURS[:5])
        assert used(stage) == (5, 1)
    with suppress(ConnectionError), stage.shadow.watching(QUERY) as capture:
        assert capture is not None
        relay(capture, OURS)
        raise ConnectionError
    with stage.shadow.watching(QUERY) as capture:
        assert capture is not None
        capture.begin(503, "")
        capture.add(OURS)
        capture.end()
    with stage.shadow.watching(QUERY):
        pass
    assert stage.journal.told == [
        ("discard", "cut_off"),
        ("discard", "cut_off"),
        ("error", "legacy_error"),
        ("error", "no_answer"),
    ]
    assert used(stage) == (0, 0)


async def test_answers_on_their_way_have_their_places_in_the_queue(stage: Stage) -> None:
    await stage.path.watermarks.current(QUERY)
    with stage.shadow.watching(QUERY), stage.shadow.watching(QUERY), stage.shadow.watching(QUERY):
        assert not stage.shadow.wants()
    assert stage.shadow.wants()


@pytest.mark.parametrize("reason", ["sql_error", "sql_timeout", "locked", "no_database"])
async def test_tables_that_fail_beside_the_legacy_count_against_us(
    stage: Stage, background: Background, reason: str
) -> None:
    await stage.path.watermarks.current(QUERY)
    stage.path.backend.failure = BackendError("no", reason=reason)
    stage.shadow.start(background)
    stage.legacy_answers(QUERY, OURS)
    await told(stage, ("error", reason))
    assert stage.journal.told.count(("tried", False)) == 1
    # Also when the legacy, which is asked in their place, fails as well.
    stage.path.legacy.failure = BackendError("500", reason="legacy_error")
    stage.legacy_answers(QUERY, OURS)
    await told(stage, ("error", reason), ("error", "legacy_error"))
    assert stage.journal.told.count(("tried", False)) == 2


@pytest.mark.parametrize("is_legacy_up", [True, False])
async def test_tables_that_merely_have_no_rows_do_not(
    stage: Stage, background: Background, is_legacy_up: bool
) -> None:
    await stage.path.watermarks.current(QUERY)
    stage.path.backend.change = lambda fetched: replace(fetched, shortfall="no_rows")
    if not is_legacy_up:
        stage.path.legacy.failure = BackendError("500", reason="legacy_error")
    stage.shadow.start(background)
    stage.legacy_answers(QUERY, OURS)
    await told(stage, ("discard", "no_rows" if is_legacy_up else "legacy_error"))
    assert not [line for line in stage.journal.told if line[0] == "tried"]


async def test_an_answer_that_is_not_kept_is_of_no_certain_state(
    stage: Stage, background: Background
) -> None:
    await stage.path.watermarks.current(QUERY)
    stage.path.gates.shut("fetch")
    stage.shadow.start(background)
    stage.legacy_answers(QUERY, OURS)
    await until(lambda: stage.path.gates.waiting["fetch"] == 1)
    stage.path.read_through.keep_no_load_under_way()
    stage.path.gates.open("fetch")
    await told(stage, ("discard", "purged"))


async def test_our_side_is_tried_after_those_who_wait_and_one_at_a_time(
    stage: Stage, background: Background
) -> None:
    await stage.path.watermarks.current(QUERY)
    gates = stage.path.gates
    stage.shadow.start(background)
    with stage.path.read_through.live.waiting():
        for _ in range(2):
            stage.legacy_answers(QUERY, OURS)
        await until(stage.shadow._queue.empty)
        for _ in range(20):
            await asyncio.sleep(0)
        assert "fetch" not in gates.steps
        gates.shut("get")
    await until(lambda: gates.waiting["get"] == 1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert gates.waiting["get"] == 1
    gates.open("get")
    await told(stage, *2 * [("compared", "matched")])


async def test_only_so_many_are_asked_at_a_time(stage: Stage, background: Background) -> None:
    gates = stage.path.gates
    gates.shut("legacy")
    stage.shadow.start(background, concurrency=2)
    for _ in range(3):
        await stage.caller_asks(QUERY)
    await until(lambda: gates.waiting["legacy"] == 2)
    for _ in range(50):
        await asyncio.sleep(0)
    assert (gates.waiting["legacy"], stage.shadow._queue.qsize()) == (2, 1)
    gates.open("legacy")
    await told(stage, *3 * [("compared", "mismatched")])


async def test_work_is_rested_from_before_the_next(stage: Stage, background: Background) -> None:
    stage.shadow.start(background, concurrency=1)
    await stage.caller_asks(QUERY)
    await told(stage, ("compared", "mismatched"))
    await until(lambda: bool(stage.rests.rested_s))
    stage.rests.rested_s.clear()
    stage.pace.spent(1.0)
    for _ in range(2):
        await stage.caller_asks(QUERY)
    await until(lambda: len(stage.journal.told) == 3)
    assert sum(stage.rests.rested_s) >= 19.0


@pytest.mark.parametrize("step", ["", "changes", "states", "legacy", "get", "fetch", "thread"])
async def test_a_proxy_that_leaves_ends_the_work_wherever_it_is(step: str) -> None:
    holds = asyncio.Event()
    loop = asyncio.get_running_loop()

    def compare(control: object, candidate: object, *, query: Query) -> Result:
        asyncio.run_coroutine_threadsafe(_set(holds), loop).result()
        return Result("matched")

    background = Background(drain_s=0)
    async with background:
        stage = make_stage(background, compare=compare)
        gates = stage.path.gates
        async with stage.comparing:
            await stage.caller_asks(QUERY)
            stage.legacy_answers(QUERY, OURS)
            if step in ("changes", "states"):
                stage.path.looks.write(1)
            if step == "get":
                stage.path.store.memory.clear()
            if step in ("", "thread"):
                stage.shadow.start(background)
                await (holds.wait() if step else asyncio.sleep(0))
            elif step == "fetch":
                stage.path.store.memory.clear()
                gates.shut(step)
                stage.shadow.start(background)
                await until(lambda: gates.waiting[step] > 0)
            else:
                gates.shut(step)
                stage.shadow.start(background)
                await until(lambda: gates.waiting[step] > 0)
            await background.__aexit__(None, None, None)
            assert len(background) == 0
            waiting = list(stage.shadow._queue._queue)  # type: ignore[attr-defined]
            assert stage.shadow._room.used_bytes == sum(sampled.size for sampled in waiting)


async def _set(event: asyncio.Event) -> None:
    event.set()


async def test_it_says_how_it_is(stage: Stage) -> None:
    await stage.caller_asks(QUERY)
    assert repr(stage.shadow).startswith("<Shadow rate=1 waiting=1 <Room ")


async def test_a_load_of_the_shadow_is_none_that_a_caller_waits_for(
    stage: Stage, background: Background
) -> None:
    await stage.path.watermarks.current(QUERY)
    stage.path.gates.shut("fetch")
    stage.shadow.start(background)
    stage.legacy_answers(QUERY, OURS)
    await until(lambda: stage.path.gates.waiting["fetch"] == 1)
    assert len(stage.path.read_through.live) == 0
    stage.path.gates.open("fetch")
    await told(stage, ("compared", "matched"))


async def test_asking_the_legacy_is_rested_from_also_where_it_fails(
    stage: Stage, background: Background
) -> None:
    stage.path.legacy.failure = BackendError("500", reason="legacy_error")
    stage.shadow.start(background, concurrency=1)
    for _ in range(3):
        await stage.caller_asks(QUERY)
    await told(stage, *3 * [("error", "legacy_error")])
    assert sum(stage.rests.rested_s) >= 2 * 19 * 0.002


async def test_an_answer_that_memory_no_longer_holds_is_not_offered(stage: Stage) -> None:
    sampling = Sampling(stage.shadow, stage.path.read_through, stage.journal)
    before = await stage.path.ask(QUERY)
    stage.path.looks.write(2)
    now = await stage.path.ask(QUERY)
    sampling.answered(QUERY, before)
    assert used(stage) == (0, 0)
    sampling.answered(QUERY, now)
    assert used(stage) == (len(now.payload.body), 1)


async def test_what_is_not_kept_is_not_even_counted_as_dropped(stage: Stage) -> None:
    sampling = Sampling(stage.shadow, stage.path.read_through, stage.journal)
    answer = await stage.path.ask(QUERY)
    for _ in range(3):
        sampling.answered(QUERY, answer)
    sampling.answered(QUERY, replace(answer, is_stored=False))
    sampling.answered(QUERY, replace(answer, source="legacy"))
    assert stage.journal.samples() == []
    sampling.answered(QUERY, answer)
    assert stage.journal.samples() == [("drop",)]


async def test_what_keeping_the_bodies_takes_is_rested_from(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow_file, "_KEEPING_S_PER_BYTE", 1.0)
    stage = make_stage(background)
    stage.shadow.start(background, concurrency=1)
    async with stage.comparing:
        sent = await stage.caller_asks(QUERY)
        await told(stage, ("compared", "mismatched"))
        await until(lambda: sum(stage.rests.rested_s) >= 19 * (len(sent) + len(OTHER)))
