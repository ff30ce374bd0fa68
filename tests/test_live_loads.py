"""Whether somebody waits, and how long one is patient with them."""

import asyncio

import pytest

from proxy.live_loads import LiveLoads

SOON_S = 30.0


async def test_nobody_waits_at_first() -> None:
    assert await LiveLoads().none(SOON_S)


async def test_one_goes_on_when_the_last_of_those_who_wait_has_gone() -> None:
    live = LiveLoads()
    with live.waiting():
        with live.waiting():
            going_on = asyncio.create_task(live.none(SOON_S))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(live) == 1
        assert not going_on.done()
    assert await going_on
    assert repr(live) == "<LiveLoads 0>"


async def test_patience_has_an_end() -> None:
    live = LiveLoads()
    with live.waiting():
        assert not await live.none(0.001)


async def test_a_caller_that_fails_waits_no_longer() -> None:
    live = LiveLoads()
    with pytest.raises(ValueError), live.waiting():
        raise ValueError
    assert await live.none(SOON_S)
