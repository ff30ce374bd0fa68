"""RolloutGuard: it steps, holds and rolls back, in one process and in several."""

import asyncio

import pytest
from structlog.testing import capture_logs

from proxy.cache.redis import RedisStore
from proxy.cache.redis_duty import RedisDuty
from proxy.rollout.ramp import Asked
from proxy.rollout.state import (
    Cause,
    ConflictError,
    MigrationState,
    lifted,
    rolled_back,
    with_percent,
)
from proxy.telemetry import Telemetry
from tests.clocks import HandClock
from tests.comparisons import AT, DAY_S
from tests.guarding import BY_ANN, PLAN, Desk, Guarded, guarded
from tests.kept_in_memory import LedgerInMemory
from tests.redis_server import RedisServer
from tests.state_in_memory import StateInMemory
from tests.waiting import until

INTERVAL_S = PLAN.interval_s


def by_hand(state: MigrationState) -> MigrationState:
    return with_percent(state, 40, BY_ANN)


def lift(state: MigrationState) -> MigrationState:
    return lifted(state, BY_ANN)


def actions(world: Guarded) -> list[str]:
    return [change.action for change in world.rollout.history]


async def pass_a_step(world: Guarded) -> None:
    since = world.rollout.since
    world.be_good()
    await world.looked()
    world.clock.pass_s(INTERVAL_S)
    await until(lambda: world.rollout.since != since)


async def test_it_goes_through_the_steps_and_goes_on_judging() -> None:
    async with guarded() as world:
        await world.started()
        assert (world.rollout.state, world.rollout.step, world.state.percent) == ("running", 0, 5)
        seen = []
        for _ in range(3):
            await pass_a_step(world)
            seen.append((world.rollout.state, world.rollout.step, world.state.percent))
        assert seen == [("running", 1, 50), ("running", 2, 100), ("complete", 2, 100)]
        await pass_a_step(world)
        assert world.rollout.state == "complete"
        assert actions(world) == ["start", "step", "step", "complete"]
        assert [event.event for event in world.told] == actions(world)
        assert world.rollout.history[1].author == "guard"
        world.compare(60, mismatched=True)
        await until(lambda: world.state.rolled_back)


async def test_it_holds_as_long_as_there_are_not_enough_samples() -> None:
    async with guarded() as world:
        await world.started()
        world.clock.pass_s(100 * INTERVAL_S)
        world.compare(PLAN.min_samples - 1)
        world.answer(PLAN.min_samples - 1)
        await world.looked()
        await world.looked()
        assert (world.rollout.state, world.rollout.step) == ("running", 0)
        world.be_good()
        await until(lambda: world.rollout.step == 1)


async def test_what_was_before_a_step_does_not_count_for_the_next() -> None:
    async with guarded() as world:
        world.compare(500)
        world.answer(500)
        await world.started()
        world.clock.pass_s(INTERVAL_S)
        await world.looked()
        await world.looked()
        assert world.rollout.step == 0


async def test_a_failure_rolls_back_with_reason_metric_log_and_webhook() -> None:
    async with guarded() as world:
        await world.started()
        with capture_logs() as logs:
            world.compare(60, mismatched=True)
            await until(lambda: world.state.rolled_back)
        assert (world.rollout.state, world.rollout.verdict) == ("rolled_back", "fail")
        assert world.state.percent_in_force == 0
        assert world.state.author == "guard"
        assert "mismatch_rate" in world.state.reason
        assert "1.00% allowed (" in world.rollout.reason
        assert world.rollbacks == 1
        (line,) = [one for one in logs if one["event"] == "rolled_back"]
        assert line["reason"] == world.state.reason
        event = world.told[-1]
        assert (event.event, event.author, event.percent) == ("rollback", "guard", 0)
        assert event.reason == world.state.reason
        assert actions(world) == ["start", "rollback"]


