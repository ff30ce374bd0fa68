"""Hands requests for the admin port on to workers, which each have one of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import structlog
from aiohttp import web
from multidict import CIMultiDict

from proxy.errors import BackendUnavailable
from proxy.workers.link import LinkError
from proxy.workers.post import Post
from proxy.workers.supervisor import Supervisor

log = structlog.get_logger(__name__)

_OF_ONE_CONNECTION = (
    "Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
)  # fmt: skip
_NOT_ON = (*_OF_ONE_CONNECTION, "Authorization", "Content-Length", "Expect", "Host")
_NOT_BACK = (*_OF_ONE_CONNECTION, "Date", "Server")


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
    """Asks one worker, the lead, or all. Whoever asked must be known already."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """The lead's answer as it comes, event streams included.

        Raises BackendUnavailable when no worker can be reached.
        """
        body = await body_of(request)
        for post in self._supervisor.answering():
            try:
                answer = await self._open(post, request, body)
            except LinkError:
                # It has gone a moment ago, and heard nothing: the next one is asked.
                continue
            except aiohttp.ClientError as error:
                if request.method in ("GET", "HEAD"):
                    continue
                raise BackendUnavailable(f"worker {post.number} broke off: {error}") from error
            return await _relay(request, answer)
        raise BackendUnavailable("no worker is there to answer: try again in a moment")

    async def ask(self, post: Post, request: web.Request, body: bytes) -> Reply | None:
        """The whole answer of one worker; None when it could not be had."""
        try:
            answer = await self._open(post, request, body)
            async with answer:
                return Reply(answer.status, CIMultiDict(answer.headers), await answer.read())
        except (aiohttp.ClientError, LinkError, TimeoutError) as error:
            log.warning("worker_not_asked", worker=post.number, error=str(error))
            return None

    async def _open(self, post: Post, request: web.Request, body: bytes) -> aiohttp.ClientResponse:
        headers = _without(request.headers, _NOT_ON)
        return await post.worker.link.open(request.method, request.raw_path, headers, body)


async def body_of(request: web.Request) -> bytes:
    """The body, with the caller's address for an author where it names none.

    A worker sees only its supervisor.
    """
    body = await request.read()
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return body
    try:
        fields = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError:
        return body
    if not isinstance(fields, dict) or fields.get("author"):
        return body
    return orjson.dumps({**fields, "author": request.remote or "unknown"})


async def _relay(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    async with answer:
        response = web.StreamResponse(
            status=answer.status, headers=_without(answer.headers, _NOT_BACK)
        )
        try:
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
        except (aiohttp.ClientError, ConnectionError):
            # One of both is gone in the middle: what was sent must not look whole.
            if not _is_endless(answer):
                response.force_close()
                if request.transport is not None:
                    request.transport.abort()
        return response


def _is_endless(answer: aiohttp.ClientResponse) -> bool:
    """Whether any end of it is as good as another."""
    return answer.content_type == "text/event-stream"


def _without(headers: Mapping[str, str], names: tuple[str, ...]) -> CIMultiDict[str]:
    kept = CIMultiDict(headers)
    for name in names:
        kept.popall(name, None)
    return kept
