"""A time limit that ends a wait in vain, but not one for what has come already."""

import asyncio
import socket

import pytest

from proxy.patience import patience


def keep_busy(seconds: float) -> None:
    """As a burst of requests does: the loop does not come round."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        pass


async def test_a_wait_in_vain_ends_at_the_limit() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        async with patience(0.02):
            await asyncio.Event().wait()
    assert loop.time() - began >= 0.02


async def test_an_answer_that_came_while_the_loop_was_busy_counts() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        loop = asyncio.get_running_loop()
        # It is there long before the limit, but nobody comes to read it.
        loop.call_soon(theirs.sendall, b"answer")
        loop.call_soon(keep_busy, 0.05)
        async with patience(0.01):
            assert await reader.readexactly(6) == b"answer"
            # Whoever takes an answer apart needs a few turns of the loop for it.
            for _ in range(5):
                await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()


async def test_when_the_loop_was_busy_and_nothing_came_it_ends_a_moment_later() -> None:
    asyncio.get_running_loop().call_soon(keep_busy, 0.05)
    with pytest.raises(TimeoutError):
        async with patience(0.01):
            await asyncio.Event().wait()


async def test_what_is_done_in_time_is_not_ended_later() -> None:
    async with patience(0.001):
        pass
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, event.set)
    await event.wait()


async def test_a_cancelled_wait_is_cancelled_and_no_timeout() -> None:
    async def wait() -> None:
        async with patience(3600):
            await asyncio.Event().wait()

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_an_error_inside_is_handed_on() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with patience(1):
            raise ValueError("mine")
