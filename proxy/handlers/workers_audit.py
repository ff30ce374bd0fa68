"""What operators did, of several workers as one list. The audit of those that are gone stays."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from proxy.handlers.worker_forwarding import Forwarding
from proxy.workers.merging import merged_audit
from proxy.workers.post import Post
from proxy.workers.supervisor import Supervisor

MOST_RECORDS = 1000
_GONE = 0
"""No worker has this number."""

Records = Sequence[Mapping[str, Any]]


class WorkersAudit:
    """`note` is to be called after each change, with whom has made it: a worker may end at any
    moment, and its list with it."""

    def __init__(self, supervisor: Supervisor, forwarding: Forwarding) -> None:
        self._supervisor = supervisor
        self._forwarding = forwarding
        self._noted: dict[int, Records] = {}

    async def latest(self, limit: int) -> Records:
        """The newest first."""
        parts: dict[int, Records] = {
            number: told["entries"]
            for number, told in (await self._forwarding.read_all(_path(limit))).items()
        }
        self._let_go()
        # Of those that could not be asked now, what they said before.
        for number, noted in self._noted.items():
            parts.setdefault(number, noted[:limit])
        return merged_audit(parts, limit)

    async def newest(self) -> Mapping[str, Any] | None:
        return next(iter(await self.latest(1)), None)

    async def note(self, post: Post) -> None:
        """Keep what its audit says now."""
        told = await self._forwarding.read(post, _path(MOST_RECORDS))
        if told is not None and told[0] == 200:
            self._noted[post.number] = orjson.loads(told[1])["entries"]
        self._let_go()

    def _let_go(self) -> None:
        """Put together what those said that are gone."""
        here = {post.number for post in self._supervisor}
        gone = {
            number: self._noted.pop(number)
            for number in sorted(self._noted)
            if number not in here and number != _GONE
        }
        if gone:
            before = self._noted.get(_GONE, [])
            self._noted[_GONE] = merged_audit({_GONE: before, **gone}, MOST_RECORDS)


def _path(limit: int) -> str:
    return f"/admin/audit?limit={limit}"