async def test_structural_differences_do_not_wait_for_enough_samples() -> None:
    async with guarded(plan=PLAN.model_copy(update={"min_samples": 10_000})) as world:
        await world.started()
        world.compare(30, structural=True)
        await until(lambda: world.state.rolled_back)
        assert world.state.reason.startswith("structural_rate")


async def test_errors_in_a_row_roll_back_though_the_ledger_and_the_duty_are_down() -> None:
    async with guarded() as world:
        await world.started()
        world.ledger.is_down = world.desk.is_down = True
        world.answer(2, is_ok=False)
        world.answer(1)
        world.answer(2, is_ok=False)
        await asyncio.sleep(0)
        assert not world.state.rolled_back
        world.answer(1, is_ok=False)
        await until(lambda: world.state.rolled_back)
        assert world.state.reason.startswith("consecutive_errors: 3 errors in a row")
        assert world.rollbacks == 1


async def test_errors_in_a_row_roll_back_without_anybody_looking() -> None:
    async with guarded(is_following=False) as world:
        await world.started()
        world.answer(PLAN.consecutive_errors, is_ok=False)
        await until(lambda: world.state.rolled_back)


async def test_errors_in_a_row_roll_back_though_the_disk_is_full() -> None:
    async with guarded() as world:
        await world.started()
        world.file.is_full = True
        world.answer(3, is_ok=False)
        await until(lambda: world.state.rolled_back)


async def test_errors_from_before_the_start_are_forgiven() -> None:
    async with guarded() as world:
        world.answer(10, is_ok=False)
        await world.started()
        world.answer(2, is_ok=False)
        await world.looked()
        assert not world.state.rolled_back
        world.answer(1)
        world.answer(2, is_ok=False)
        await world.looked()
        assert not world.state.rolled_back
        world.answer(1, is_ok=False)
        await until(lambda: world.state.rolled_back)


@pytest.mark.parametrize("asked", ["pause", "abort"])
async def test_one_that_is_paused_or_aborted_is_left_alone(asked: Asked) -> None:
    async with guarded() as world:
        await world.started()
        await world.guard.steer(asked, BY_ANN)
        world.answer(50, is_ok=False)
        world.compare(500, mismatched=True)
        await world.journal.flush()
        await until(lambda: not world.desk.holder)
        read = world.ledger.asked
        for _ in range(200):
            await asyncio.sleep(0)
        assert not world.state.rolled_back
        # The journal writes, and nobody reads.
        assert world.ledger.asked - read <= 2


async def test_a_percent_set_by_hand_pauses_it() -> None:
    async with guarded() as world:
        await world.started()
        await world.steering.change(by_hand)
        assert (world.rollout.state, world.state.percent) == ("paused", 40)
        await world.guard.steer("resume", BY_ANN)
        assert (world.rollout.state, world.state.percent) == ("running", 5)


async def test_resuming_begins_a_new_window() -> None:
    async with guarded() as world:
        await world.started()
        world.be_good()
        await world.looked()
        await world.guard.steer("pause", BY_ANN)
        world.compare(500, mismatched=True)
        await world.guard.steer("resume", BY_ANN)
        world.clock.pass_s(INTERVAL_S)
        await world.looked()
        await world.looked()
        assert (world.rollout.state, world.rollout.step) == ("running", 0)


async def test_promoting_goes_to_the_next_step_now_and_at_the_last_completes() -> None:
    async with guarded() as world:
        await world.started()
        await world.guard.steer("promote", BY_ANN)
        assert (world.rollout.step, world.state.percent) == (1, 50)
        await world.guard.steer("pause", BY_ANN)
        await world.guard.steer("promote", BY_ANN)
        assert (world.rollout.state, world.rollout.step, world.state.percent) == ("running", 2, 100)
        await world.guard.steer("promote", BY_ANN)
        assert (world.rollout.state, world.rollout.step) == ("complete", 2)


async def test_aborting_ends_it_at_0_percent() -> None:
    async with guarded() as world:
        await world.started()
        await world.guard.steer("abort", BY_ANN)
        assert (world.rollout.state, world.state.percent, world.state.rolled_back) == (
            "idle", 0, False,
        )  # fmt: skip
        assert actions(world) == ["start", "abort"]
        await world.started()
        assert world.rollout.state == "running"


