"""A gate that hangs or fails: who waits, who is refused at once, and when it is asked again."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.access.circuit_gate import CircuitGate
from proxy.access.credentials import Credentials
from proxy.access.doorman import Doorman
from proxy.access.verdict import Refusal, RefusedError
from proxy.background import Background
from proxy.errors import BackendError, BackendTimeout, BackendUnavailable
from tests.clocks import HandClock
from tests.test_access import ANNA, BERT, NO, HandGate
from tests.waiting import until

HUNG = BackendTimeout("no word in time")
GONE = BackendUnavailable("not there")
NONSENSE = BackendError("it answered 500", reason="no_verdict")
NOBODY = Credentials()
FAILURES = 3


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def gate() -> HandGate:
    return HandGate()


@pytest.fixture
def guarded(gate: HandGate, clock: HandClock) -> CircuitGate:
    return CircuitGate(gate, clock, timeout_s=10, most_at_once=4)


async def fail(guarded: CircuitGate, gate: HandGate, *errors: Exception) -> None:
    for error in errors:
        gate.says = error
        with pytest.raises(type(error)):
            await guarded.ask(NOBODY)


async def left_alone(guarded: CircuitGate) -> BackendUnavailable:
    with pytest.raises(BackendUnavailable) as caught:
        await guarded.ask(NOBODY)
    assert caught.value.reason == "auth_down"
    return caught.value


@pytest.mark.parametrize("says", [None, NO])
async def test_verdicts_go_through_as_they_are(
    guarded: CircuitGate, gate: HandGate, says: Refusal | None
) -> None:
    gate.says = says
    assert [await guarded.ask(NOBODY) for _ in range(5)] == [says] * 5


@pytest.mark.parametrize("error", [HUNG, GONE])
async def test_after_a_few_failures_nobody_is_asked_and_nobody_let_in(
    guarded: CircuitGate, gate: HandGate, clock: HandClock, error: Exception
) -> None:
    await fail(guarded, gate, *[error] * FAILURES)
    gate.says = None
    assert (await left_alone(guarded)).retry_after_s == 1.0
    clock.pass_s(0.75)
    assert (await left_alone(guarded)).retry_after_s == 0.25
    assert len(gate.asked) == FAILURES


async def test_a_verdict_between_failures_keeps_it_closed(
    guarded: CircuitGate, gate: HandGate
) -> None:
    for _ in range(3):
        await fail(guarded, gate, *[HUNG] * (FAILURES - 1))
        gate.says = NO
        assert await guarded.ask(NOBODY) == NO


async def test_quick_answers_that_are_no_verdict_shut_nobody_out(
    guarded: CircuitGate, gate: HandGate
) -> None:
    await fail(guarded, gate, *[NONSENSE] * 10)
    gate.says = None
    assert await guarded.ask(NOBODY) is None


async def test_slow_answers_that_are_no_verdict_do(
    guarded: CircuitGate, gate: HandGate, clock: HandClock
) -> None:
    gate.hold()
    gate.says = NONSENSE
    asked = [asyncio.create_task(guarded.ask(NOBODY)) for _ in range(FAILURES)]
    await until(lambda: gate.under_way == FAILURES)
    clock.pass_s(1)
    gate.release()
    await asyncio.gather(*asked, return_exceptions=True)
    await left_alone(guarded)


async def test_after_the_pause_one_question_tries_and_a_verdict_closes_it(
    guarded: CircuitGate, gate: HandGate, clock: HandClock
) -> None:
    await fail(guarded, gate, *[HUNG] * FAILURES)
    clock.pass_s(1)
    gate.says = NO
    gate.hold()
    trying = asyncio.create_task(guarded.ask(NOBODY))
    await until(lambda: gate.under_way == 1)
    assert (await left_alone(guarded)).retry_after_s == 10
    gate.release()
    # A refusal is a verdict as good as any.
    assert await trying == NO
    assert await guarded.ask(NOBODY) == NO


async def test_a_try_that_fails_makes_the_pause_longer(
    guarded: CircuitGate, gate: HandGate, clock: HandClock
) -> None:
    await fail(guarded, gate, *[HUNG] * FAILURES)
    clock.pass_s(1)
    await fail(guarded, gate, HUNG)
    assert (await left_alone(guarded)).retry_after_s == 2


async def test_a_try_that_is_cancelled_is_not_the_last(
    guarded: CircuitGate, gate: HandGate, clock: HandClock
) -> None:
    await fail(guarded, gate, *[HUNG] * FAILURES)
    clock.pass_s(1)
    gate.hold()
    trying = asyncio.create_task(guarded.ask(NOBODY))
    await until(lambda: gate.under_way == 1)
    trying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trying
    gate.release()
    gate.says = None
    clock.pass_s(1)
    assert await guarded.ask(NOBODY) is None


async def test_so_many_are_asked_about_at_once_and_the_others_wait(
    guarded: CircuitGate, gate: HandGate
) -> None:
    gate.hold()
    asked = [asyncio.create_task(guarded.ask(NOBODY)) for _ in range(9)]
    await until(lambda: gate.under_way == 4)
    for _ in range(5):
        await asyncio.sleep(0)
    assert gate.under_way == 4
    gate.release()
    assert await asyncio.gather(*asked) == [None] * 9


async def test_who_waits_too_long_for_a_place_is_told_so(gate: HandGate, clock: HandClock) -> None:
    guarded = CircuitGate(gate, clock, timeout_s=0.05, most_at_once=1)
    gate.hold()
    first = asyncio.create_task(guarded.ask(NOBODY))
    await until(lambda: gate.under_way == 1)
    with pytest.raises(BackendUnavailable) as caught:
        await guarded.ask(NOBODY)
    assert (caught.value.reason, caught.value.retry_after_s) == ("auth_busy", 1.0)
    gate.release()
    assert await first is None
    assert await guarded.ask(NOBODY) is None


async def test_who_leaves_the_queue_or_the_gate_keeps_no_place(
    guarded: CircuitGate, gate: HandGate
) -> None:
    gate.hold()
    asked = [asyncio.create_task(guarded.ask(NOBODY)) for _ in range(8)]
    await until(lambda: gate.under_way == 4)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    assert gate.under_way == 0
    again = [asyncio.create_task(guarded.ask(NOBODY)) for _ in range(4)]
    await until(lambda: gate.under_way == 4)
    gate.release()
    assert await asyncio.gather(*again) == [None] * 4


async def test_who_stands_in_the_queue_when_it_opens_is_refused_at_once(
    guarded: CircuitGate, gate: HandGate
) -> None:
    gate.hold()
    gate.says = HUNG
    asked = [asyncio.create_task(guarded.ask(NOBODY)) for _ in range(20)]
    await until(lambda: gate.under_way == 4)
    gate.release()
    errors = await asyncio.gather(*asked, return_exceptions=True)
    reasons = [error.reason for error in errors if isinstance(error, BackendError)]
    assert reasons.count("timeout") == len(gate.asked) == 4
    assert reasons.count("auth_down") == 16


@pytest.fixture
async def doorman(guarded: CircuitGate, clock: HandClock) -> AsyncIterator[Doorman]:
    async with Background() as background:
        yield Doorman(guarded, background, clock, ttl_s=30, cookies=(), key=b"k" * 32)


async def test_a_word_that_counts_goes_on_while_it_is_open_but_not_past_its_time(
    guarded: CircuitGate, doorman: Doorman, gate: HandGate, clock: HandClock
) -> None:
    await doorman.admit(ANNA)
    await fail(guarded, gate, *[HUNG] * FAILURES)
    asked = len(gate.asked)
    for _ in range(5):
        await doorman.admit(ANNA)
        with pytest.raises(BackendUnavailable):
            await doorman.admit(BERT)
    assert len(gate.asked) == asked
    clock.pass_s(30)
    with pytest.raises(BackendTimeout):
        await doorman.admit(ANNA)
    gate.says = NO
    clock.pass_s(2)
    with pytest.raises(RefusedError):
        await doorman.admit(ANNA)
