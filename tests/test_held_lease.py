"""A lease from the try to its end: renewed meanwhile, and ended however its holder ends."""

from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from proxy.background import Background
from proxy.cache.lease import Lease, Taken
from proxy.held_lease import HeldLease
from proxy.query import Key
from proxy.telemetry import Telemetry
from tests.clocks import HandClock
from tests.entries import an_entry
from tests.gates import Gates
from tests.shared_leases import FakeLeases, HandSleep, SharedRedis
from tests.waiting import until

A = Key("a")
LEASE = Lease(A, "w1", "mine")
RENEW_S = 2.0


class Holder:
    def __init__(self, background: Background) -> None:
        self.redis = SharedRedis()
        self.gates = Gates()
        self.sleep = HandSleep(HandClock())
        self.telemetry = Telemetry()
        self.background = background
        self.held = HeldLease(
            LEASE,
            FakeLeases(self.redis, self.gates),
            background,
            self.telemetry,
            renew_s=RENEW_S,
            sleep=self.sleep,
        )

    @property
    def is_held(self) -> bool:
        return (A, "w1") in self.redis.holders

    async def pass_a_term(self) -> None:
        """Until the renewal that follows has been done."""
        renewals = self.gates.steps.count("renew")
        await until(lambda: len(self.sleep) == 1)
        self.sleep.pass_s(RENEW_S)
        await until(lambda: self.gates.steps.count("renew") == renewals + 1)

    async def done(self) -> None:
        await until(lambda: len(self.background) == 0)

    def counted(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(name, labels)


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    async with Background(drain_s=0) as background:
        yield background


@pytest.fixture
def holder(background: Background) -> Holder:
    return Holder(background)


async def test_it_is_renewed_for_as_long_as_it_is_held(holder: Holder) -> None:
    await holder.held.take(again=False)
    for _ in range(5):
        await holder.pass_a_term()

    assert holder.gates.steps == ["take"] + ["renew"] * 5
    assert holder.sleep.pauses[:5] == [RENEW_S] * 5
    assert repr(holder.held) == "<HeldLease a kept=True>"


async def test_one_that_another_holds_is_neither_renewed_nor_given_back(holder: Holder) -> None:
    holder.redis.holders[A, "w1"] = "another"

    assert await holder.held.take(again=False) is Taken.HELD
    await holder.held.let_go()
    assert len(holder.background) == 0
    assert holder.gates.steps == ["take"]


async def test_a_put_ends_the_renewals(holder: Holder) -> None:
    await holder.held.take(again=False)
    entry = an_entry()
    await holder.held.put(entry)
    await holder.done()

    assert holder.redis.entries == {A: entry}
    assert not holder.is_held
    assert repr(holder.held) == "<HeldLease a kept=False>"


async def test_it_is_renewed_while_its_write_is_under_way(holder: Holder) -> None:
    await holder.held.take(again=False)
    holder.gates.shut("put")
    await holder.held.put(an_entry())
    await until(lambda: holder.gates.waiting["put"] == 1)
    await holder.pass_a_term()
    holder.gates.open("put")
    await holder.done()

    assert holder.gates.steps == ["take", "put", "renew"]


async def test_letting_go_after_a_put_does_nothing(holder: Holder) -> None:
    await holder.held.take(again=False)
    await holder.held.put(an_entry())
    await holder.held.let_go()
    await holder.done()

    assert holder.gates.steps == ["take", "put"]


async def test_letting_go_twice_gives_back_once(holder: Holder) -> None:
    await holder.held.take(again=False)
    await holder.held.let_go()
    await holder.held.let_go()
    await holder.done()

    assert holder.gates.steps == ["take", "give back"]
    assert not holder.is_held


async def test_a_lost_lease_is_renewed_no_more_and_its_write_is_refused_and_counted(
    holder: Holder,
) -> None:
    await holder.held.take(again=False)
    holder.redis.expire()
    await holder.pass_a_term()
    await holder.done()
    with capture_logs() as logs:
        await holder.held.put(an_entry())
        await holder.done()

    assert holder.redis.entries == {}
    assert holder.counted("proxy_shared_flights_total", outcome="refused") == 1
    assert [line["event"] for line in logs] == ["late_write_refused"]


async def test_a_renewal_that_fails_is_tried_again(holder: Holder) -> None:
    await holder.held.take(again=False)
    holder.redis.is_down = True
    await holder.pass_a_term()
    holder.redis.is_down = False
    await holder.pass_a_term()

    assert holder.gates.steps == ["take", "renew", "renew"]
    assert holder.is_held


async def test_a_write_that_fails_is_counted_and_the_lease_given_back(holder: Holder) -> None:
    await holder.held.take(again=False)
    holder.gates.shut("put")
    holder.redis.is_down = True
    await holder.held.put(an_entry())
    await until(lambda: holder.gates.waiting["put"] == 1)
    holder.gates.open("put")
    await holder.done()

    assert holder.gates.steps == ["take", "put", "give back"]
    assert holder.counted("proxy_store_errors_total", tier="redis", operation="put") == 1


async def test_closing_waits_for_a_write_that_has_begun() -> None:
    async with Background(drain_s=60) as background:
        holder = Holder(background)
        await holder.held.take(again=False)
        await holder.held.put(an_entry())

    assert A in holder.redis.entries


async def test_a_write_that_comes_after_closing_is_done_before_the_eyes_of_its_caller() -> None:
    async with Background(drain_s=0) as background:
        holder = Holder(background)
        await holder.held.take(again=False)
    await holder.held.put(an_entry())

    assert A in holder.redis.entries
    assert not holder.is_held


async def test_a_lease_let_go_after_closing_is_given_back_all_the_same() -> None:
    async with Background(drain_s=0) as background:
        holder = Holder(background)
        await holder.held.take(again=False)
    await holder.held.let_go()

    assert not holder.is_held


async def test_a_lease_taken_after_closing_is_not_renewed_but_ended() -> None:
    async with Background(drain_s=0) as background:
        holder = Holder(background)
    assert await holder.held.take(again=False) is Taken.GRANTED
    await holder.held.let_go()

    assert holder.gates.steps == ["take", "give back"]


async def test_closing_on_a_write_that_hangs_leaves_the_lease_to_run_out() -> None:
    async with Background(drain_s=0) as background:
        holder = Holder(background)
        await holder.held.take(again=False)
        holder.gates.shut("put")
        await holder.held.put(an_entry())
        await until(lambda: holder.gates.waiting["put"] == 1)

    assert holder.is_held
    assert holder.redis.entries == {}
    assert len(background) == 0
