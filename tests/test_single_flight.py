"""One load per key, and that nobody's leaving or failing disturbs the others."""

import asyncio
import gc
import traceback
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from proxy.background import Background
from proxy.errors import BackendTimeout, BackendUnavailable
from proxy.single_flight import Flown, SingleFlight
from tests.waiting import until


class Load:
    """A load that the test ends: each call waits for `end` or `fail`."""

    def __init__(self) -> None:
        self.calls = 0
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.calls += 1
        return await asyncio.shield(self._ended)

    def end(self, value: str) -> None:
        self._ended.set_result(value)

    def fail(self, error: Exception) -> None:
        self._ended.set_exception(error)


Flights = SingleFlight[str, str]


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    async with Background(drain_s=0) as background:
        yield background


@pytest.fixture
def flights(background: Background) -> Flights:
    return SingleFlight(background)


@pytest.fixture
async def load() -> Load:
    return Load()


async def waiting(
    flights: Flights, key: str, load: Load, count: int
) -> list[asyncio.Task[Flown[str]]]:
    """`count` callers that wait for one flight; the first of them leads."""
    callers = [asyncio.create_task(flights.run(key, load)) for _ in range(count)]
    await until(lambda: f"{key!r}: {count}" in repr(flights) and load.calls > 0)
    return callers


async def test_callers_of_one_key_share_one_load(flights: Flights, load: Load) -> None:
    callers = await waiting(flights, "a", load, 50)
    load.end("value")

    flown = await asyncio.gather(*callers)
    assert {one.value for one in flown} == {"value"}
    assert [one.led for one in flown] == [True] + [False] * 49
    assert load.calls == 1


async def test_keys_do_not_share(flights: Flights, load: Load) -> None:
    other = Load()
    callers = await waiting(flights, "a", load, 1) + await waiting(flights, "b", other, 1)
    assert repr(flights) == "<SingleFlight {'a': 1, 'b': 1}>"
    assert len(flights) == 2
    load.end("one")
    other.end("two")

    assert await asyncio.gather(*callers) == [Flown("one", True), Flown("two", True)]


async def test_a_finished_load_is_forgotten(flights: Flights, load: Load) -> None:
    load.end("value")
    await flights.run("a", load)
    assert len(flights) == 0
    await flights.run("a", load)

    assert load.calls == 2


async def test_none_is_a_value_like_any_other(background: Background) -> None:
    async def nothing() -> None:
        return None

    assert await SingleFlight[str, None](background).run("a", nothing) == Flown(None, True)


@pytest.mark.parametrize("who", [0, 1])
async def test_a_cancelled_caller_disturbs_nobody(flights: Flights, load: Load, who: int) -> None:
    callers = await waiting(flights, "a", load, 3)
    leaver = callers.pop(who)
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    load.end("value")

    assert [one.value for one in await asyncio.gather(*callers)] == ["value", "value"]
    assert load.calls == 1


async def test_the_load_goes_on_when_all_have_left(flights: Flights, load: Load) -> None:
    filled = []

    async def fill() -> str:
        filled.append(await load())
        return filled[0]

    caller = asyncio.create_task(flights.run("a", fill))
    await until(lambda: load.calls == 1)
    caller.cancel()
    await asyncio.wait([caller])
    assert repr(flights) == "<SingleFlight {'a': 0}>"
    load.end("value")
    await until(lambda: len(flights) == 0)

    assert filled == ["value"]


async def test_a_caller_may_join_a_load_that_all_had_left(flights: Flights, load: Load) -> None:
    (first,) = await waiting(flights, "a", load, 1)
    first.cancel()
    await asyncio.wait([first])
    (second,) = await waiting(flights, "a", load, 1)
    load.end("value")

    assert await second == Flown("value", led=False)
    assert load.calls == 1


async def test_a_failed_load_raises_in_every_waiter(flights: Flights, load: Load) -> None:
    callers = await waiting(flights, "a", load, 3)
    with capture_logs() as logs:
        load.fail(BackendTimeout("too slow"))
        results = await asyncio.gather(*callers, return_exceptions=True)

    assert [(type(one), str(one)) for one in results] == [(BackendTimeout, "too slow")] * 3
    assert len(flights) == 0
    assert logs == []


