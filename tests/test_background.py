"""Who owns a task, how it ends, and that closing leaves none behind."""

import asyncio
import gc
from collections.abc import Callable

import pytest
from multidict import CIMultiDict
from structlog.testing import capture_logs

from proxy.background import Background
from proxy.tracing.request import begin, current_request
from tests.waiting import until


class Work:
    """A coroutine that runs until `end`, and remembers whether it was cancelled."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.is_begun = False
        self.is_cancelled = False

    async def run(self) -> str:
        self.is_begun = True
        try:
            await self.ended.wait()
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise
        return "done"


async def test_a_spawned_task_gives_its_result() -> None:
    async with Background() as background:
        work = Work()
        task = background.spawn(work.run(), name="work")
        work.ended.set()

        assert await task == "done"


async def test_a_task_nobody_holds_is_not_collected() -> None:
    async with Background() as background:
        work = Work()
        background.spawn(work.run(), name="work")
        await until(lambda: work.is_begun)
        gc.collect()
        assert len(background) == 1
        work.ended.set()
        await until(lambda: len(background) == 0)

        assert not work.is_cancelled


async def test_its_repr_names_what_runs() -> None:
    async with Background(drain_s=0) as background:
        background.spawn(Work().run(), name="b")
        background.spawn(Work().run(), name="a")
        assert repr(background) == "<Background ['a', 'b'] closed=False>"

    assert repr(background) == "<Background [] closed=True>"


async def test_a_failure_is_logged_with_the_name_of_the_task() -> None:
    async def fails() -> None:
        raise ValueError("bad")

    with capture_logs() as logs:
        async with Background() as background:
            background.spawn(fails(), name="work")
            await until(lambda: len(background) == 0)

    assert logs == [
        {
            "event": "background_task_failed",
            "log_level": "error",
            "task": "work",
            "error": "ValueError('bad')",
        }
    ]


async def test_closing_waits_for_what_has_begun() -> None:
    work = Work()
    async with Background(drain_s=60) as background:
        task = background.spawn(work.run(), name="work")
        asyncio.get_running_loop().call_soon(work.ended.set)

    assert task.result() == "done"


async def test_closing_cancels_what_does_not_end_in_time() -> None:
    work = Work()
    async with Background(drain_s=0) as background:
        task = background.spawn(work.run(), name="work")
        await until(lambda: work.is_begun)

    assert task.cancelled()
    assert work.is_cancelled
    assert len(background) == 0


async def test_closing_cancels_an_endless_task_at_once() -> None:
    work = Work()
    async with Background(drain_s=3600) as background:
        task = background.spawn(work.run(), name="watch", endless=True)
        await until(lambda: work.is_begun)

    assert task.cancelled()


async def test_closing_waits_for_the_last_words_of_a_cancelled_task() -> None:
    said = []

    async def polite() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            said.append("goodbye")

    async with Background(drain_s=0) as background:
        background.spawn(polite(), name="polite")
        await asyncio.sleep(0)

    assert said == ["goodbye"]


async def test_a_close_that_is_cancelled_still_leaves_no_task_behind() -> None:
    work = Work()
    background = Background(drain_s=3600)

    async def hold() -> None:
        async with background:
            background.spawn(work.run(), name="work")

    closing = asyncio.create_task(hold())
    await until(lambda: work.is_begun)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing

    assert work.is_cancelled
    assert len(background) == 0


@pytest.mark.parametrize("leave", ["during", "after"])
async def test_nothing_new_starts_once_it_closes(leave: str) -> None:
    refused: list[str] = []
    background = Background(drain_s=60)

    def spawn() -> None:
        work = Work()
        with pytest.raises(RuntimeError, match="no new task 'late': closing"):
            background.spawn(work.run(), name="late")
        refused.append(leave)
        assert not work.is_begun

    async def spawns_late(wait: Callable[[], bool]) -> None:
        await until(wait)
        spawn()

    async with background:
        if leave == "during":
            background.spawn(spawns_late(lambda: "closed=True" in repr(background)), name="early")
    if leave == "after":
        spawn()

    assert refused == [leave]


async def test_an_error_in_the_body_goes_on_after_the_tasks_have_ended() -> None:
    work = Work()

    async def fails_inside() -> None:
        async with Background(drain_s=0) as background:
            background.spawn(work.run(), name="work")
            await until(lambda: work.is_begun)
            raise KeyError("inside")

    with pytest.raises(KeyError):
        await fails_inside()
    assert work.is_cancelled


async def test_a_task_knows_its_request_unless_it_outlives_or_serves_several() -> None:
    known: dict[str, str] = {}

    async def look(name: str) -> None:
        request = current_request()
        known[name] = "nobody" if request is None else request.request_id

    async def request() -> None:
        begin(CIMultiDict({"X-Request-ID": "mine"}))
        background.spawn(look("own"), name="own")
        background.spawn(look("shared"), name="shared", is_shared=True)
        background.spawn(look("endless"), name="endless", endless=True)

    async with Background() as background:
        await background.spawn(request(), name="request")
        await until(lambda: len(background) == 0)
    assert known == {"own": "mine", "shared": "nobody", "endless": "nobody"}
