"""Steering: what is in force where, after changes, outages and restarts, in several processes."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from proxy.background import Background
from proxy.cache.redis import RedisStore
from proxy.errors import StoreError
from proxy.rollout.redis_state import RedisState
from proxy.rollout.shared_state import NewerStateError, SharedState
from proxy.rollout.state import (
    Cause,
    ConflictError,
    MigrationState,
    Rollout,
    lifted,
    merge,
    rolled_back,
    with_percent,
    with_rollout,
    with_shadow_rate,
)
from proxy.rollout.state_codec import tag_of
from proxy.rollout.state_file import StateFile
from proxy.rollout.steering import Dealing, Steering, Transition
from proxy.telemetry import Telemetry
from tests.clocks import HandClock
from tests.redis_server import RedisServer
from tests.state_in_memory import StateInMemory
from tests.waiting import until

ROOT = Path(__file__).parent.parent
POLL_S = 0.01
AGES_S = 30.0
"""Longer than any test may take: what waits for it does not wait for its end."""


def why(at: float = 1.0, reason: str = "because") -> Cause:
    return Cause("ann", reason, at)


def percent(value: float, at: float = 1.0) -> Transition:
    return lambda state: with_percent(state, value, why(at))


def back(state: MigrationState) -> MigrationState:
    return rolled_back(state, why(2, "spend"))


@asynccontextmanager
async def steering(
    file: SharedState,
    shared: SharedState | None = None,
    *,
    process: str = "one",
    settle_s: float = AGES_S,
    is_following: bool = True,
    split_percent: float = 100.0,
    shadow_rate: float = 0.0,
    is_damaged: bool = False,
    has_legacy: bool = True,
    workers: SharedState | None = None,
) -> AsyncIterator[Steering]:
    async with Background(drain_s=0) as background:
        steering = Steering(
            file,
            shared,
            background,
            HandClock(),
            workers=workers,
            process=process,
            percent=split_percent,
            shadow_rate=shadow_rate,
            dealing=Dealing("header:X-User-Id", "spring"),
            poll_s=POLL_S,
            settle_s=settle_s,
        )
        await steering.start(is_damaged=lambda: is_damaged, has_legacy=has_legacy)
        if is_following:
            background.spawn(steering.follow(), name="follow", endless=True)
        yield steering


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


@asynccontextmanager
async def redis_state(server: RedisServer) -> AsyncIterator[RedisState]:
    """With a circuit that tries again at once: the clock of a test does not move by itself."""
    store = RedisStore(
        server.url,
        telemetry=Telemetry(),
        clock=Hasty(),
        entry_ttl_s=600,
        timeout_s=20,
        connect_timeout_s=20,
    )
    async with store:
        yield RedisState(store.connection)


class Hasty(HandClock):
    """Each look at it is ten minutes after the one before."""

    def monotonic(self) -> float:
        self.pass_s(600)
        return super().monotonic()


@asynccontextmanager
async def two_processes(place: str, folder: Path) -> AsyncIterator[tuple[Steering, Steering]]:
    """Two that follow each other, on one file or each with its own on one Redis."""
    async with AsyncExitStack() as stack:
        if place == "file":
            files = [folder / "state.db"] * 2
            redis: list[RedisState | None] = [None, None]
        else:
            files = [folder / "one.db", folder / "two.db"]
            server = await stack.enter_async_context(RedisServer())
            redis = [await stack.enter_async_context(redis_state(server)) for _ in files]
        steered = []
        for name, path, shared in zip(("one", "two"), files, redis, strict=True):
            file = await stack.enter_async_context(StateFile(path))
            steered.append(await stack.enter_async_context(steering(file, shared, process=name)))
        yield steered[0], steered[1]


both_places = pytest.mark.parametrize("place", ["file", "redis"])


async def test_the_settings_count_until_the_first_change() -> None:
    file = StateInMemory()
    async with steering(file, split_percent=40, shadow_rate=0.5) as one:
        assert (one.split.percent, one.state.shadow_rate) == (40, 0.5)
        await one.change(lambda state: with_shadow_rate(state, 0.1, why()))
        assert (one.split.percent, one.state.shadow_rate) == (40, 0.1)
    async with steering(file, split_percent=60, shadow_rate=0.5) as one:
        assert (one.split.percent, one.state.shadow_rate) == (60, 0.1)
        await one.change(percent(25))
    async with steering(file, split_percent=60, shadow_rate=0.5) as one:
        assert (one.split.percent, one.state.shadow_rate) == (25, 0.1)


async def test_processes_with_other_settings_do_not_push_theirs_on_each_other() -> None:
    file = StateInMemory()
    async with (
        steering(file, process="one", split_percent=40) as one,
        steering(file, process="two", split_percent=60) as two,
    ):
        state = await one.change(lambda state: with_shadow_rate(state, 0.1, why()))
        assert state.version == two.state.version == 1
        assert file.kept is not None
        assert file.kept.percent == 100
        assert (one.split.percent, two.split.percent) == (40, 60)
        writes = file.writes
        seen = len(file.told)
        await until(lambda: len(file.told) > seen + 6)
        assert (file.writes, one.state.version) == (writes, state.version)


async def test_the_split_deals_by_the_configured_identity_and_salt() -> None:
    async with steering(StateInMemory()) as one:
        await one.change(percent(50))
        assert (one.split.identity, one.split.salt) == ("header:X-User-Id", "spring")
        before = one.split
        await one.change(lambda state: with_shadow_rate(state, 0.1, why()))
        assert one.split == before


@both_places
async def test_a_change_is_answered_when_every_process_has_it(place: str, tmp_path: Path) -> None:
    async with two_processes(place, tmp_path) as (one, two):
        for number in range(1, 6):
            asked, other = (one, two) if number % 2 else (two, one)
            await asked.change(percent(number))
            assert other.split.percent == number
        await two.change(back, is_urgent=True)
        assert one.split.percent == 0
        await one.change(lambda state: lifted(state, why()))
        assert not two.state.rolled_back


@both_places
async def test_changes_at_once_in_two_processes_are_all_there(place: str, tmp_path: Path) -> None:
    async with two_processes(place, tmp_path) as (one, two):
        await asyncio.gather(
            one.change(percent(30, at=1)),
            two.change(lambda state: with_shadow_rate(state, 0.2, why(2))),
            two.change(percent(40, at=3)),
        )
        await until(lambda: one.state == two.state)
        assert one.state.shadow_rate == 0.2
        assert one.state.percent in (30, 40)
        assert {change.percent for change in one.state.history} == {30, 40}


@both_places
async def test_a_rollback_is_not_lost_to_a_change_at_the_same_time(
    place: str, tmp_path: Path
) -> None:
    async with two_processes(place, tmp_path) as (one, two):
        await one.change(percent(30))
        await asyncio.gather(
            one.change(back, is_urgent=True), two.change(percent(80)), return_exceptions=True
        )
        await until(lambda: one.state == two.state)
        assert (one.split.percent, two.split.percent) == (0, 0)


async def test_a_change_that_does_not_fit_raises_and_is_no_fault_of_ours() -> None:
    async with steering(StateInMemory()) as one:
        await one.change(back, is_urgent=True)
        before = one.state
        with capture_logs() as logs, pytest.raises(ConflictError, match="lift that first"):
            await one.change(percent(30))
        assert one.state is before
        assert logs == []


async def test_a_transition_that_changes_nothing_makes_no_file() -> None:
    file = StateInMemory()
    async with steering(file) as one:
        heard: list[object] = []
        await one.change(lambda state: state, done=lambda *both: heard.append(both))
        assert (file.kept, file.writes, one.is_kept) == (None, 0, True)
        assert heard == [(one.state, one.state)]


async def test_a_change_that_cannot_be_kept_is_refused_and_nothing_has_changed() -> None:
    file, shared = StateInMemory(), StateInMemory()
    async with steering(file, shared) as one:
        await one.change(percent(30))
        before = one.state
        file.is_full = True
        heard: list[object] = []
        with pytest.raises(StoreError, match="full"):
            await one.change(percent(60), done=lambda *both: heard.append(both))
        assert (one.state, shared.kept, heard) == (before, before, [])


async def test_a_rollback_is_in_force_before_anything_is_waited_for() -> None:
    file = StateInMemory()
    async with steering(file) as one:
        await one.change(percent(30))
        file.gate.clear()
        asked = asyncio.ensure_future(one.change(back, is_urgent=True))
        await asyncio.sleep(0)
        assert (one.split.percent, one.is_kept) == (0, False)
        file.gate.set()
        await asked
        assert one.is_kept


async def test_a_rollback_on_a_full_disk_is_kept_as_soon_as_that_can_be() -> None:
    file = StateInMemory()
    async with steering(file) as one:
        await one.change(percent(30))
        file.is_full = True
        assert (await one.change(back, is_urgent=True)).rolled_back
        assert not one.is_kept
        file.is_full = False
        await until(lambda: one.is_kept)
        assert file.kept == one.state


async def test_a_disk_that_hangs_keeps_no_rollback_from_the_others() -> None:
    file, shared = StateInMemory(), StateInMemory()
    async with (
        steering(file, shared, process="one", is_following=False) as one,
        steering(StateInMemory(), shared, process="two") as two,
    ):
        await one.change(percent(30))
        file.gate.clear()
        asked = asyncio.ensure_future(one.change(back, is_urgent=True))
        await until(lambda: two.state.rolled_back)
        file.gate.set()
        await asked


async def test_a_disk_that_hangs_does_not_keep_a_process_from_hearing_of_a_rollback() -> None:
    file, shared = StateInMemory(), StateInMemory()
    async with (
        steering(file, shared, process="one") as one,
        steering(StateInMemory(), shared, process="two", settle_s=0) as two,
    ):
        await one.change(percent(30))
        file.gate.clear()
        shared.kept = with_shadow_rate(one.state, 0.9, why(3))
        await until(lambda: file.waiting > 0)
        await two.change(back, is_urgent=True)
        await until(lambda: one.state.rolled_back)
        file.gate.set()


async def test_a_caller_who_leaves_does_not_undo_a_change() -> None:
    file, shared = StateInMemory(), StateInMemory()
    async with steering(file, shared) as one:
        heard: list[tuple[float, float]] = []
        for place in (file, shared):
            place.gate.clear()
            asked = asyncio.ensure_future(
                one.change(
                    percent(30 if place is file else 60),
                    done=lambda before, now: heard.append((before.percent, now.percent)),
                )
            )
            await until(lambda place=place: place.waiting > 0)  # type: ignore[misc]
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            place.gate.set()
            await until(lambda: one.state == shared.kept == file.kept is not None)
        assert heard == [(100, 30), (30, 60)]
        assert one.split.percent == 60


async def test_a_caller_who_leaves_before_a_rollback_is_kept_has_rolled_back() -> None:
    file = StateInMemory()
    async with steering(file) as one:
        file.gate.clear()
        asked = asyncio.ensure_future(one.change(back, is_urgent=True))
        await until(lambda: file.waiting > 0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert one.split.percent == 0
        file.gate.set()
        await until(lambda: one.is_kept)


async def test_a_caller_who_leaves_while_it_waits_for_its_turn_changes_once() -> None:
    file = StateInMemory()
    async with steering(file) as one:
        file.gate.clear()
        first = asyncio.ensure_future(one.change(percent(30)))
        await until(lambda: file.waiting > 0)
        second = asyncio.ensure_future(one.change(percent(60)))
        await asyncio.sleep(0)
        second.cancel()
        file.gate.set()
        await first
        await until(lambda: one.split.percent == 60)
        assert [change.percent for change in one.state.history] == [30, 60]
        assert [change.version for change in one.state.history] == [1, 2]


async def test_changes_in_one_process_come_one_after_the_other() -> None:
    async with steering(StateInMemory()) as one:
        await asyncio.gather(*(one.change(percent(number)) for number in range(1, 11)))
        assert [change.percent for change in one.state.history] == [*range(1, 11)]
        assert [change.version for change in one.state.history] == [*range(1, 11)]


async def test_a_rollback_while_redis_is_down_reaches_the_others_when_it_is_back(
    server: RedisServer, tmp_path: Path
) -> None:
    async with (
        StateFile(tmp_path / "one.db") as file,
        StateFile(tmp_path / "two.db") as other_file,
        redis_state(server) as shared,
        redis_state(server) as other_shared,
        steering(file, shared, process="one") as one,
        steering(other_file, other_shared, process="two") as two,
    ):
        await one.change(percent(30))
        server.kill()
        await one.change(back, is_urgent=True)
        assert (one.split.percent, one.is_kept) == (0, True)
        await two.change(percent(80))
        assert two.split.percent == 80
        await server.start()
        await until(lambda: one.state == two.state)
        assert (two.split.percent, one.state.percent) == (0, 80)


async def test_an_emptied_redis_has_the_state_again_without_traffic(
    server: RedisServer, tmp_path: Path
) -> None:
    async with (
        StateFile(tmp_path / "one.db") as file,
        redis_state(server) as shared,
        redis_state(server) as looking,
        steering(file, shared) as one,
    ):
        await one.change(percent(30))
        server.kill()
        await server.start()
        async with asyncio.timeout(AGES_S):
            while await looking.read() != one.state:  # noqa: ASYNC110 (Redis fires no event)
                await asyncio.sleep(POLL_S)


async def test_redis_that_hangs_delays_a_rollback_elsewhere_only() -> None:
    file, shared = StateInMemory(), StateInMemory()
    async with steering(file, shared) as one:
        shared.gate.clear()
        asked = asyncio.ensure_future(one.change(back, is_urgent=True))
        await until(lambda: file.kept is not None)
        assert one.split.percent == 0
        assert not asked.done()
        shared.gate.set()
        await asked
        assert shared.kept == one.state


async def test_the_newest_wins_at_a_restart_and_is_put_where_it_is_missing() -> None:
    old = with_percent(MigrationState(), 30, why())
    new = back(old)
    for kept, elsewhere in ((new, old), (old, new), (new, None), (None, new)):
        file, shared = StateInMemory(kept), StateInMemory(elsewhere)
        async with steering(file, shared, is_following=False) as one:
            assert one.state == new
        async with steering(file, shared):
            await until(lambda f=file, s=shared: f.kept == s.kept == new)  # type: ignore[misc]


CHILD = """
import asyncio, sys
from pathlib import Path
from proxy.background import Background
from proxy.clock import SystemClock
from proxy.rollout.state import Cause, with_percent
from proxy.rollout.state_file import StateFile
from proxy.rollout.steering import Steering
from tests.state_in_memory import StateInMemory