async def test_a_failure_raised_in_many_waiters_keeps_a_short_traceback(
    flights: Flights, load: Load
) -> None:
    async def traced() -> int:
        try:
            await flights.run("a", load)
        except ValueError as error:
            return len(traceback.extract_tb(error.__traceback__))
        return 0

    callers = [asyncio.create_task(traced()) for _ in range(100)]
    await until(lambda: "'a': 100" in repr(flights))
    load.fail(ValueError("bad"))

    assert len(set(await asyncio.gather(*callers))) == 1


async def test_the_traceback_of_a_failure_leads_to_where_it_happened(flights: Flights) -> None:
    async def fails_here() -> str:
        raise ValueError("bad")

    with pytest.raises(ValueError) as caught:
        await flights.run("a", fails_here)

    assert caught.traceback[-1].name == "fails_here"


async def test_a_load_that_fails_before_its_first_await_raises_too(flights: Flights) -> None:
    def fails_at_once() -> asyncio.Future[str]:
        raise BackendUnavailable("no file")

    with pytest.raises(BackendUnavailable, match="no file"):
        await flights.run("a", fails_at_once)


async def test_the_next_caller_after_a_failure_tries_again(flights: Flights, load: Load) -> None:
    load.fail(ValueError("bad"))
    with pytest.raises(ValueError):
        await flights.run("a", load)
    again = Load()
    again.end("value")

    assert await flights.run("a", again) == Flown("value", True)


async def test_a_waiter_that_retries_at_once_starts_a_new_load(
    flights: Flights, load: Load
) -> None:
    again = Load()

    async def retrying() -> Flown[str]:
        try:
            return await flights.run("a", load)
        except ValueError:
            return await flights.run("a", again)

    callers = [asyncio.create_task(retrying()) for _ in range(3)]
    await until(lambda: "'a': 3" in repr(flights))
    load.fail(ValueError("bad"))
    await until(lambda: again.calls == 1 and "'a': 3" in repr(flights))
    again.end("value")

    assert sorted(one.led for one in await asyncio.gather(*callers)) == [False, False, True]
    assert (load.calls, again.calls) == (1, 1)


async def test_a_failure_that_nobody_waits_for_is_logged_once(flights: Flights, load: Load) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    (caller,) = await waiting(flights, "a", load, 1)
    caller.cancel()
    await asyncio.wait([caller])

    with capture_logs() as logs:
        load.fail(ValueError("bad"))
        await until(lambda: len(flights) == 0)
        del load, caller
        gc.collect()

    assert [(line["event"], line["task"]) for line in logs] == [
        ("background_task_failed", "load a")
    ]
    assert complaints == []


async def test_waiters_of_a_load_that_closing_ends_get_an_error() -> None:
    load = Load()
    async with Background(drain_s=0) as background:
        flights: Flights = SingleFlight(background)
        callers = await waiting(flights, "a", load, 2)

    for caller in callers:
        with pytest.raises(BackendUnavailable, match="was ended") as caught:
            await caller
        assert caught.value.reason == "closing"


async def test_a_load_that_is_ended_before_its_first_step_leaves_nobody_waiting() -> None:
    load = Load()
    async with Background(drain_s=0) as background:
        flights: Flights = SingleFlight(background)
        caller = asyncio.create_task(flights.run("a", load))
        background.spawn(asyncio.sleep(0), name="other")
        # The caller runs, its load's task does not: closing comes first.
        await asyncio.sleep(0)
        assert load.calls == 0

    with pytest.raises(BackendUnavailable):
        await caller
    assert len(flights) == 0


async def test_closing_waits_for_a_load_that_is_nearly_done() -> None:
    load = Load()
    async with Background(drain_s=60) as background:
        flights: Flights = SingleFlight(background)
        (caller,) = await waiting(flights, "a", load, 1)
        load.end("value")

    assert await caller == Flown("value", True)


async def test_no_load_starts_after_closing() -> None:
    async with Background() as background:
        flights: Flights = SingleFlight(background)
    load = Load()

    with pytest.raises(BackendUnavailable, match="closing"):
        await flights.run("a", load)
    assert (load.calls, len(flights)) == (0, 0)
