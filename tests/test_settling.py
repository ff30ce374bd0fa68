"""News that the data are settled: each generation once, the newest to those who come late."""

import asyncio

from proxy.settling import Settling


async def test_who_comes_late_hears_the_newest() -> None:
    settling = Settling()
    settling.tell(3)
    settling.tell(5)
    assert await settling.after(None) == 5
    assert await settling.after(3) == 5
    assert repr(settling) == "<Settling told=5>"


async def test_who_knows_it_waits_for_the_next() -> None:
    settling = Settling()
    settling.tell(3)
    waiting = asyncio.create_task(settling.after(3))
    await asyncio.sleep(0)
    settling.tell(3)
    await asyncio.sleep(0)
    assert not waiting.done()
    settling.tell(4)
    assert await waiting == 4


async def test_all_who_wait_are_told() -> None:
    settling = Settling()
    waiting = [asyncio.create_task(settling.after(None)) for _ in range(3)]
    await asyncio.sleep(0)
    settling.tell(1)
    assert await asyncio.gather(*waiting) == [1, 1, 1]