async def main():
    shared = StateInMemory()
    shared.gate.clear()
    async with StateFile(Path(sys.argv[1])) as file, Background() as background:
        steering = Steering(file, shared, background, SystemClock(), process="child",
                            percent=100, shadow_rate=0)
        await steering.start(is_damaged=lambda: False, has_legacy=True)
        cause = Cause("ann", "because", 1.0)
        await steering.change(lambda state: with_percent(state, 30, cause),
                              done=lambda before, now: print("kept", flush=True))

asyncio.run(main())
"""


async def test_a_process_killed_between_disk_and_redis_has_changed_what_it_was_asked_to(
    server: RedisServer, tmp_path: Path
) -> None:
    path = tmp_path / "state.db"
    command = [sys.executable, "-c", CHILD, str(path)]
    child = await asyncio.to_thread(
        subprocess.Popen, command, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline) == "kept\n"
        child.kill()
        assert child.wait() == -signal.SIGKILL
    async with (
        StateFile(path) as file,
        redis_state(server) as shared,
        redis_state(server) as looking,
        steering(file, shared) as one,
    ):
        assert one.split.percent == 30
        async with asyncio.timeout(AGES_S):
            while await looking.read() != one.state:  # noqa: ASYNC110 (Redis fires no event)
                await asyncio.sleep(POLL_S)


async def test_a_damaged_file_rolls_back_where_nobody_knows_better(tmp_path: Path) -> None:
    async with steering(StateInMemory(), is_damaged=True) as one:
        assert (one.split.percent, one.is_kept) == (0, True)
        assert "damaged" in one.state.reason
    async with steering(StateInMemory(), is_damaged=True, has_legacy=False) as one:
        assert one.split.percent == 100
    better = StateInMemory(with_percent(MigrationState(), 30, why()))
    async with steering(StateInMemory(), better, is_damaged=True) as one:
        assert one.split.percent == 30


async def test_a_start_without_redis_goes_by_the_file() -> None:
    file, shared = StateInMemory(with_percent(MigrationState(), 30, why())), StateInMemory()
    shared.is_down = True
    async with steering(file, shared) as one:
        assert one.split.percent == 30


async def test_a_file_of_a_newer_version_stops_the_start() -> None:
    class Newer(StateInMemory):
        async def read(self) -> MigrationState | None:
            raise NewerStateError("it is of a newer version")

    with pytest.raises(NewerStateError):
        async with steering(Newer()):
            pass


async def test_a_file_that_cannot_be_read_is_taken_for_a_damaged_one() -> None:
    file = StateInMemory(with_percent(MigrationState(), 30, why()))
    file.is_down = True
    with capture_logs() as logs:
        async with steering(file) as one:
            assert (one.split.percent, one.is_kept) == (0, False)
            assert one.state.reason == "the state file cannot be read: what it held is not known"
            # Nor is it forgotten what it holds, once it can be read again.
            file.is_down = False
            await until(lambda: one.is_kept)
            assert (one.split.percent, one.state.percent) == (0, 30)
    told = [line for line in logs if line["event"] == "state_not_known"]
    assert [(line["is_rolled_back"], line["error"]) for line in told] == [(True, "it is down")]
    file.is_down = True
    async with steering(file, has_legacy=False, split_percent=60) as one:
        assert one.split.percent == 60
    better = StateInMemory(with_percent(MigrationState(), 40, why()))
    for shared, workers in ((better, None), (None, better)):
        async with steering(file, shared, workers=workers) as one:
            assert one.split.percent == 40


async def test_workers_follow_each_other_when_neither_the_disk_nor_redis_is_there() -> None:
    file, shared, workers = StateInMemory(), StateInMemory(), StateInMemory()
    async with (
        steering(file, shared, workers=workers, process="one") as one,
        steering(file, shared, workers=workers, process="two") as two,
    ):
        await one.change(percent(30))
        file.is_full = shared.is_down = True
        with capture_logs() as logs:
            await one.change(back, is_urgent=True)
        assert (two.split.percent, one.is_kept, two.is_kept) == (0, False, False)
        # Nobody can have it from the file: that is not waited for.
        assert [line for line in logs if line["event"] == "followers_late"] == []
        async with steering(file, shared, workers=workers, process="three") as three:
            assert (three.split.percent, three.is_kept) == (0, False)
        with pytest.raises(StoreError, match="full"):
            await two.change(lambda state: lifted(state, why()))
        assert one.state.rolled_back
        file.is_full = False
        await until(lambda: one.is_kept and two.is_kept)


async def test_what_was_kept_in_a_file_that_is_gone_is_not_kept() -> None:
    file = StateInMemory()
    async with steering(file) as one:
        await one.change(percent(30))
        assert one.is_kept
        file.kept, file.is_full = None, True
        await until(lambda: not one.is_kept)
        file.is_full = False
        await until(lambda: one.is_kept)


async def test_after_its_file_was_deleted_a_change_is_answered_when_every_process_has_it(
    tmp_path: Path,
) -> None:
    async with two_processes("file", tmp_path) as (one, two):
        for number in range(1, 6):
            await one.change(percent(number))
            assert two.split.percent == number
            for name in os.listdir(tmp_path):
                os.unlink(tmp_path / name)
            await two.change(percent(10 + number))
            assert one.split.percent == 10 + number


async def test_listeners_hear_of_each_change_from_wherever_it_comes() -> None:
    file = StateInMemory()
    async with steering(file, process="one") as one, steering(file, process="two") as two:
        heard: list[float] = []
        two.listen(lambda state: heard.append(state.percent_in_force))
        await one.change(percent(30))
        await two.change(percent(40))
        await two.change(back, is_urgent=True)
        assert heard == [30, 40, 0]


async def test_what_is_made_elsewhere_decides_what_may_be_changed_here() -> None:
    shared = StateInMemory()
    async with steering(StateInMemory(), shared, is_following=False) as one:
        shared.kept = back(MigrationState())
        with pytest.raises(ConflictError):
            await one.change(percent(30))
        assert one.state.rolled_back


async def test_a_rollout_that_goes_on_while_somebody_rolls_back_ends() -> None:
    file = StateInMemory()
    async with steering(file) as one:
        step = Rollout("running", 1, since=1.0)
        file.gate.clear()
        asked = asyncio.ensure_future(
            one.change(lambda state: with_rollout(state, step, 5, why(), action="step"))
        )
        await until(lambda: file.waiting > 0)
        rolling = asyncio.ensure_future(one.change(back, is_urgent=True))
        file.gate.set()
        await asyncio.gather(asked, rolling)
        assert (one.state.rollout.state, one.split.percent) == ("rolled_back", 0)


async def test_who_does_not_follow_in_time_is_waited_for_once() -> None:
    file = StateInMemory()
    async with steering(file, settle_s=0.05) as one:
        await file.follow("dead", None)
        with capture_logs() as logs:
            await one.change(percent(30))
            await one.change(percent(31))
        assert [line["processes"] for line in logs if line["event"] == "followers_late"] == [
            ["dead"]
        ]


async def test_who_leaves_is_not_waited_for() -> None:
    file = StateInMemory()
    async with steering(file, process="one") as one:
        async with steering(file, process="two"):
            await one.change(percent(30))
            assert set(await file.followers()) == {"one", "two"}
        assert set(await file.followers()) == {"one"}
        await one.change(percent(31))


async def test_what_is_not_changed_is_neither_written_nor_read_again() -> None:
    file, shared = StateInMemory(), StateInMemory()
    async with steering(file, shared) as one:
        await one.change(percent(30))
        writes, told = (file.writes, shared.writes), len(shared.told)
        await until(lambda: len(shared.told) > told + 5)
        assert (file.writes, shared.writes) == writes
        assert tag_of(one.state) == tag_of(merge(one.state, one.state))


async def test_an_outage_is_told_once() -> None:
    file, shared = StateInMemory(), StateInMemory()
    with capture_logs() as logs:
        async with steering(file, shared) as one:
            shared.is_down = True
            for number in range(1, 4):
                await one.change(percent(number))
            shared.is_down = False
            await until(lambda: shared.kept == one.state)
            await until(lambda: len(logs) > 1)
    assert [line["event"] for line in logs] == ["state_not_shared", "state_shared_again"]