POSSIBLE: dict[str, set[Asked]] = {
    "idle": {"start"},
    "running": {"pause", "promote", "abort"},
    "paused": {"resume", "promote", "abort"},
    "complete": {"pause", "abort"},
    "rolled_back": set(),
}


@pytest.mark.parametrize("asked", ["start", "pause", "resume", "promote", "abort"])
@pytest.mark.parametrize("state", POSSIBLE)
async def test_what_is_possible_from_where(state: str, asked: Asked) -> None:
    async with guarded(is_following=False) as world:
        if state != "idle":
            await world.started()
        if state == "paused":
            await world.guard.steer("pause", BY_ANN)
        if state == "complete":
            for _ in PLAN.steps:
                await world.guard.steer("promote", BY_ANN)
        if state == "rolled_back":
            await world.steering.change(lambda state: rolled_back(state, BY_ANN))
        assert world.rollout.state == state
        before = world.state
        if asked in POSSIBLE[state]:
            await world.guard.steer(asked, BY_ANN)
            assert world.state != before
        else:
            with pytest.raises(ConflictError, match=f"{asked} is not possible"):
                await world.guard.steer(asked, BY_ANN)
            assert world.state == before


async def test_what_was_rolled_back_is_not_ramped_again_unasked() -> None:
    async with guarded() as world:
        await world.started()
        world.answer(3, is_ok=False)
        await until(lambda: world.state.rolled_back)
        with pytest.raises(ConflictError, match="rolled back"):
            await world.started()
        await world.steering.change(lift)
        world.be_good()
        world.clock.pass_s(100 * INTERVAL_S)
        for _ in range(200):
            await asyncio.sleep(0)
        assert (world.rollout.state, world.state.percent_in_force) == ("idle", 0)
        await world.started()
        await world.looked()
        assert (world.rollout.state, world.state.percent_in_force) == ("running", 5)


async def test_an_operators_rollback_without_a_rollout_needs_a_lift_too() -> None:
    async with guarded() as world:
        await world.steering.change(lambda state: rolled_back(state, BY_ANN))
        with pytest.raises(ConflictError, match="lift"):
            await world.started()


async def test_a_restart_goes_on_where_it_was() -> None:
    file, ledger, clock = StateInMemory(), LedgerInMemory(), HandClock(AT)
    async with guarded(file=file, ledger=ledger, clock=clock) as world:
        await world.started()
        world.compare(PLAN.min_samples)
        await world.journal.flush()
    async with guarded(file=file, ledger=ledger, clock=clock) as world:
        assert (world.rollout.state, world.rollout.step) == ("running", 0)
        world.answer(PLAN.min_samples)
        await world.looked()
        clock.pass_s(INTERVAL_S)
        await until(lambda: world.rollout.step == 1)
        world.answer(3, is_ok=False)
        await until(lambda: world.state.rolled_back)
    async with guarded(file=file, ledger=ledger, clock=clock) as world:
        assert (world.rollout.state, world.state.percent_in_force) == ("rolled_back", 0)


async def test_a_ledger_that_is_down_means_hold_and_is_said_once() -> None:
    async with guarded() as world:
        await world.started()
        world.be_good()
        await world.looked()
        with capture_logs() as logs:
            world.ledger.is_down = True
            world.clock.pass_s(INTERVAL_S)
            await world.looked()
            await world.looked()
            assert world.rollout.step == 0
            world.ledger.is_down = False
            await until(lambda: logs[-1]["event"] == "guard_judges_again")
        assert world.rollout.step == 1
        assert [line["event"] for line in logs].count("guard_holds") == 1


async def test_a_start_while_the_ledger_is_down_begins_its_window_when_it_is_back() -> None:
    async with guarded() as world:
        world.compare(500, mismatched=True)
        await world.journal.flush()
        world.ledger.is_down = True
        await world.started()
        assert (world.rollout.state, world.rollout.since) == ("running", None)
        world.clock.pass_s(30)
        world.ledger.is_down = False
        await until(lambda: world.rollout.since == AT + 30)
        await world.looked()
        assert not world.state.rolled_back


