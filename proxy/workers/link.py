"""WorkerLink: a worker's own admin port, as its supervisor asks it."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
from yarl import URL

from proxy.errors import ProxyError

_PATIENCE_S = 5.0


class LinkError(ProxyError):
    """The worker did not answer, or not in a way that can be understood."""


class WorkerLink:
    """Each question on a connection of its own: none is sent into one that is being closed.

    `is_silent`: it has not answered since a question that it did not answer in time.
    """

    def __init__(self, path: str, token: str) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path, force_close=True, limit=0),
            headers={"Authorization": f"Bearer {token}"},
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        self.is_silent = False
        self._answers = 0

    async def is_live(self, timeout_s: float) -> bool:
        """Whether it answers at all within that time."""
        try:
            await self.read("/health/live", timeout_s=timeout_s)
        except LinkError:
            return False
        return True

    async def is_ready(self) -> bool:
        try:
            await self.read("/health/ready")
        except LinkError:
            return False
        return True

    async def probe(self, path: str, *, timeout_s: float = _PATIENCE_S) -> tuple[int, bytes]:
        """Status and body of a GET. Raises LinkError."""
        answers = self._answers
        try:
            async with asyncio.timeout(timeout_s):
                async with self._session.get(_url(path)) as response:
                    status, body = response.status, await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError, RuntimeError) as error:
            # RuntimeError: the session was closed, with the worker, a moment ago.
            # Not by a question that was overtaken by one that it has answered.
            if isinstance(error, TimeoutError) and self._answers == answers:
                self.is_silent = True
            raise LinkError(f"{path}: {type(error).__name__}: {error}") from error
        self._answers += 1
        self.is_silent = False
        return status, body

    async def read(self, path: str, *, timeout_s: float = _PATIENCE_S) -> bytes:
        """The body of a 200. Raises LinkError."""
        status, body = await self.probe(path, timeout_s=timeout_s)
        if status != 200:
            raise LinkError(f"{path}: {status}")
        return body

    async def read_json(self, path: str) -> dict[str, Any]:
        """Raises LinkError."""
        try:
            told = orjson.loads(await self.read(path))
        except orjson.JSONDecodeError as error:
            raise LinkError(f"{path}: no JSON") from error
        if not isinstance(told, dict):
            raise LinkError(f"{path}: no JSON object")
        return told

    async def open(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> aiohttp.ClientResponse:
        """The answer, its body still to come. The caller closes it.

        Raises LinkError when the worker has heard nothing, else aiohttp.ClientError.
        """
        try:
            return await self._session.request(
                method,
                _url(path),
                headers=headers,
                data=body or None,
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectorError, RuntimeError) as error:
            raise LinkError(f"{path}: {error}") from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    def __repr__(self) -> str:
        return f"<WorkerLink silent={self.is_silent}>"


def _url(path: str) -> URL:
    """`path` and query as they are: the worker finds out what they mean."""
    return URL(f"http://worker{path}", encoded=True)
