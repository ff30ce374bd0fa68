"""Who is let in, on whose word and for how long. The legacy is a gate that a test opens."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field

import pytest
from multidict import CIMultiDict

from proxy.access.credentials import Credentials, Mark, credentials_of, mark_of
from proxy.access.doorman import Admission, Doorman, admitted
from proxy.access.verdict import Refusal, RefusedError, is_let_in
from proxy.background import Background
from proxy.errors import BackendError, BackendTimeout, BackendUnavailable
from tests.clocks import HandClock
from tests.waiting import until

TTL_S = 30.0
ANNA = CIMultiDict({"Authorization": "Basic YW5uYTprZXk="})
BERT = CIMultiDict({"Authorization": "Basic YmVydDprZXk="})
NOBODY: CIMultiDict[str] = CIMultiDict()
NO = Refusal(401, (("WWW-Authenticate", "Basic"),), b"who are you")


@dataclass
class HandGate:
    """Says `says`, once it `may_answer`; keeps what it was asked."""

    says: Refusal | Exception | None = None
    asked: list[Credentials] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: int = 0

    def __post_init__(self) -> None:
        self.may_answer.set()

    async def ask(self, credentials: Credentials) -> Refusal | None:
        self.asked.append(credentials)
        says = self.says
        self.under_way += 1
        try:
            await self.may_answer.wait()
        finally:
            self.under_way -= 1
        if isinstance(says, Exception):
            raise says
        return says

    def hold(self) -> None:
        self.may_answer.clear()

    def release(self) -> None:
        self.may_answer.set()


@dataclass
class Scene:
    gate: HandGate
    clock: HandClock
    background: Background

    def doorman(self, ttl_s: float = TTL_S, **more: int) -> Doorman:
        return Doorman(
            self.gate, self.background, self.clock, ttl_s=ttl_s, cookies=(), key=b"k" * 32, **more
        )

    async def held(self, doorman: Doorman, *headers: CIMultiDict[str]) -> "list[Task]":
        """A caller for each of `headers`, all waiting for the gate."""
        self.gate.hold()
        before = self.gate.under_way
        tasks = [asyncio.create_task(doorman.admit(shown)) for shown in headers]
        await until(lambda: self.gate.under_way > before)
        for _ in range(5):
            await asyncio.sleep(0)
        return tasks


Task = asyncio.Task[Admission]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with Background() as background:
        yield Scene(HandGate(), HandClock(), background)


@pytest.mark.parametrize("status", [200, 204, 299])
def test_success_lets_in(status: int) -> None:
    assert is_let_in(status)


@pytest.mark.parametrize("status", [401, 403])
def test_the_two_refusals_refuse(status: int) -> None:
    assert not is_let_in(status)


@pytest.mark.parametrize("status", [302, 304, 400, 404, 407, 429, 500, 503])
def test_any_other_status_is_no_verdict(status: int) -> None:
    with pytest.raises(BackendError, match=f"{status}.*PROXY_AUTH_URL") as caught:
        is_let_in(status)
    assert caught.value.reason == "no_verdict"


@pytest.mark.parametrize(
    ("sent", "named", "expected"),
    [
        ([], (), []),
        ([("authorization", "a")], (), [("Authorization", "a")]),
        (
            [("Authorization", "a"), ("Authorization", "b")],
            (),
            [("Authorization", "a"), ("Authorization", "b")],
        ),
        ([("Cookie", "s=1; t=2"), ("Cookie", "u=3")], (), [("Cookie", "s=1; t=2; u=3")]),
        ([("Cookie", "s=1; t=2; s=3 ;; u")], ("s",), [("Cookie", "s=1; s=3")]),
        ([("Cookie", "ss=1; S=2")], ("s",), []),
        ([("X-Token", "t"), ("X-Forwarded-For", "1.2.3.4")], (), []),
        ([("Authorization", "k\udcffy")], (), [("Authorization", "kÿy")]),
    ],
)
def test_what_counts_as_credentials(
    sent: list[tuple[str, str]], named: Collection[str], expected: list[tuple[str, str]]
) -> None:
    assert list(credentials_of(CIMultiDict(sent), named).headers()) == expected


def test_a_mark_tells_credentials_apart_and_gives_none_away() -> None:
    key = b"k" * 32
    shown = [
        Credentials(),
        Credentials(("a",)),
        Credentials(("a", "b")),
        Credentials(("ab",)),
        Credentials((), "a"),
        Credentials(("a",), "b"),
        Credentials(("aCookie 1:b",)),
    ]
    marks = [mark_of(credentials, key) for credentials in shown]
    assert len(set(marks)) == len(shown)
    assert mark_of(Credentials(("a",)), key) == marks[1]
    assert mark_of(Credentials(("a",)), b"other" * 6) != marks[1]
    assert (repr(marks[1]), str(marks[1])) == ("<mark>", "<mark>")
    assert "secret" not in repr(Credentials(("secret",), "secret"))


async def test_a_word_counts_for_the_time_it_has_and_no_longer(scene: Scene) -> None:
    doorman = scene.doorman()
    mark = doorman.mark_of(ANNA)
    assert not doorman.admits_now(mark)
    await doorman.admit(ANNA)
    scene.clock.pass_s(TTL_S - 0.001)
    assert doorman.admits_now(mark)
    await doorman.admit(ANNA)
    assert len(scene.gate.asked) == 1
    scene.clock.pass_s(0.001)
    assert not doorman.admits_now(mark)
    await doorman.admit(ANNA)
    assert len(scene.gate.asked) == 2


async def test_the_time_runs_from_the_question_not_from_its_answer(scene: Scene) -> None:
    doorman = scene.doorman()
    [waiting] = await scene.held(doorman, ANNA)
    scene.clock.pass_s(20)
    scene.gate.release()
    await waiting
    scene.clock.pass_s(9.9)
    assert doorman.admits_now(doorman.mark_of(ANNA))
    scene.clock.pass_s(0.2)
    assert not doorman.admits_now(doorman.mark_of(ANNA))


async def test_a_withdrawn_credential_is_refused_once_the_word_has_run_out(scene: Scene) -> None:
    doorman = scene.doorman()
    await doorman.admit(ANNA)
    scene.gate.says = NO
    scene.clock.pass_s(TTL_S)
    with pytest.raises(RefusedError) as caught:
        await doorman.admit(ANNA)
    assert caught.value.refusal == NO
    assert "Basic" not in str(caught.value)


async def test_a_refusal_is_not_kept(scene: Scene) -> None:
    doorman = scene.doorman()
    scene.gate.says = NO
    for _ in range(2):
        with pytest.raises(RefusedError):
            await doorman.admit(ANNA)
    scene.gate.says = None
    await doorman.admit(ANNA)
    assert len(scene.gate.asked) == 3


async def test_without_a_verdict_nobody_is_let_in_and_nothing_is_kept(scene: Scene) -> None:
    doorman = scene.doorman()
    scene.gate.says = BackendTimeout("too late")
    with pytest.raises(BackendTimeout):
        await doorman.admit(ANNA)
    assert len(doorman) == 0
    scene.gate.says = None
    await doorman.admit(ANNA)


async def test_a_kept_word_outlives_a_legacy_that_is_gone_but_not_its_time(scene: Scene) -> None:
    doorman = scene.doorman()
    await doorman.admit(ANNA)
    scene.gate.says = BackendError("gone")
    await doorman.admit(ANNA)
    scene.clock.pass_s(TTL_S)
    with pytest.raises(BackendError):
        await doorman.admit(ANNA)


async def test_who_shows_nothing_is_asked_about_too_and_is_somebody_of_his_own(
    scene: Scene,
) -> None:
    doorman = scene.doorman()
    await doorman.admit(NOBODY)
    await doorman.admit(NOBODY)
    assert scene.gate.asked == [Credentials()]
    assert not doorman.admits_now(doorman.mark_of(ANNA))


async def test_with_no_time_each_caller_is_asked_about(scene: Scene) -> None:
    doorman = scene.doorman(ttl_s=0)
    for _ in range(3):
        await doorman.admit(ANNA)
    assert len(scene.gate.asked) == 3
    assert len(doorman) == 0


async def test_many_with_one_credential_make_one_question(scene: Scene) -> None:
    doorman = scene.doorman()
    tasks = await scene.held(doorman, *[ANNA] * 50, *[BERT] * 50)
    scene.gate.release()
    await asyncio.gather(*tasks)
    assert len(scene.gate.asked) == 2


async def test_with_no_time_a_question_from_before_a_caller_came_is_not_enough_for_it(
    scene: Scene,
) -> None:
    doorman = scene.doorman(ttl_s=0)
    tasks = await scene.held(doorman, *[ANNA] * 10)
    scene.gate.release()
    await asyncio.gather(*tasks)
    # One for the first, one for all who came while it was under way.
    assert len(scene.gate.asked) == 2


async def test_an_answer_that_took_longer_than_its_word_lasts_is_for_its_asker_only(
    scene: Scene,
) -> None:
    doorman = scene.doorman()
    tasks = await scene.held(doorman, ANNA, ANNA)
    scene.clock.pass_s(TTL_S + 1)
    scene.gate.says = NO
    scene.gate.release()
    leader, follower = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(leader, Admission)
    assert isinstance(follower, RefusedError)


async def test_all_who_wait_for_a_refusal_get_it(scene: Scene) -> None:
    doorman = scene.doorman()
    scene.gate.says = NO
    tasks = await scene.held(doorman, ANNA, ANNA, ANNA)
    scene.gate.release()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in told] == [RefusedError] * 3
    assert len(scene.gate.asked) == 1


@pytest.mark.parametrize("leaver", [0, 1])
async def test_a_caller_who_leaves_does_not_end_the_others_question(
    scene: Scene, leaver: int
) -> None:
    doorman = scene.doorman()
    tasks = await scene.held(doorman, ANNA, ANNA, ANNA)
    tasks.pop(leaver).cancel()
    await asyncio.sleep(0)
    scene.gate.release()
    await asyncio.gather(*tasks)
    assert len(scene.gate.asked) == 1


async def test_when_all_have_left_the_word_is_kept_for_the_next(scene: Scene) -> None:
    doorman = scene.doorman()
    [waiting] = await scene.held(doorman, ANNA)
    waiting.cancel()
    scene.gate.release()
    await until(lambda: len(doorman) == 1)
    await doorman.admit(ANNA)
    assert len(scene.gate.asked) == 1
    assert repr(doorman) == "<Doorman kept=1 asking=0>"


async def test_a_refusal_seen_elsewhere_ends_a_word_at_once_and_no_other(scene: Scene) -> None:
    doorman = scene.doorman()
    await doorman.admit(ANNA)
    await doorman.admit(BERT)
    doorman.withdraw(ANNA)
    assert not doorman.admits_now(doorman.mark_of(ANNA))
    assert doorman.admits_now(doorman.mark_of(BERT))


async def test_a_question_sent_before_a_refusal_elsewhere_is_void(scene: Scene) -> None:
    doorman = scene.doorman()
    tasks = await scene.held(doorman, ANNA, ANNA)
    scene.gate.says = NO
    doorman.withdraw(ANNA)
    scene.gate.release()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in told] == [RefusedError] * 2
    assert len(doorman) == 0


async def test_a_void_word_is_not_kept_when_all_who_waited_have_left(scene: Scene) -> None:
    doorman = scene.doorman()
    [waiting] = await scene.held(doorman, ANNA)
    waiting.cancel()
    doorman.withdraw(ANNA)
    scene.gate.release()
    await scene.background.drained()
    assert len(doorman) == 0


async def test_a_legacy_that_never_stops_contradicting_itself_lets_nobody_in(
    scene: Scene,
) -> None:
    doorman = scene.doorman()

    async def contradict() -> None:
        while True:
            doorman.withdraw(ANNA)
            await asyncio.sleep(0)

    scene.gate.hold()
    contradicting = asyncio.create_task(contradict())
    waiting = asyncio.create_task(doorman.admit(ANNA))
    for round_ in range(1, 4):
        await until(lambda count=round_: len(scene.gate.asked) == count)  # type: ignore[misc]
        for _ in range(3):
            await asyncio.sleep(0)
        scene.gate.release()
        await asyncio.sleep(0)
        scene.gate.hold()
    with pytest.raises(BackendError, match="at the same time"):
        await waiting
    contradicting.cancel()
    assert len(doorman) == 0


async def test_only_so_many_words_are_kept_and_the_oldest_goes(scene: Scene) -> None:
    doorman = scene.doorman(most_kept=2)
    others = [CIMultiDict({"Authorization": str(number)}) for number in range(2)]
    await doorman.admit(ANNA)
    for headers in others:
        await doorman.admit(headers)
    assert len(doorman) == 2
    assert not doorman.admits_now(doorman.mark_of(ANNA))
    assert all(doorman.admits_now(doorman.mark_of(headers)) for headers in others)


async def test_credentials_are_not_kept(scene: Scene) -> None:
    doorman = scene.doorman()
    secret = "Bearer " + "-".join(["not", "to", "be", "found"])
    headers = CIMultiDict({"Authorization": secret})
    await doorman.admit(headers)
    mark = doorman.mark_of(headers)
    headers.clear()
    scene.gate.asked.clear()
    await scene.background.drained()
    gc.collect()
    kept = [found for found in gc.get_objects() if isinstance(found, Credentials)]
    assert [found for found in kept if secret in found.authorization] == []
    assert doorman.admits_now(mark)
    assert isinstance(mark, Mark)


Act = Callable[[Scene, Doorman], Awaitable[None]]


async def time_passes(scene: Scene, doorman: Doorman) -> None:
    scene.clock.pass_s(TTL_S)


async def it_is_withdrawn(scene: Scene, doorman: Doorman) -> None:
    doorman.withdraw(ANNA)


async def an_answer(doorman: Doorman | None, *, made_by: Callable[[], Awaitable[None]]) -> None:
    async with admitted(doorman, ANNA):
        await made_by()


@pytest.mark.parametrize("meanwhile", [time_passes, it_is_withdrawn])
async def test_an_answer_does_not_go_out_when_the_word_ended_while_it_was_made(
    scene: Scene, meanwhile: Act
) -> None:
    doorman = scene.doorman()

    async def make() -> None:
        scene.gate.says = NO
        await meanwhile(scene, doorman)

    with pytest.raises(RefusedError):
        await an_answer(doorman, made_by=make)


@pytest.mark.parametrize("ttl_s", [TTL_S, 0])
async def test_an_answer_made_quickly_needs_no_second_question(scene: Scene, ttl_s: float) -> None:
    async with admitted(scene.doorman(ttl_s), ANNA):
        scene.clock.pass_s(0.5)
    assert len(scene.gate.asked) == 1


async def test_with_no_time_an_answer_made_slowly_needs_a_second_question(scene: Scene) -> None:
    async with admitted(scene.doorman(0), ANNA):
        scene.clock.pass_s(2)
    assert len(scene.gate.asked) == 2


async def test_no_answer_is_begun_for_who_is_refused(scene: Scene) -> None:
    scene.gate.says = NO

    async def begin() -> None:
        raise AssertionError("begun")

    with pytest.raises(RefusedError):
        await an_answer(scene.doorman(), made_by=begin)


async def test_a_failure_of_the_answer_itself_is_told_as_it_is(scene: Scene) -> None:
    async def fail() -> None:
        scene.clock.pass_s(TTL_S)
        raise BackendError("no data")

    with pytest.raises(BackendError, match="no data"):
        await an_answer(scene.doorman(), made_by=fail)
    assert len(scene.gate.asked) == 1


async def test_without_a_doorman_all_are_let_in() -> None:
    let_in = []
    for shown in (NOBODY, ANNA):
        async with admitted(None, shown):
            let_in.append(shown)
    assert let_in == [NOBODY, ANNA]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_status_of_an_application_that_is_down_is_told_apart(status: int) -> None:
    with pytest.raises(BackendUnavailable):
        is_let_in(status)
    with pytest.raises(BackendError) as caught:
        is_let_in(500)
    assert not isinstance(caught.value, BackendUnavailable)


async def test_closing_lets_nobody_wait(scene: Scene) -> None:
    async with Background(drain_s=0) as background:
        doorman = Doorman(scene.gate, background, scene.clock, ttl_s=1, cookies=(), key=b"k" * 32)
        [waiting] = await scene.held(doorman, ANNA)
    with pytest.raises(BackendError) as caught:
        await waiting
    assert caught.value.reason == "closing"
    assert "YW5u" not in str(caught.value)
