"""The supervisor with workers that do what the test says: whom it starts, tells and ends."""

import asyncio

import pytest

from proxy.background import Background
from proxy.errors import ProxyError, SettingsError
from proxy.workers.orders import Report
from proxy.workers.post import Times
from tests.clocks import HandClock
from tests.waiting import until
from tests.workers_room import LONG_S, PATIENT, Room, plan, room


async def test_one_that_ends_by_itself_is_replaced() -> None:
    async with room() as made:
        made.started[0].end(-11)
        await made.serves(3)
        assert made.stages == [(2, "serving"), (3, "serving")]
        assert made.whys == ["crash"]
        assert made.supervisor.lead is not None
        assert made.supervisor.lead.worker is made.started[1]


async def test_a_roll_goes_one_by_one_and_tells_each_only_when_another_serves() -> None:
    async with room() as made:
        changed = plan()
        made.supervisor.turn_to(changed)
        third = await made.is_there(3)
        assert [worker.orders for worker in made.started] == [[], [], []]
        assert third.plan is changed
        assert made.supervisor.plan is not changed
        third.listen()
        await until(lambda: made.started[1].orders == ["drain"])
        # In force is what serves.
        assert made.supervisor.plan is changed
        assert len(made.started) == 3
        made.started[1].leave()
        await made.serves(4)
        await until(lambda: made.started[0].orders == ["drain"])
        made.started[0].leave()
        await until(lambda: made.stages == [(3, "serving"), (4, "serving")])
        assert made.whys == ["rolling", "rolling"]


async def test_one_that_listens_but_is_not_ready_replaces_nobody_who_is() -> None:
    async with room() as made:
        made.supervisor.turn_to(plan())
        third = await made.is_there(3)
        third.link.ready = False
        third.listen()
        await until(lambda: made.supervisor.answering()[-1].worker is third)
        assert (3, "starting") in made.stages
        third.link.ready = True
        await until(lambda: (3, "serving") in made.stages)


async def test_where_nobody_is_ready_a_new_one_need_not_be_so_either() -> None:
    async with room() as made:
        for worker in made.started:
            worker.link.ready = False
        made.supervisor.turn_to(plan())
        third = await made.is_there(3)
        third.link.ready = False
        third.listen()
        await until(lambda: (3, "serving") in made.stages)


async def test_one_that_is_not_ready_in_time_is_ended_and_all_stays() -> None:
    times = Times(LONG_S, LONG_S, LONG_S, 0.05, LONG_S, LONG_S)
    async with room(times) as made:
        made.supervisor.turn_to(plan())
        third = await made.is_there(3)
        third.link.ready = False
        third.listen()
        await until(lambda: third.orders == ["kill"])
        await until(lambda: made.stages == [(1, "serving"), (2, "serving")])
        assert made.supervisor.roster.generation == 1
        assert made.whys == []


async def test_one_that_dies_while_it_gets_ready_is_not_waited_for() -> None:
    async with room() as made:
        made.supervisor.turn_to(plan())
        third = await made.is_there(3)
        third.link.ready = False
        third.listen()
        await until(lambda: len(made.supervisor.answering()) == 3)
        third.end(-9)
        await until(lambda: made.stages == [(1, "serving"), (2, "serving")])
        await until(lambda: "bring in 3" not in repr(made.background))


@pytest.mark.parametrize(("code", "kind"), [(2, SettingsError), (1, ProxyError)])
async def test_what_keeps_the_first_from_beginning_is_raised(
    code: int, kind: type[ProxyError]
) -> None:
    async with Background() as background:
        made = Room(background, PATIENT, 3)
        starting = background.spawn(made.supervisor.start(), name="start")
        first = await made.is_there(1)
        first.say(Report("failed", "no such table", code))
        first.end(code)
        with pytest.raises(ProxyError, match="no such table") as raised:
            await starting
        assert type(raised.value) is kind
        # Nobody else tries.
        assert made.supervisor.is_leaving
        assert len(made.started) == 1
        await made.supervisor.stop()


