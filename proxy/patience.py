"""Patience: a time limit for someone else's answer that our own stalls do not use up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_LATE_S = 0.01
_GRACE_S = 0.05


@asynccontextmanager
async def patience(limit_s: float) -> AsyncIterator[None]:
    """TimeoutError after `limit_s`, as `asyncio.timeout` has it.

    But for one case: the event loop was kept busy past the limit. An answer
    may have come and lie unread, and whoever sent it was not slow. It is read
    first, for 0.05 s at most.
    """
    loop = asyncio.get_running_loop()
    limit = loop.time() + limit_s
    async with asyncio.timeout(None) as timeout:

        def due() -> None:
            now = loop.time()
            timeout.reschedule(now + _GRACE_S if now - limit > _LATE_S else now)

        timer = loop.call_at(limit, due)
        try:
            yield
        finally:
            timer.cancel()
