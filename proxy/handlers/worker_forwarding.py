"""Asks workers on the admin ports of their own, on behalf of who asks the supervisor."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import structlog
from aiohttp import web
from multidict import CIMultiDict

from proxy.errors import BackendUnavailable, ProxyError
from proxy.tracing.request import ID_HEADER, request_id_of
from proxy.workers.link import LinkError
from proxy.workers.post import Post
from proxy.workers.supervisor import Supervisor

log = structlog.get_logger(__name__)

_OF_ONE_CONNECTION = (
    "Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
)  # fmt: skip
_NOT_ON = (*_OF_ONE_CONNECTION, "Authorization", "Content-Length", "Expect", "Host", ID_HEADER)
_NOT_BACK = (*_OF_ONE_CONNECTION, "Date", "Server")
_READING = ("GET", "HEAD", "OPTIONS")
_ROLLBACK = "/admin/rollback"
_SETTING = ("/admin/split", "/admin/shadow")
"""What a POST there asks for is said outright: done twice, it is as if done once."""


class UnansweredError(ProxyError):
    """It was asked and has not answered: it may have done it, or may do so yet."""


@dataclass(frozen=True, slots=True)
class Patience:
    """In seconds. A worker has `knock_s` to show that it lives: before it is asked, and again
    each `look_s` that it owes the answer, `most_looks` times. A rollback is asked of the next
    one too after `hurry_s`."""

    knock_s: float = 1.0
    look_s: float = 2.0
    most_looks: int = 15
    hurry_s: float = 1.0


USUAL = Patience()


@dataclass(frozen=True, slots=True)
class Reply:
    """A worker's whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)

    def response(self) -> web.Response:
        return web.Response(
            status=self.status, headers=_without(self.headers, _NOT_BACK), body=self.body
        )


class Forwarding:
    """Asks one worker, the lead, or all. Whoever asked must be known already.

    A worker that lives is waited for. One that hangs holds nobody up: it is given no
    change, which it would make when it goes on, however late.
    """

    def __init__(self, supervisor: Supervisor, patience: Patience = USUAL) -> None:
        self._supervisor = supervisor
        self._patience = patience

    async def forward(self, request: web.Request) -> tuple[Post, Reply]:
        """The answer of the first that gives one, the lead if it can.

        Raises BackendUnavailable when there is none.
        """
        body = await body_of(request)
        if request.method == "POST" and request.path == _ROLLBACK:
            return await self._hurry(request, body)
        for post in self._supervisor.answering():
            try:
                return post, await self.ask(post, request, body)
            except LinkError:
                # It has heard nothing: the next one is asked.
                continue
            except UnansweredError as error:
                if not _may_be_asked_twice(request):
                    raise BackendUnavailable(
                        f"{error}. Whether it has done what it was asked is not known: look first"
                    ) from error
        raise nobody()

    async def ask(
        self, post: Post, request: web.Request, body: bytes, *, knocks: bool = True
    ) -> Reply:
        """Raises LinkError when the worker has heard nothing, else UnansweredError."""
        link, patience = post.worker.link, self._patience
        if knocks and not await link.is_live(patience.knock_s):
            raise LinkError(f"worker {post.number} does not answer")
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(self._exchange(post, request, body))
            for _ in range(patience.most_looks):
                done, _ = await asyncio.wait([asking], timeout=patience.look_s)
                if done or not await link.is_live(patience.knock_s):
                    break
            asking.cancel()
        if asking.cancelled():
            raise UnansweredError(f"worker {post.number} has not answered in time")
        told = asking.result()
        if isinstance(told, ProxyError):
            raise told
        return told

    async def try_ask(
        self, post: Post, request: web.Request, body: bytes, *, knocks: bool = True
    ) -> Reply | None:
        """None when no answer could be had."""
        try:
            return await self.ask(post, request, body, knocks=knocks)
        except (LinkError, UnansweredError) as error:
            log.warning("worker_not_asked", worker=post.number, error=str(error))
            return None

    async def read(self, post: Post, path: str) -> tuple[int, bytes] | None:
        """Status and body of a GET; None when no answer could be had."""
        link = post.worker.link
        try:
            if await link.is_live(self._patience.knock_s):
                return await link.probe(path)
        except LinkError:
            pass
        return None

    async def read_all(self, path: str) -> dict[int, dict[str, Any]]:
        """What all say that can be asked, by their numbers, the lead first. JSON objects."""
        posts = self._supervisor.answering()
        found = await asyncio.gather(*(self.read(post, path) for post in posts))
        return {
            post.number: orjson.loads(one[1])
            for post, one in zip(posts, found, strict=True)
            if one is not None and one[0] == 200
        }

    async def _hurry(self, request: web.Request, body: bytes) -> tuple[Post, Reply]:
        """Whoever is first. It does no harm twice nor late, so nobody is waited for."""
        found: tuple[Post, Reply] | None = None
        posts = deque(self._supervisor.answering())

        async def attempt(post: Post) -> tuple[Post, Reply] | None:
            reply = await self.try_ask(post, request, body, knocks=False)
            return None if reply is None else (post, reply)

        async with asyncio.TaskGroup() as group:
            asked: set[asyncio.Task[tuple[Post, Reply] | None]] = set()
            while found is None and (posts or asked):
                if posts:
                    asked.add(group.create_task(attempt(posts.popleft())))
                done, asked = await asyncio.wait(
                    asked,
                    timeout=self._patience.hurry_s if posts else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                found = next((one.result() for one in done if one.result() is not None), None)
            for one in asked:
                one.cancel()
        if found is None:
            raise nobody()
        return found

    async def _exchange(
        self, post: Post, request: web.Request, body: bytes
    ) -> Reply | LinkError | UnansweredError:
        # An error is what this returns: one that is raised would come in a group.
        headers = _without(request.headers, _NOT_ON)
        headers[ID_HEADER] = request_id_of(request.headers)
        # Of a target in absolute form, too, the path alone.
        path = request.rel_url.raw_path_qs
        try:
            answer = await post.worker.link.open(request.method, path, headers, body)
            async with answer:
                return Reply(answer.status, CIMultiDict(answer.headers), await answer.read())
        except LinkError as error:
            return error
        except (aiohttp.ClientError, OSError) as error:
            return UnansweredError(f"worker {post.number} broke off: {error}")


def nobody() -> BackendUnavailable:
    return BackendUnavailable("no worker is there to answer: try again in a moment")


async def body_of(request: web.Request) -> bytes:
    """The body, with the caller's address for an author where it names none.

    A worker sees only its supervisor.
    """
    body = await request.read()
    if request.method in _READING:
        return body
    try:
        fields = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError:
        return body
    # Whatever else is no name, the worker refuses.
    if not isinstance(fields, dict) or fields.get("author") not in (None, ""):
        return body
    return orjson.dumps({**fields, "author": request.remote or "unknown"})


def _may_be_asked_twice(request: web.Request) -> bool:
    return request.method in _READING or (request.method == "POST" and request.path in _SETTING)


def _without(headers: Mapping[str, str], names: tuple[str, ...]) -> CIMultiDict[str]:
    kept = CIMultiDict(headers)
    for name in names:
        kept.popall(name, None)
    return kept
