"""Webhook: each event is posted as JSON, and a receiver that fails holds up nobody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from proxy.background import Background
from proxy.handlers.upstream import open_legacy_session
from proxy.rollout.ramp import Event
from proxy.rollout.webhook import Webhook
from tests.waiting import until

EVENT = Event("rollback", 1_700_000_000.25, 0.0, 2, "error_rate: too many", "guard")
TOKEN = "s3cret"


@dataclass
class Receiver:
    """Answers with `statuses` in turn, then with 204. A closed `gate` holds the answers."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        self.types.append(request.content_type)
        self.bodies.append(await request.json())
        await self.gate.wait()
        status = self.statuses.pop(0) if self.statuses else 204
        headers = {"Location": "/elsewhere"} if status == 307 else {}
        return web.Response(status=status, headers=headers)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    receiver.gate.set()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.take)
    async with TestServer(app) as server:
        receiver.url = str(server.make_url(f"/hook?token={TOKEN}"))
        yield receiver
        receiver.gate.set()


@dataclass
class Sent:
    webhook: Webhook
    background: Background
    pauses: list[float]


@asynccontextmanager
async def webhook(
    url: str, *, timeout_s: float = 20.0, session: aiohttp.ClientSession | None = None
) -> AsyncIterator[Sent]:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with (
        session or aiohttp.ClientSession() as own,
        Background(drain_s=0) as background,
    ):
        hook = Webhook(url, own, background, timeout_s=timeout_s, sleep=sleep)
        yield Sent(hook, background, pauses)


async def test_an_event_is_posted_as_json(receiver: Receiver) -> None:
    async with webhook(receiver.url) as sent:
        sent.webhook.tell(EVENT)
        await sent.background.drained()
    assert receiver.types == ["application/json"]
    assert receiver.bodies == [
        {
            "event": "rollback",
            "at": "2023-11-14T22:13:20.250Z",
            "percent": 0.0,
            "step": 2,
            "reason": "error_rate: too many",
            "author": "guard",
        }
    ]


async def test_a_failure_is_tried_again_after_a_pause(receiver: Receiver) -> None:
    receiver.statuses = [500, 429]
    async with webhook(receiver.url) as sent:
        with capture_logs() as logs:
            sent.webhook.tell(EVENT)
            await sent.background.drained()
    assert len(receiver.bodies) == 3
    assert sent.pauses == [1.0, 2.0]
    assert logs == []


async def test_after_three_tries_it_is_given_up_and_logged_without_the_url(
    receiver: Receiver,
) -> None:
    receiver.statuses = [500] * 5
    async with webhook(receiver.url) as sent:
        with capture_logs() as logs:
            sent.webhook.tell(EVENT)
            await sent.background.drained()
        assert TOKEN not in repr(sent.webhook)
    assert len(receiver.bodies) == 3
    (line,) = logs
    assert (line["event"], line["about"], line["error"]) == (
        "webhook_failed", "rollback", "it answers 500",
    )  # fmt: skip
    assert TOKEN not in str(logs)


async def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.statuses = [307] * 3
    async with webhook(receiver.url) as sent:
        sent.webhook.tell(EVENT)
        await sent.background.drained()
    assert receiver.paths == ["/hook"] * 3


@pytest.mark.parametrize("is_ours", [True, False])
async def test_nobody_there_is_a_failure_like_any_other(
    receiver: Receiver, unused_tcp_port: int, is_ours: bool
) -> None:
    """Also over the session that speaks in our own errors."""
    session = open_legacy_session() if is_ours else None
    async with webhook(
        f"http://user:{TOKEN}@127.0.0.1:{unused_tcp_port}/{TOKEN}", session=session
    ) as sent:
        with capture_logs() as logs:
            sent.webhook.tell(EVENT)
            await sent.background.drained()
    assert [line["event"] for line in logs] == ["webhook_failed"]
    assert TOKEN not in str(logs)


async def test_one_that_hangs_is_given_up_after_the_timeout(receiver: Receiver) -> None:
    receiver.gate.clear()
    async with webhook(receiver.url, timeout_s=0.01) as sent:
        with capture_logs() as logs:
            sent.webhook.tell(EVENT)
            await sent.background.drained()
    assert [line["error"] for line in logs] == ["TimeoutError"]


async def test_events_arrive_in_order_though_the_first_fails(receiver: Receiver) -> None:
    receiver.statuses = [500]
    async with webhook(receiver.url) as sent:
        for name in ("start", "step", "rollback"):
            sent.webhook.tell(replace(EVENT, event=name))
        await sent.background.drained()
    assert [body["event"] for body in receiver.bodies] == ["start", "start", "step", "rollback"]


async def test_who_tells_does_not_wait_and_too_many_are_dropped(receiver: Receiver) -> None:
    receiver.gate.clear()
    async with webhook(receiver.url) as sent:
        with capture_logs() as logs:
            for _ in range(25):
                sent.webhook.tell(EVENT)
        assert [line["event"] for line in logs] == ["webhook_dropped"] * 5
        receiver.gate.set()
        await sent.background.drained()
        assert len(receiver.bodies) == 20
        sent.webhook.tell(EVENT)
        await sent.background.drained()
    assert len(receiver.bodies) == 21


async def test_a_proxy_that_leaves_does_not_wait_for_the_receiver(receiver: Receiver) -> None:
    receiver.gate.clear()
    async with webhook(receiver.url) as sent:
        sent.webhook.tell(EVENT)
        await until(lambda: bool(receiver.bodies))
    sent.webhook.tell(EVENT)
    assert len(receiver.bodies) == 1
