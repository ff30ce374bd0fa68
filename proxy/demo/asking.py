"""Asks a question over HTTP, as the dashboard does, and says how long the answer took."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import aiohttp

from proxy.clock import Clock
from proxy.errors import ProxyError

PATH = "/api/dashboard/analytics/data"


class AskingError(ProxyError):
    """No answer came, or one that reports a failure."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One answer: what the cache says of it, how long it took, how large, from which side."""

    cache: str
    ms: float
    bytes: int
    variant: str = ""

    @property
    def is_hit(self) -> bool:
        return self.cache == "hit"


def campaigns(end: date, days: int) -> Mapping[str, str]:
    """The question that a dashboard asks when it is opened: `days` days up to `end`."""
    start = end - timedelta(days=days - 1)
    return {"start_date": str(start), "end_date": str(end), "group_by": "campaign"}


async def ask(
    session: aiohttp.ClientSession,
    url: str,
    question: Mapping[str, str],
    clock: Clock,
    *,
    user: str | None = None,
) -> Timed:
    """From the first byte sent to the last byte of the answer. `user` is who asks."""
    started = clock.monotonic()
    headers = {} if user is None else {"X-User-Id": user}
    try:
        async with session.post(f"{url}{PATH}", json=question, headers=headers) as response:
            body = await response.read()
    except aiohttp.ClientError as error:
        raise AskingError(f"{url} does not answer: {error}") from error
    ms = (clock.monotonic() - started) * 1000
    if response.status != 200:
        raise AskingError(f"{url} answers {response.status}: {body[:200].decode(errors='replace')}")
    _, _, said = response.headers.get("Cache-Status", "").partition("; ")
    return Timed(said, ms, len(body), response.headers.get("X-Dashboard-Variant", ""))