async def test_an_emptied_ledger_begins_a_new_window() -> None:
    async with guarded() as world:
        world.be_good()
        await world.started()
        world.ledger.days.clear()
        world.clock.pass_s(7)
        await until(lambda: world.rollout.since == AT + 7)
        assert world.rollout.step == 0
        await pass_a_step(world)
        assert world.rollout.step == 1


async def test_a_window_may_last_over_midnight() -> None:
    async with guarded() as world:
        await world.started()
        world.compare(PLAN.min_samples)
        await world.journal.flush()
        world.clock.pass_s(DAY_S)
        world.answer(PLAN.min_samples)
        await until(lambda: world.rollout.step == 1)
        assert world.rollout.since == AT + DAY_S
        # The new window's baseline is of the new day alone.
        assert world.rollout.baseline.get("total|compared", 0) == 0


async def test_a_change_between_the_look_and_the_step_is_not_run_over() -> None:
    async with guarded() as world:
        await world.started()
        world.be_good()
        await world.looked()
        world.file.gate.clear()
        paused = world.background.spawn(world.guard.steer("pause", BY_ANN), name="pause")
        await until(lambda: world.file.waiting > 0)
        world.clock.pass_s(INTERVAL_S)
        await until(lambda: len([task for task in asyncio.all_tasks()
                                 if task.get_name() == "change of the migration"]) > 1)  # fmt: skip
        world.file.gate.set()
        await paused
        for _ in range(200):
            await asyncio.sleep(0)
        assert (world.rollout.state, world.rollout.step) == ("paused", 0)
        assert actions(world) == ["start", "pause"]


async def test_a_step_that_cannot_be_kept_is_tried_again() -> None:
    async with guarded() as world:
        await world.started()
        world.be_good()
        await world.looked()
        world.file.is_full = True
        world.clock.pass_s(INTERVAL_S)
        await world.looked()
        await world.looked()
        assert (world.rollout.step, world.told[-1].event) == (0, "start")
        world.file.is_full = False
        await until(lambda: world.rollout.step == 1)
        assert [event.event for event in world.told] == ["start", "step"]


async def test_only_the_process_on_duty_decides_and_all_follow() -> None:
    desk, shared, ledger, clock = Desk(), StateInMemory(), LedgerInMemory(), HandClock(AT)
    async with (
        guarded(name="one", desk=desk, shared=shared, ledger=ledger, clock=clock) as one,
        guarded(name="two", desk=desk, shared=shared, ledger=ledger, clock=clock) as two,
    ):
        await one.started()
        await until(lambda: two.rollout.state == "running")
        await until(lambda: bool(desk.holder))
        one.compare(PLAN.min_samples)
        two.answer(PLAN.min_samples)
        await one.journal.flush()
        await two.journal.flush()
        clock.pass_s(INTERVAL_S)
        await until(lambda: one.rollout.step == two.rollout.step == 1)
        steps = [event for world in (one, two) for event in world.told if event.event == "step"]
        assert len(steps) == 1
        assert actions(one) == actions(two) == ["start", "step"]


async def test_who_is_not_on_duty_still_rolls_back_for_errors_of_its_own() -> None:
    desk, shared = Desk(holder="somebody"), StateInMemory()
    async with (
        guarded(name="one", desk=desk, shared=shared) as one,
        guarded(name="two", desk=desk, shared=shared) as two,
    ):
        await one.started()
        await until(lambda: two.rollout.state == "running")
        two.answer(3, is_ok=False)
        await until(lambda: one.state.rolled_back)
        assert (one.rollbacks, two.rollbacks) == (0, 1)


