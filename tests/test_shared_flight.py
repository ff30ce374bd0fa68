"""One load among processes: who loads, who waits and how, and what a failure costs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from proxy.background import Background
from proxy.cache.entry import Entry
from proxy.cache.lease import Lease, Taken
from proxy.freshness import Watermark
from proxy.query import Key
from proxy.shared_flight import SharedFlight
from proxy.telemetry import Telemetry
from tests.clocks import HandClock
from tests.entries import an_entry
from tests.gates import Gates
from tests.shared_leases import FakeLeases, FakeTiers, HandSleep, SharedRedis
from tests.waiting import until

A, B = Key("a"), Key("b")
NOW = Watermark("w1")
LATER = Watermark("w2")
WAIT_S = 10.0
RENEW_S = 2.0
OTHERS = Lease(A, "w1", "another process's")


class Process:
    """A process that shares `redis`. `ask` is what its leader does with one question."""

    def __init__(self, redis: SharedRedis, background: Background, name: str) -> None:
        self.gates = Gates()
        self.clock = HandClock()
        self.sleep = HandSleep(self.clock)
        self.telemetry = Telemetry()
        self.background = background
        self.leases = FakeLeases(redis, self.gates)
        self.tiers = FakeTiers(redis, self.gates)
        self.flight = SharedFlight(
            self.leases,
            self.tiers,
            background,
            self.telemetry,
            self.clock,
            wait_s=WAIT_S,
            renew_s=RENEW_S,
            new_token=lambda: name,
            sleep=self.sleep,
        )
        self.loads = 0
        self._seen = 0

    async def ask(
        self, load: Callable[[], Awaitable[object]] | None = None, watermark: Watermark = NOW
    ) -> Entry:
        async with self.flight.board(A, watermark) as seat:
            if seat.entry is not None:
                return seat.entry
            self.loads += 1
            await self.gates.come_to("load")
            if load is not None:
                await load()
            entry = an_entry("loaded", token=watermark.token)
            await seat.put(A, entry)
            return entry

    def asking(self, watermark: Watermark = NOW) -> asyncio.Task[Entry]:
        return asyncio.create_task(self.ask(watermark=watermark))

    async def next_pause_s(self, asking: asyncio.Task[Entry]) -> float:
        """The pause that `asking` begins after those it has had; 0 when it answers instead."""
        await until(lambda: len(self.sleep.pauses) > self._seen or asking.done())
        self._seen = len(self.sleep.pauses)
        return 0 if asking.done() else self.sleep.pauses[-1]

    def outcomes(self) -> dict[str, float]:
        return {
            sample.labels["outcome"]: sample.value
            for family in self.telemetry.registry.collect()
            for sample in family.samples
            if sample.name == "proxy_shared_flights_total"
        }


@pytest.fixture
def redis() -> SharedRedis:
    return SharedRedis()


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    async with Background(drain_s=0) as background:
        yield background


@pytest.fixture
def one(redis: SharedRedis, background: Background) -> Process:
    return Process(redis, background, "one")


@pytest.fixture
def other(redis: SharedRedis, background: Background) -> Process:
    return Process(redis, background, "other")


async def settled(background: Background) -> None:
    await until(lambda: len(background) == 0)


async def fail() -> None:
    raise ZeroDivisionError


async def test_who_comes_first_loads_and_keeps_it_for_all(
    one: Process, redis: SharedRedis, background: Background
) -> None:
    entry = await one.ask()
    await settled(background)

    assert one.gates.steps == ["take", "load", "put"]
    assert (one.tiers.memory, redis.entries) == ({A: entry}, {A: entry})
    assert redis.holders == {}
    assert one.outcomes() == {"led": 1}


async def test_it_answers_before_redis_has_the_entry(one: Process, redis: SharedRedis) -> None:
    one.gates.shut("put")
    entry = await one.ask()

    assert (one.tiers.memory, redis.entries) == ({A: entry}, {})


async def test_another_process_waits_and_takes_what_the_first_one_kept(
    one: Process, other: Process, background: Background
) -> None:
    one.gates.shut("load")
    leader, follower = one.asking(), other.asking()
    await until(lambda: len(other.sleep) == 1)
    one.gates.open("load")
    entry = await leader
    await until(lambda: len(background) == 0)
    other.sleep.pass_s(1)

    assert await follower is entry
    assert other.gates.steps == ["take", "take", "get shared"]
    assert (other.loads, other.outcomes()) == (0, {"followed": 1})


async def test_who_comes_when_the_entry_is_there_does_not_wait(
    one: Process, other: Process, background: Background
) -> None:
    entry = await one.ask()
    await settled(background)

    assert await other.ask() is entry
    assert other.sleep.pauses == []


async def test_the_pauses_grow_to_a_fifth_of_a_second_and_end_with_the_wait(
    one: Process, redis: SharedRedis
) -> None:
    redis.holders[A, "w1"] = "a process that is busy"
    asking = one.asking()
    while pause_s := await one.next_pause_s(asking):
        one.sleep.pass_s(pause_s)

    pauses = one.sleep.pauses
    assert pauses[:3] == pytest.approx([0.02, 0.03, 0.045])
    assert pauses[:-1] == sorted(pauses[:-1])
    assert max(pauses) == pytest.approx(0.2)
    assert sum(pauses) == pytest.approx(WAIT_S)


async def test_who_waited_in_vain_loads_for_itself_and_leaves_redis_to_the_holder(
    one: Process, redis: SharedRedis
) -> None:
    redis.holders[A, "w1"] = "a process that is slow"
    asking = one.asking()
    await until(lambda: len(one.sleep) == 1)
    one.sleep.pass_s(WAIT_S)
    entry = await asking

    assert one.tiers.memory == {A: entry}
    assert redis.entries == {}
    assert redis.holders == {(A, "w1"): "a process that is slow"}
    assert "put unleased" not in one.gates.steps
    assert one.outcomes() == {"timeout": 1}


async def test_one_takes_over_when_the_lease_of_a_dead_process_has_run_out(
    one: Process, other: Process, redis: SharedRedis, background: Background
) -> None:
    redis.holders[A, "w1"] = "a process that died"
    asking = [one.asking(), other.asking()]
    await until(lambda: len(one.sleep) == len(other.sleep) == 1)
    redis.expire()
    one.sleep.pass_s(1)
    entry = await asking[0]
    await until(lambda: A in redis.entries)
    other.sleep.pass_s(1)

    assert await asking[1] is entry
    assert (one.loads, other.loads) == (1, 0)
    assert (one.outcomes(), other.outcomes()) == ({"led": 1}, {"followed": 1})


async def test_a_load_that_fails_lets_another_try_at_once(
    one: Process, other: Process, redis: SharedRedis, background: Background
) -> None:
    with pytest.raises(ZeroDivisionError):
        await one.ask(fail)
    await settled(background)

    assert one.gates.steps == ["take", "load", "give back"]
    assert redis.holders == {}
    await other.ask()
    assert other.sleep.pauses == []


async def test_a_load_whose_answer_is_not_kept_lets_another_try_at_once(
    one: Process, redis: SharedRedis, background: Background
) -> None:
    async with one.flight.board(A, NOW):
        assert redis.holders != {}
    await settled(background)

    assert redis.holders == {}


async def test_giving_back_is_not_waited_for(one: Process, background: Background) -> None:
    one.gates.shut("give back")
    async with one.flight.board(A, NOW):
        pass
    assert len(background) > 0


async def test_other_states_of_the_data_do_not_wait_for_each_other(
    one: Process, other: Process
) -> None:
    one.gates.shut("load")
    older = one.asking(NOW)
    await until(lambda: one.gates.waiting["load"] == 1)

    assert (await other.ask(watermark=LATER)).watermark.token == "w2"
    assert not older.done()
    older.cancel()


async def test_without_redis_everybody_loads_at_once_and_keeps_as_ever(
    one: Process, redis: SharedRedis, background: Background
) -> None:
    redis.is_down = True
    await one.ask()
    await settled(background)

    assert one.gates.steps[:2] == ["load", "put unleased"]
    assert (one.sleep.pauses, one.outcomes()) == ([], {"alone": 1})


async def test_who_waits_when_redis_goes_loads_at_once(one: Process, redis: SharedRedis) -> None:
    redis.holders[A, "w1"] = "another process"
    asking = one.asking()
    await until(lambda: len(one.sleep) == 1)
    redis.is_down = True
    one.sleep.pass_s(0.02)
    await asking

    assert (one.loads, one.outcomes()) == (1, {"alone": 1})
    assert one.sleep.pauses == [0.02]


async def test_an_entry_that_cannot_be_read_is_loaded_again(
    one: Process, redis: SharedRedis, background: Background
) -> None:
    redis.entries[A] = an_entry("garbled", token="w1")
    one.tiers.is_blind = True
    entry = await one.ask()
    await settled(background)

    assert one.gates.steps == ["take", "get shared", "take again", "load", "put"]
    assert redis.entries == {A: entry}


async def test_of_those_who_cannot_read_an_entry_one_loads_and_the_others_wait(
    one: Process, redis: SharedRedis
) -> None:
    redis.entries[A] = an_entry("garbled", token="w1")
    redis.holders[A, "w1"] = "another that loads it again"
    one.tiers.is_blind = True
    asking = one.asking()
    await until(lambda: len(one.sleep) == 1)
    one.tiers.is_blind = False
    one.sleep.pass_s(1)

    assert await asking is redis.entries[A]
    assert one.gates.steps == ["take", "get shared", "take again", "take", "get shared"]


async def test_an_entry_of_another_state_is_not_taken_for_the_answer(
    one: Process, redis: SharedRedis
) -> None:
    class Forgetful(FakeLeases):
        async def take(self, lease: Lease, *, again: bool = False) -> Taken:
            return await super().take(lease, again=again) if again else Taken.ANSWERED

    one.flight._leases = Forgetful(redis, one.gates)
    redis.entries[A] = an_entry("replaced", token="w2")

    assert (await one.ask()).watermark.token == "w1"
    assert one.loads == 1


async def test_many_processes_load_once(redis: SharedRedis, background: Background) -> None:
    processes = [Process(redis, background, f"process {number}") for number in range(20)]
    asking = [process.asking() for process in processes]
    while not all(task.done() for task in asking):
        await asyncio.sleep(0)
        for process in processes:
            process.sleep.pass_s(0.01)

    assert sum(process.loads for process in processes) == 1
    assert len({id(task.result()) for task in asking}) == 1


@pytest.mark.parametrize("step", ["take", "load"])
async def test_cancelled_holding_the_lease_it_gives_it_back(
    one: Process, redis: SharedRedis, background: Background, step: str
) -> None:
    one.gates.shut(step)
    asking = one.asking()
    await until(lambda: one.gates.waiting[step] == 1)
    assert redis.holders == {(A, "w1"): "one"}
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await settled(background)

    assert redis.holders == {}


async def test_cancelled_in_a_pause_it_leaves_all_as_it_was(
    one: Process, redis: SharedRedis, background: Background
) -> None:
    redis.holders[A, "w1"] = "another process"
    asking = one.asking()
    await until(lambda: len(one.sleep) == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await settled(background)

    assert redis.holders == {(A, "w1"): "another process"}
    assert one.gates.steps == ["take"]


async def test_cancelled_while_it_reads_what_another_kept_it_holds_nothing(
    one: Process, redis: SharedRedis, background: Background
) -> None:
    redis.entries[A] = an_entry("rows", token="w1")
    one.gates.shut("get shared")
    asking = one.asking()
    await until(lambda: one.gates.waiting["get shared"] == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await settled(background)

    assert (redis.holders, one.gates.steps) == ({}, ["take", "get shared"])


async def test_its_repr_tells_how_long_one_waits(one: Process) -> None:
    assert repr(one.flight).endswith("wait=10.0 s>")
