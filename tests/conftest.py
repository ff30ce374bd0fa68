"""What tests of Redis share, and what is said at the end of a run."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from proxy.cache.redis import RedisStore
from proxy.telemetry import Telemetry
from tests import programs
from tests.redis_server import RedisServer
from tests.redis_stores import store_at


def pytest_sessionfinish(session: pytest.Session) -> None:
    # A process that runs a part of the tests hands over what it missed.
    told = getattr(session.config, "workeroutput", None)
    if told is not None:
        told["missed"] = sorted(programs.MISSED)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    programs.MISSED.update(getattr(node, "workeroutput", {}).get("missed", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if programs.MISSED:
        terminalreporter.write_line(programs.what_was_missed(), yellow=True)


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


@pytest.fixture
async def raw(server: RedisServer) -> AsyncIterator[Redis]:
    """A client of the test's own, to look behind the store."""
    async with Redis.from_url(server.url, protocol=2) as client:
        yield client


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
async def store(server: RedisServer, telemetry: Telemetry) -> AsyncIterator[RedisStore]:
    async with store_at(server.url, telemetry=telemetry) as store:
        yield store