async def test_when_the_holder_is_gone_another_takes_over() -> None:
    desk = Desk(holder="one that was killed")
    async with guarded(desk=desk) as world:
        await world.started()
        world.be_good()
        world.clock.pass_s(INTERVAL_S)
        await until(lambda: "take" in desk.calls)
        assert world.rollout.step == 0
        desk.holder = ""
        await until(lambda: world.rollout.step == 1)


async def test_a_duty_lost_to_another_ends_deciding() -> None:
    desk = Desk()
    async with guarded(desk=desk) as world:
        await world.started()
        await until(lambda: desk.holder == "one")
        desk.holder = "two"
        world.clock.pass_s(INTERVAL_S)
        world.be_good()
        for _ in range(300):
            await asyncio.sleep(0)
        assert world.rollout.step == 0


async def test_a_duty_that_cannot_be_asked_means_hold() -> None:
    desk = Desk(is_down=True)
    async with guarded(desk=desk) as world:
        await world.started()
        world.be_good()
        world.compare(100, mismatched=True)
        await until(lambda: desk.calls.count("take") > 3)
        assert world.rollout.state == "running"
        desk.is_down = False
        await until(lambda: world.state.rolled_back)


async def test_a_proxy_that_leaves_gives_the_duty_back() -> None:
    desk = Desk()
    async with guarded(desk=desk) as world:
        await world.started()
        await until(lambda: desk.holder == "one")
    assert desk.holder == ""


async def test_a_duty_in_redis_goes_to_another_when_its_holder_is_dead() -> None:
    async with (
        RedisServer() as server,
        RedisStore(
            server.url, telemetry=Telemetry(), clock=HandClock(), entry_ttl_s=600,
            timeout_s=20, connect_timeout_s=20,
        ) as store,
    ):  # fmt: skip
        dead = RedisDuty(store.connection, "rollout", ttl_s=0.05)
        assert await dead.take()
        async with guarded(duty=RedisDuty(store.connection, "rollout", ttl_s=5)) as world:
            await world.started()
            world.be_good()
            world.clock.pass_s(INTERVAL_S)
            await until(lambda: world.rollout.step == 1)


async def test_without_news_it_looks_at_ticks_only() -> None:
    async with guarded(tick_s=3600) as world:
        await world.started()
        await world.journal.flush()
        await until(lambda: bool(world.desk.holder))
        for _ in range(100):
            await asyncio.sleep(0)
        asked = world.ledger.asked
        for _ in range(300):
            await asyncio.sleep(0)
        assert world.ledger.asked == asked


async def test_a_report_tells_the_numbers_against_the_thresholds() -> None:
    async with guarded(is_following=False) as world:
        assert (await world.guard.report()).decision.findings == ()
        await world.started()
        world.compare(10)
        report = await world.guard.report()
        assert report.evidence is not None
        assert report.evidence.compared == 10
        assert report.decision.verdict == "insufficient"
        assert "10 of 20 compared" in report.decision.reason
        await world.guard.steer("pause", Cause("ann", "lunch", AT))
        report = await world.guard.report()
        assert (report.decision.reason, len(report.decision.findings)) == ("lunch", 4)
        await world.guard.steer("resume", BY_ANN)
        world.ledger.is_down = True
        report = await world.guard.report()
        assert "ledger cannot be asked" in report.decision.reason


async def test_a_caller_who_leaves_in_the_middle_has_started_it_and_it_is_told_once() -> None:
    async with guarded() as world:
        world.file.gate.clear()
        starting = world.background.spawn(world.started(), name="start")
        await until(lambda: world.file.waiting > 0)
        starting.cancel()
        await asyncio.wait([starting])
        world.file.gate.set()
        await until(lambda: world.rollout.state == "running")
        await world.looked()
        assert [event.event for event in world.told] == ["start"]


async def test_its_repr_tells_where_it_is() -> None:
    async with guarded() as world:
        assert repr(world.guard) == "<RolloutGuard idle <Turn ours=False>>"
        await world.started()
        await until(lambda: bool(world.desk.holder))
        assert repr(world.guard) == "<RolloutGuard running <Turn ours=True>>"
