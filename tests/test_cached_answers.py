"""The path of cached routes, step by step: who shares an answer with whom, and who waits."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from proxy.answer import Answer
from proxy.background import Background
from proxy.cached_answers import CachedAnswers, Load, Unkept
from proxy.cached_reply import LegacyReply
from proxy.cached_route import Asked
from proxy.errors import BackendError, BackendTimeout, BackendUnavailable
from proxy.query import Key
from proxy.reading import Span
from proxy.settings_tables import CachedRoute
from proxy.single_flight import SingleFlight
from proxy.telemetry import Telemetry
from proxy.watermarks import Watermarks
from tests.clocks import HandClock
from tests.gates import Gates
from tests.read_path import FakeStore
from tests.scripted_looks import ScriptedLooks
from tests.waiting import until

KEPT = LegacyReply(
    200, "OK", (("Content-Type", "application/json"),), b'{"success":true,"data":[1]}'
)
EMPTY = LegacyReply(200, "OK", KEPT.headers, b'{"success":true,"data":[]}')
COOKIE = LegacyReply(200, "OK", (*KEPT.headers, ("Set-Cookie", "a=b")), KEPT.body)
TIMEOUT = BackendTimeout("too late")


@dataclass
class House:
    looks: ScriptedLooks
    gates: Gates
    store: FakeStore
    clock: HandClock
    flights: SingleFlight[tuple[Key, str], Load]
    answers: CachedAnswers
    reply: LegacyReply = KEPT
    failure: BackendError | None = None
    takes_s: float = 0.0
    asked: int = 0
    tasks: list["asyncio.Task[Answer | Unkept]"] = field(default_factory=list)

    async def legacy(self) -> LegacyReply:
        self.asked += 1
        reply = self.reply
        self.clock.pass_s(self.takes_s)
        await self.gates.come_to("legacy")
        if self.failure is not None:
            raise self.failure
        return reply

    async def ask(self, asked: Asked | None = None) -> Answer | Unkept:
        return await self.answers.answer(asked or a_question(), self.legacy)

    def begin(self, asked: Asked | None = None) -> "asyncio.Task[Answer | Unkept]":
        self.tasks.append(asyncio.create_task(self.ask(asked)))
        return self.tasks[-1]

    def has_waiters(self, count: int) -> bool:
        return f": {count}}}" in repr(self.flights)

    async def waiters(self, count: int) -> None:
        await until(lambda: self.has_waiters(count))


def a_question(
    *, ttl_s: float | None = None, is_shared: bool = False, has_credentials: bool = False
) -> Asked:
    route = CachedRoute(path="/chart", ttl_s=ttl_s, shared_between_users=is_shared)
    return Asked(route, Key("chart"), "GET /chart", Span(), has_credentials)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with Background() as background:
        gates, clock = Gates(), HandClock()
        looks, store = ScriptedLooks(gates), FakeStore(gates)
        watermarks = Watermarks(looks, background, Telemetry(), clock, recount_s=3600)
        flights: SingleFlight[tuple[Key, str], Load] = SingleFlight(background)
        answers = CachedAnswers(watermarks, store, flights, clock, timeout_s=120)
        yield House(looks, gates, store, clock, flights, answers)


async def test_those_who_ask_together_share_one_answer(house: House) -> None:
    house.gates.shut("legacy")
    tasks = [house.begin() for _ in range(8)]
    await house.waiters(8)
    house.gates.open("legacy")
    answers = await asyncio.gather(*tasks)

    assert house.asked == 1
    assert all(isinstance(answer, Answer) and answer.is_stored for answer in answers)
    assert [answer.is_collapsed for answer in answers] == [False] + [True] * 7


async def test_an_answer_not_worth_keeping_is_shared_where_it_names_nobody(house: House) -> None:
    house.reply = EMPTY
    house.gates.shut("legacy")
    tasks = [house.begin() for _ in range(3)]
    await house.waiters(3)
    house.gates.open("legacy")
    answers = await asyncio.gather(*tasks)

    assert house.asked == 1
    assert [answer.reply for answer in answers if isinstance(answer, Unkept)] == [EMPTY] * 3


@pytest.mark.parametrize(
    ("reply", "credentials"),
    [(COOKIE, (False, False)), (EMPTY, (True, False)), (EMPTY, (False, True))],
)
async def test_an_answer_made_for_one_caller_is_not_shared(
    house: House, reply: LegacyReply, credentials: tuple[bool, bool]
) -> None:
    house.reply = reply
    house.gates.shut("legacy")
    leader, follower = (
        house.begin(a_question(is_shared=True, has_credentials=known)) for known in credentials
    )
    await house.waiters(2)
    house.gates.open("legacy")
    own, others = await leader, await follower

    assert isinstance(own, Unkept)
    assert isinstance(others, Unkept)
    assert (own.reply, others.reply) == (reply, None)


async def test_a_failure_is_every_waiters_and_then_forgotten(house: House) -> None:
    house.failure = BackendUnavailable("gone")
    house.gates.shut("legacy")
    tasks = [house.begin() for _ in range(3)]
    await house.waiters(3)
    house.gates.open("legacy")
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert found == [house.failure] * 3

    house.failure = None
    assert isinstance(await house.ask(), Answer)
    assert house.asked == 2


@pytest.mark.parametrize("step", ["get", "changes", "legacy", "put"])
async def test_a_leader_that_leaves_at_any_step_disturbs_no_follower(
    house: House, step: str
) -> None:
    house.gates.shut(step)
    leader = house.begin()
    await until(lambda: house.gates.waiting[step] > 0)
    follower = house.begin()
    # A look at the pipeline is one for all: nobody else comes to its gate.
    await until(lambda: house.gates.waiting[step] > 1 or house.has_waiters(2) or step == "changes")
    leader.cancel()
    house.gates.open(step)

    answer = await follower
    assert isinstance(answer, Answer)
    assert answer.is_stored
    assert house.asked == 1
    assert len(house.flights) == 0


async def test_who_has_seen_a_commit_does_not_join_a_question_from_before_it(house: House) -> None:
    house.gates.shut("legacy")
    early = house.begin()
    await house.waiters(1)
    house.looks.write(2)
    late = house.begin()
    await until(lambda: house.asked == 2)
    house.gates.open("legacy")
    first, second = await early, await late

    assert isinstance(first, Unkept)
    assert first.detail == "unsettled"
    assert isinstance(second, Answer)
    assert (second.is_stored, second.result) == (True, "miss")


async def test_deletes_that_only_counts_show_keep_an_answer_from_being_kept(house: House) -> None:
    await house.ask()
    house.store.memory.clear()
    house.gates.shut("legacy")
    task = house.begin()
    await house.waiters(1)
    house.looks.delete(rows=1)
    house.gates.open("legacy")
    answer = await task

    assert isinstance(answer, Unkept)
    assert answer.detail == "unsettled"


async def test_what_is_under_way_at_a_purge_is_answered_but_not_kept(house: House) -> None:
    house.gates.shut("legacy")
    task = house.begin()
    await until(lambda: house.gates.waiting["legacy"] > 0)
    house.answers.keep_no_load_under_way()
    house.gates.open("legacy")
    answer = await task

    assert isinstance(answer, Unkept)
    assert (answer.reply, answer.detail) == (KEPT, "purged")
    assert house.store.memory == {}


async def test_a_legacy_that_holds_callers_up_is_left_alone_for_those_with_a_last_answer(
    house: House,
) -> None:
    await house.ask()
    house.looks.write(2)
    house.failure = TIMEOUT
    for _ in range(3):
        assert await result_of(house) == ("stale", "timeout")
    assert await result_of(house) == ("stale", "legacy_down")
    assert house.asked == 4

    house.clock.pass_s(2)
    house.failure = None
    assert await result_of(house) == ("legacy", "")
    house.looks.write(3)
    assert await result_of(house) == ("legacy", "")
    assert house.asked == 6


async def test_a_question_without_a_last_answer_is_asked_however_ill_the_legacy_is(
    house: House,
) -> None:
    house.failure = TIMEOUT
    for _ in range(5):
        with pytest.raises(BackendTimeout):
            await house.ask()
    assert house.asked == 5


async def test_failures_that_hold_nobody_up_leave_the_legacy_to_be_asked(house: House) -> None:
    await house.ask()
    house.looks.write(2)
    house.failure = BackendUnavailable("refused", reason="unreachable")
    for _ in range(5):
        assert await result_of(house) == ("stale", "unreachable")
    assert house.asked == 6


async def test_slow_failures_count_as_holding_up(house: House) -> None:
    await house.ask()
    house.looks.write(2)
    house.failure = BackendUnavailable("reset", reason="disconnected")
    house.takes_s = 5
    for _ in range(3):
        await house.ask()
    assert await result_of(house) == ("stale", "legacy_down")


async def test_a_newer_answer_of_another_process_is_taken_over_when_ours_is_too_old(
    house: House,
) -> None:
    asked = a_question(ttl_s=60)
    await house.answers.answer(asked, house.legacy)
    house.clock.pass_s(61)
    await house.answers.answer(asked, house.legacy)
    ours = house.store.memory[asked.key]
    house.clock.pass_s(61)
    house.store.memory[asked.key], house.store.shared[asked.key] = ours, ours
    answer = await house.answers.answer(asked, house.legacy)

    assert isinstance(answer, Answer)
    assert (answer.result, house.asked) == ("stale", 3)
    house.store.shared[asked.key] = house.store.memory[asked.key]
    house.store.memory[asked.key] = ours
    again = await house.answers.answer(asked, house.legacy)
    assert isinstance(again, Answer)
    assert (again.result, again.detail, house.asked) == ("hit", "redis", 3)
    assert house.store.shared[asked.key].watermark != ours.watermark


async def result_of(house: House) -> tuple[str, str]:
    answer = await house.ask()
    assert isinstance(answer, Answer)
    return answer.source, answer.detail