async def test_one_that_dies_without_a_word_before_it_serves_is_told_by_its_exit_code() -> None:
    async with Background() as background:
        made = Room(background, PATIENT, 1)
        starting = background.spawn(made.supervisor.start(), name="start")
        (await made.is_there(1)).end(-11)
        with pytest.raises(ProxyError, match="it ended with exit code -11"):
            await starting
        await made.supervisor.stop()


async def test_where_no_process_can_be_made_it_is_tried_again() -> None:
    async with room() as made:
        made.refusals += [OSError(12, "Cannot allocate memory")] * 3
        made.started[0].end(1)
        await made.is_there(3)
        assert made.refusals == []


async def test_a_roll_for_which_no_process_can_be_made_changes_nothing() -> None:
    async with room() as made:
        made.refusals.append(OSError(12, "Cannot allocate memory"))
        made.supervisor.turn_to(plan())
        await until(lambda: made.supervisor.roster.generation == 1)
        assert made.stages == [(1, "serving"), (2, "serving")]


async def test_told_to_stop_before_all_serve_it_does_not_begin() -> None:
    async with Background() as background:
        made = Room(background, PATIENT, 2)
        starting = background.spawn(made.supervisor.start(), name="start")
        await made.is_there(1)
        made.supervisor.leave()
        assert not await starting
        await made.supervisor.stop()
        assert [worker.orders for worker in made.started] == [["terminate"]]


async def test_one_that_was_being_started_when_all_were_told_to_leave_is_told_too() -> None:
    async with room() as made:
        made.gate.clear()
        made.started[0].end(1)
        third = await made.is_there(3)
        stopping = asyncio.create_task(made.supervisor.stop())
        await until(lambda: made.started[1].orders == ["terminate"])
        assert third.orders == []
        assert not stopping.done()
        made.gate.set()
        await stopping
        assert third.orders == ["terminate"]


async def test_who_does_not_leave_when_told_to_is_ended() -> None:
    times = Times(LONG_S, LONG_S, LONG_S, LONG_S, LONG_S, 0.05)
    async with room(times) as made:
        made.started[1].is_stubborn = True
        await made.supervisor.stop()
        assert made.started[0].orders == ["terminate"]
        assert made.started[1].orders == ["terminate", "kill"]


async def test_who_does_not_leave_amid_a_roll_is_ended_and_the_roll_goes_on() -> None:
    times = Times(LONG_S, LONG_S, LONG_S, LONG_S, 0.02, 0.03)
    async with room(times) as made:
        made.supervisor.turn_to(plan())
        await made.serves(3)
        await until(lambda: made.started[1].orders == ["drain", "kill"])
        await made.is_there(4)
        assert made.whys == ["rolling"]


async def test_who_hangs_is_ended_and_replaced() -> None:
    async with room(Times(0.001, LONG_S, 0.01, LONG_S, LONG_S, LONG_S)) as made:
        made.started[0].link.is_well = False
        await made.serves(3)
        assert made.started[0].orders == ["kill"]
        assert made.started[1].orders == []
        assert made.whys == ["hang"]


async def test_who_was_silent_once_is_not_ended() -> None:
    async with room(Times(0.001, LONG_S, 0.0, LONG_S, LONG_S, LONG_S)) as made:
        link = made.started[0].link
        answers = iter([False, *[True, False] * 20])
        asked = 0

        async def is_live(timeout_s: float) -> bool:
            nonlocal asked
            asked += 1
            return next(answers, True)

        link.is_live = is_live  # type: ignore[method-assign]
        await until(lambda: asked > 40)
        assert made.started[0].orders == []


@pytest.mark.parametrize("ticks", range(12))
async def test_the_only_one_that_serves_is_not_told_to_leave(ticks: int) -> None:
    async with room(workers=1) as made:
        made.supervisor.turn_to(plan(1))
        second = await made.is_there(2)
        second.listen()
        told = set(made.started)
        # It crashes at any moment of being brought in, or right after.
        for _ in range(ticks):
            await asyncio.sleep(0)
        second.end(-9)

        def is_over() -> bool:
            for worker in made.started:
                if worker.orders == ["drain"]:
                    worker.leave()
                elif worker not in told:
                    told.add(worker)
                    worker.listen()
            is_rolling = made.supervisor.roster.is_rolling
            return second.is_closed and not is_rolling and len(made.stages) == 1

        await until(is_over)
        for stages in made.at_drains:
            assert "serving" in [stage for _, stage in stages]


