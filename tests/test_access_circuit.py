"""A gate that hangs or fails: who waits, who is refused at once, and when it is asked again."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from multidict import CIMultiDict

from proxy.access.circuit_gate import CircuitGate
from proxy.access.credentials import Credentials
from proxy.access.doorman import Doorman
from proxy.access.verdict import Refusal, RefusedError
from proxy.background import Background
from proxy.errors import BackendError, BackendTimeout, BackendUnavailable
from tests.clocks import HandClock
from tests.waiting import until

HUNG = BackendTimeout("no word in time")
GONE = BackendUnavailable("not there")
NONSENSE = BackendError("it answered 500", reason="no_verdict")
NO = Refusal(401)
NOBODY = Credentials()
ANNA = Credentials(("Basic anna",))
BERT = Credentials(("Basic bert",))
MALLORY = [Credentials(cookies=f"session={number}") for number in range(12)]
"""One caller, who can show whatever he likes."""
FAILURES = 3

Task = asyncio.Task[Refusal | None]


@dataclass
class HandGate:
    """Says `says`, to `sick_of` something else, and to those who are held once they are not."""

    says: Refusal | Exception | None = None
    sick_of: dict[Credentials, Exception] = field(default_factory=dict)
    asked: list[Credentials] = field(default_factory=list)
    under_way: Counter[Credentials] = field(default_factory=Counter)
    _held: dict[Credentials, asyncio.Event] = field(default_factory=dict)

    async def ask(self, credentials: Credentials) -> Refusal | None:
        self.asked.append(credentials)
        says = self.sick_of.get(credentials, self.says)
        self.under_way[credentials] += 1
        try:
            if (held := self._held.get(credentials)) is not None:
                await held.wait()
        finally:
            self.under_way[credentials] -= 1
        if isinstance(says, Exception):
            raise says
        return says

    def hold(self, *shown: Credentials) -> None:
        self._held.update((credentials, asyncio.Event()) for credentials in shown)

    def release(self, *shown: Credentials) -> None:
        for credentials in shown:
            self._held.pop(credentials).set()


@dataclass
class Scene:
    gate: HandGate
    clock: HandClock
    background: Background

    def __post_init__(self) -> None:
        self.guarded = self.guard()

    def guard(self, *, timeout_s: float = 10, most_at_once: int = 4) -> CircuitGate:
        return CircuitGate(
            self.gate, self.background, self.clock, timeout_s=timeout_s, most_at_once=most_at_once
        )

    async def failing(self, credentials: Credentials, error: Exception) -> None:
        """Who shows `credentials` gets `error`, and all that follows from it has happened."""
        with pytest.raises(type(error)) as caught:
            await self.guarded.ask(credentials)
        assert caught.value is error
        await self.background.drained()

    async def fail(self, error: Exception, count: int = FAILURES) -> None:
        """Whoever asks gets `error`, and `count` do, one after another."""
        self.gate.says = error
        for _ in range(count):
            await self.failing(ANNA, error)

    async def left_alone(self) -> BackendUnavailable:
        asked = len(self.gate.asked)
        with pytest.raises(BackendUnavailable) as caught:
            await self.guarded.ask(ANNA)
        assert caught.value.reason == "auth_down"
        assert len(self.gate.asked) == asked
        return caught.value

    async def held(self, *shown: Credentials) -> list[Task]:
        """A caller for each of `shown`, all of whom wait for the gate."""
        self.gate.hold(*set(shown))
        tasks = [asyncio.create_task(self.guarded.ask(credentials)) for credentials in shown]
        await until(lambda: all(self.gate.under_way[credentials] for credentials in shown))
        return tasks

    async def crowd(self, count: int) -> list[Task]:
        """More callers than there are places, of whom four stand in the gate."""
        self.gate.hold(ANNA)
        tasks = [asyncio.create_task(self.guarded.ask(ANNA)) for _ in range(count)]
        await until(lambda: self.gate.under_way[ANNA] == 4)
        return tasks


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with Background(drain_s=0) as background:
        yield Scene(HandGate(), HandClock(), background)


async def outcomes(tasks: list[Task]) -> list[object]:
    return list(await asyncio.gather(*tasks, return_exceptions=True))


@pytest.mark.parametrize("says", [None, NO])
async def test_verdicts_go_through_as_they_are(scene: Scene, says: Refusal | None) -> None:
    scene.gate.says = says
    assert [await scene.guarded.ask(ANNA) for _ in range(5)] == [says] * 5
    assert scene.gate.asked == [ANNA] * 5


@pytest.mark.parametrize("error", [HUNG, GONE])
async def test_after_a_few_failures_nobody_is_asked_and_nobody_let_in(
    scene: Scene, error: Exception
) -> None:
    await scene.fail(error)
    # Whether it is down is seen by a question that has nothing of any caller.
    assert scene.gate.asked == [*[ANNA] * FAILURES, NOBODY]
    scene.gate.says = None
    assert (await scene.left_alone()).retry_after_s == 1.0
    scene.clock.pass_s(0.75)
    assert (await scene.left_alone()).retry_after_s == 0.25


async def test_a_verdict_between_failures_keeps_it_closed(scene: Scene) -> None:
    for _ in range(3):
        await scene.fail(HUNG, FAILURES - 1)
        scene.gate.says = NO
        assert await scene.guarded.ask(BERT) == NO
    assert NOBODY not in scene.gate.asked


@pytest.mark.parametrize("took_s", [0.0, 9.0])
async def test_answers_that_are_no_verdict_shut_nobody_out_however_slow(
    scene: Scene, took_s: float
) -> None:
    scene.gate.says = NONSENSE
    for _ in range(3):
        asked = await scene.held(*MALLORY[:4])
        scene.clock.pass_s(took_s)
        scene.gate.release(*MALLORY[:4])
        assert await outcomes(asked) == [NONSENSE] * 4
    scene.gate.says = None
    assert await scene.guarded.ask(ANNA) is None
    assert NOBODY not in scene.gate.asked


@pytest.mark.parametrize("error", [HUNG, GONE])
async def test_credentials_that_the_legacy_cannot_bear_shut_out_nobody_else(
    scene: Scene, error: Exception
) -> None:
    scene.gate.sick_of = dict.fromkeys(MALLORY, error)
    for _ in range(3):
        for shown in MALLORY:
            await scene.failing(shown, error)
        assert await scene.guarded.ask(ANNA) is None
    # Nor do they have us ask one more question for each of theirs.
    assert scene.gate.asked.count(NOBODY) == 3 * len(MALLORY) // FAILURES


@pytest.mark.parametrize("says", [NO, NONSENSE])
async def test_any_answer_about_nobody_shows_that_it_is_there(
    scene: Scene, says: Refusal | Exception
) -> None:
    scene.gate.says = says
    scene.gate.sick_of = dict.fromkeys(MALLORY, HUNG)
    for shown in MALLORY:
        await scene.failing(shown, HUNG)
    scene.gate.says = None
    assert await scene.guarded.ask(ANNA) is None


async def test_callers_do_not_wait_for_the_question_about_nobody_and_there_is_one_of_it(
    scene: Scene,
) -> None:
    scene.gate.says = HUNG
    scene.gate.hold(NOBODY)
    for _ in range(3 * FAILURES):
        with pytest.raises(BackendTimeout):
            await scene.guarded.ask(ANNA)
    await until(lambda: scene.gate.under_way[NOBODY] == 1)
    scene.gate.release(NOBODY)
    await scene.background.drained()
    assert scene.gate.asked.count(NOBODY) == 1
    await scene.left_alone()


async def test_a_verdict_that_comes_while_nobody_is_asked_about_keeps_it_closed(
    scene: Scene,
) -> None:
    scene.gate.sick_of = {ANNA: HUNG, NOBODY: HUNG}
    scene.gate.hold(NOBODY)
    for _ in range(FAILURES):
        with pytest.raises(BackendTimeout):
            await scene.guarded.ask(ANNA)
    await until(lambda: scene.gate.under_way[NOBODY] == 1)
    assert await scene.guarded.ask(BERT) is None
    scene.gate.release(NOBODY)
    await scene.background.drained()
    assert await scene.guarded.ask(BERT) is None


async def test_a_verdict_that_comes_after_it_opened_counts_for_its_caller_alone(
    scene: Scene,
) -> None:
    early = await scene.held(BERT)
    await scene.fail(HUNG)
    scene.gate.release(BERT)
    assert await outcomes(early) == [None]
    assert (await scene.left_alone()).retry_after_s == 1.0
    # And it does not make the next try's failure one of too few.
    scene.clock.pass_s(1)
    await scene.fail(HUNG, 1)
    assert (await scene.left_alone()).retry_after_s == 2.0


async def test_failures_that_come_after_it_opened_change_nothing(scene: Scene) -> None:
    scene.gate.says = HUNG
    late = await scene.held(BERT, *MALLORY[:2])
    await scene.fail(HUNG)
    asked = len(scene.gate.asked)
    scene.gate.release(BERT, *MALLORY[:2])
    assert await outcomes(late) == [HUNG] * 3
    await scene.background.drained()
    assert len(scene.gate.asked) == asked
    assert (await scene.left_alone()).retry_after_s == 1.0


async def test_after_the_pause_one_question_tries_and_a_verdict_closes_it(scene: Scene) -> None:
    await scene.fail(HUNG)
    scene.clock.pass_s(1)
    scene.gate.says = NO
    [trying] = await scene.held(BERT)
    # As long as that question and one about nobody may take.
    assert (await scene.left_alone()).retry_after_s == 20
    scene.gate.release(BERT)
    # A refusal is a verdict as good as any.
    assert await trying == NO
    assert await scene.guarded.ask(ANNA) == NO
    assert scene.gate.asked.count(NOBODY) == 1


async def test_a_try_that_fails_makes_the_pause_longer(scene: Scene) -> None:
    await scene.fail(HUNG)
    scene.clock.pass_s(1)
    await scene.fail(HUNG, 1)
    assert (await scene.left_alone()).retry_after_s == 2
    scene.clock.pass_s(2)
    await scene.fail(HUNG, 1)
    assert (await scene.left_alone()).retry_after_s == 4


@pytest.mark.parametrize("says", [None, NO, NONSENSE])
async def test_a_try_with_credentials_that_it_cannot_bear_closes_it_all_the_same(
    scene: Scene, says: Refusal | Exception | None
) -> None:
    await scene.fail(HUNG)
    scene.clock.pass_s(1)
    scene.gate.says = says
    scene.gate.sick_of = dict.fromkeys(MALLORY, HUNG)
    await scene.failing(MALLORY[0], HUNG)
    scene.gate.says = None
    assert await scene.guarded.ask(ANNA) is None


async def test_a_try_that_brings_no_verdict_closes_it(scene: Scene) -> None:
    await scene.fail(HUNG)
    scene.clock.pass_s(1)
    await scene.fail(NONSENSE, 1)
    scene.gate.says = None
    assert await scene.guarded.ask(ANNA) is None


async def test_one_that_is_down_for_nobody_only_is_closed_by_a_callers_verdict(
    scene: Scene,
) -> None:
    await scene.fail(HUNG)
    scene.clock.pass_s(1)
    scene.gate.says = None
    scene.gate.sick_of = {NOBODY: GONE}
    assert await scene.guarded.ask(ANNA) is None
    assert await scene.guarded.ask(BERT) is None


async def test_a_try_that_is_cancelled_is_not_the_last(scene: Scene) -> None:
    await scene.fail(HUNG)
    scene.clock.pass_s(1)
    [trying] = await scene.held(BERT)
    trying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trying
    scene.gate.release(BERT)
    scene.gate.says = None
    assert (await scene.left_alone()).retry_after_s == 1
    scene.clock.pass_s(1)
    assert await scene.guarded.ask(ANNA) is None


@pytest.mark.parametrize("is_open", [False, True])
async def test_a_question_about_nobody_that_is_cancelled_is_not_the_last(
    scene: Scene, is_open: bool
) -> None:
    if is_open:
        await scene.fail(HUNG)
        scene.clock.pass_s(1)
    scene.gate.says = HUNG
    async with Background(drain_s=0) as closing:
        scene.guarded._background = closing
        scene.gate.hold(NOBODY)
        for _ in range(1 if is_open else FAILURES):
            with pytest.raises(BackendTimeout):
                await scene.guarded.ask(ANNA)
        await until(lambda: scene.gate.under_way[NOBODY] == 1)
    assert scene.gate.under_way[NOBODY] == 0
    scene.guarded._background = scene.background
    scene.gate.release(NOBODY)
    if is_open:
        assert (await scene.left_alone()).retry_after_s == 1
        scene.clock.pass_s(1)
    await scene.fail(HUNG, 1)
    assert (await scene.left_alone()).retry_after_s == (2 if is_open else 1)


async def test_while_the_proxy_leaves_callers_get_their_own_error(scene: Scene) -> None:
    async with Background() as closed:
        pass
    scene.guarded._background = closed
    await scene.fail(HUNG, 2 * FAILURES)


async def test_so_many_are_asked_about_at_once_and_the_others_wait(scene: Scene) -> None:
    asked = await scene.crowd(9)
    for _ in range(5):
        await asyncio.sleep(0)
    assert scene.gate.under_way[ANNA] == 4
    scene.gate.release(ANNA)
    assert await outcomes(asked) == [None] * 9


async def test_who_waits_too_long_for_a_place_is_told_so(scene: Scene) -> None:
    scene.guarded = scene.guard(timeout_s=0.05, most_at_once=1)
    [first] = await scene.held(ANNA)
    with pytest.raises(BackendUnavailable) as caught:
        await scene.guarded.ask(BERT)
    assert (caught.value.reason, caught.value.retry_after_s) == ("auth_busy", 1.0)
    scene.gate.release(ANNA)
    assert await first is None
    assert await scene.guarded.ask(BERT) is None


async def test_who_leaves_the_queue_or_the_gate_keeps_no_place(scene: Scene) -> None:
    asked = await scene.crowd(8)
    for task in asked:
        task.cancel()
    await outcomes(asked)
    assert scene.gate.under_way[ANNA] == 0
    again = await scene.held(*MALLORY[:4])
    scene.gate.release(*MALLORY[:4])
    assert await outcomes(again) == [None] * 4


async def test_who_stands_in_the_queue_when_it_opens_is_refused_at_once(scene: Scene) -> None:
    """The question about nobody needs no place: it does not stand in the queue behind them."""
    scene.gate.says = HUNG
    asked = await scene.held(*MALLORY[:4])
    scene.gate.hold(ANNA)
    queued = [asyncio.create_task(scene.guarded.ask(ANNA)) for _ in range(16)]
    scene.gate.release(*MALLORY[:3])
    assert await outcomes(asked[:3]) == [HUNG] * 3
    # By now up to three of those who waited stand in the gate.
    await until(lambda: scene.gate.asked.count(NOBODY) == 1)
    await scene.background.drained()
    scene.gate.release(ANNA, MALLORY[3])
    refused = [error for error in await outcomes(queued) if isinstance(error, BackendError)]
    reasons = Counter(error.reason for error in refused)
    assert reasons["timeout"] == scene.gate.asked.count(ANNA) <= 3
    assert reasons["auth_down"] == 16 - reasons["timeout"]
    assert await outcomes(asked[3:]) == [HUNG]


async def test_a_word_that_counts_goes_on_while_it_is_open_but_not_past_its_time(
    scene: Scene,
) -> None:
    anna, bert = (CIMultiDict({"Authorization": f"Basic {name}"}) for name in ("anna", "bert"))
    doorman = Doorman(
        scene.guarded, scene.background, scene.clock, ttl_s=30, cookies=(), key=b"k" * 32
    )
    await doorman.admit(anna)
    await scene.fail(HUNG)
    asked = len(scene.gate.asked)
    for _ in range(5):
        await doorman.admit(anna)
        with pytest.raises(BackendUnavailable):
            await doorman.admit(bert)
    assert len(scene.gate.asked) == asked
    scene.clock.pass_s(30)
    with pytest.raises(BackendTimeout):
        await doorman.admit(anna)
    await scene.background.drained()
    scene.gate.says = NO
    scene.clock.pass_s(2)
    with pytest.raises(RefusedError):
        await doorman.admit(anna)
