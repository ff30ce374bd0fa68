"""A reader of server-sent events, by their rules, over a plain HTTP client."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from yarl import URL

LARGEST_LINE = 2**23


@dataclass(frozen=True, slots=True)
class Event:
    """`name` is empty and `data` None for a comment."""

    name: str
    data: Any


class EventStream:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> Event | None:
        """The next event or comment; None when the stream has ended in good order."""
        name, data = "", ""
        while line := (await self.response.content.readline()).decode():
            if line == "\n":
                return Event(name, orjson.loads(data) if data else None)
            field, _, text = line.rstrip("\n").partition(":")
            if field == "event":
                name = text.strip()
            elif field == "data":
                data += text
        return None

    async def next_of(self, name: str) -> Any:
        """The data of the next event of that name."""
        while (event := await self.next()) is not None:
            if event.name == name:
                return event.data
        raise AssertionError(f"the stream ended without another {name!r}")

    async def ends(self) -> bool:
        """Read until it ends; whether that was in good order."""
        try:
            while await self.next() is not None:
                pass
        except (aiohttp.ClientError, ConnectionError):
            return False
        return True


@asynccontextmanager
async def watching(
    url: URL, headers: Mapping[str, str] | None = None
) -> AsyncIterator[EventStream]:
    """The stream of events at `url`, on a connection of its own."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=timeout,
            read_bufsize=LARGEST_LINE,
        ) as session,
        session.get(url, headers=headers) as response,
    ):
        yield EventStream(response)