async def test_a_roll_does_not_wait_for_what_an_old_worker_has_to_say() -> None:
    async with room() as made:
        made.started[1].link.gate.clear()
        made.supervisor.turn_to(plan())
        await made.serves(3)
        await until(lambda: made.started[1].orders == ["drain"])
        made.started[1].link.gate.set()


async def test_what_a_worker_says_last_is_what_it_is_counted_with() -> None:
    async with room() as made:
        first, second = made.started
        first.link.requests, second.link.requests = 5, 7
        await made.supervisor.scrape()
        assert made.counted() == 12
        made.supervisor.turn_to(plan())
        await made.serves(3)
        await until(lambda: second.orders == ["drain"])
        second.link.requests = 9
        second.leave()
        await until(lambda: (2, "draining") not in made.stages)
        assert made.counted() == 14


async def test_of_one_that_crashes_the_last_look_counts() -> None:
    async with room() as made:
        made.started[0].link.requests = 5
        await made.supervisor.scrape()
        made.started[0].link.requests = 6
        made.started[0].end(-9)
        await made.serves(3)
        await made.supervisor.scrape()
        assert made.counted() == 5


async def test_a_look_that_is_under_way_when_a_worker_leaves_does_not_count_it_twice() -> None:
    async with room() as made:
        first = made.started[0]
        first.link.requests = 5
        first.link.gate.clear()
        looking = asyncio.create_task(made.supervisor.scrape())
        await until(lambda: first.link.asked == ["/metrics"])
        first.leave()
        await until(lambda: (1, "serving") not in made.stages)
        first.link.gate.set()
        await looking
        assert made.counted() == 5


async def test_every_worker_that_serves_is_looked_at_now_and_then() -> None:
    async with room(Times(0.001, 0.001, LONG_S, LONG_S, LONG_S, LONG_S)) as made:
        for worker in made.started:
            worker.link.requests = 3
        await until(lambda: made.counted() == 6)


async def test_a_look_comes_with_the_round_that_is_nearest_to_its_time() -> None:
    clock = HandClock()
    times = Times(0.001, 0.002, LONG_S, LONG_S, LONG_S, LONG_S)
    async with room(times, 1, clock) as made:
        link = made.started[0].link
        looks: list[int] = []
        rounds = 0

        async def is_live(timeout_s: float) -> bool:
            nonlocal rounds
            rounds += 1
            looks.append(len(link.asked))
            # Timers may wake a moment early.
            clock.pass_s(0.00099)
            return True

        link.is_live = is_live  # type: ignore[method-assign]
        await until(lambda: rounds > 20)
        assert looks[20] - looks[0] == 10


async def test_another_roll_amid_a_roll_ends_with_the_last_settings() -> None:
    async with room() as made:
        made.supervisor.turn_to(plan(poll_ms=1))
        third = await made.is_there(3)
        made.supervisor.turn_to(plan(3, poll_ms=2))
        third.listen()

        def all_new() -> bool:
            for worker in made.started:
                if worker.orders == ["drain"]:
                    worker.leave()
                elif not worker.orders:
                    worker.listen()
            posts = list(made.supervisor)
            return len(posts) == 3 and all(post.plan.settings.poll_ms == 2 for post in posts)

        await until(all_new)


async def test_after_rolls_that_were_given_up_the_next_one_is_another() -> None:
    async with room() as made:
        for _ in range(3):
            made.refusals.append(OSError(12, "Cannot allocate memory"))
            made.supervisor.turn_to(plan())
            await until(lambda: made.supervisor.roster.generation == 1)
        changed = plan()
        made.supervisor.turn_to(changed)
        third = await made.is_there(3)
        third.listen()
        # Those that could not be made have had their numbers too.
        await until(lambda: (6, "serving") in made.stages)
        assert third.plan is changed
