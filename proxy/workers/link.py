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
_ROOT = URL("http://worker")


class LinkError(ProxyError):
    """The worker did not answer, or not in a way that can be understood."""


class WorkerLink:
    """Each question on a connection of its own: none is sent into one that is being closed."""

    def __init__(self, path: str, token: str) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path, force_close=True, limit=0),
            headers={"Authorization": f"Bearer {token}"},
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        self._streams: set[aiohttp.ClientResponse] = set()

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
        try:
            async with asyncio.timeout(timeout_s):
                async with self._session.get(_ROOT.join(URL(path, encoded=True))) as response:
                    return response.status, await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError, RuntimeError) as error:
            # RuntimeError: the session was closed, with the worker, a moment ago.
            raise LinkError(f"{path}: {type(error).__name__}: {error}") from error

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
            response = await self._session.request(
                method,
                _ROOT.join(URL(path, encoded=True)),
                headers=headers,
                data=body or None,
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectorError, RuntimeError) as error:
            raise LinkError(f"{path}: {error}") from error
        self._streams = {one for one in self._streams if not one.closed}
        self._streams.add(response)
        return response

    def cut_streams(self) -> None:
        """End what would go on for ever: the worker is about to leave."""
        for response in self._streams:
            if response.content_type == "text/event-stream":
                response.close()

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
        return f"<WorkerLink streams={len(self._streams)}>"
