"""Waiting for what a test cannot await."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop run until `condition` holds; pytest's timeout ends a wait in vain."""
    while not condition():  # noqa: ASYNC110 (a condition of a third party fires no event)
        await asyncio.sleep(0)
