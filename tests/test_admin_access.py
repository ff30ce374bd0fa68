"""Who is let into /admin: whoever knows the token, else this machine and no page in its browser."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.typedefs import Handler

from proxy.errors import BackendError, ProxyError, RequestError
from proxy.handlers.admin_access import make_guard
from proxy.jobs import JobsFullError
from tests.public_port import make_database, serving

Client = TestClient[web.Request, web.Application]


@asynccontextmanager
async def behind(
    token: str | None, *, remote: str = "127.0.0.1", error: Exception | None = None
) -> AsyncIterator[Client]:
    """A client that seems to come from `remote`."""

    @web.middleware
    async def from_remote(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await handler(request.clone(remote=remote))

    async def open_door(request: web.Request) -> web.StreamResponse:
        if error is not None:
            raise error
        return web.Response(text="in")

    app = web.Application(middlewares=[from_remote, make_guard(token)])
    app.router.add_get("/", open_door)
    async with TestClient(TestServer(app)) as client:
        yield client


async def status(client: Client, headers: Mapping[str, str] | None = None) -> int:
    async with client.get("/", headers=headers) as response:
        if response.status != 200:
            assert (await response.json())["success"] is False
        return response.status


@pytest.mark.parametrize("remote", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
async def test_without_a_token_this_machine_is_let_in(remote: str) -> None:
    async with behind(None, remote=remote) as client:
        assert await status(client) == 200


@pytest.mark.parametrize("remote", ["10.0.0.7", "::ffff:10.0.0.7", "2001:db8::1", "", "localhost"])
async def test_without_a_token_nobody_else_is(remote: str) -> None:
    async with behind(None, remote=remote) as client:
        assert await status(client) == 403


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Host": "localhost:8081"}, 200),
        ({"Host": "[::1]:8081"}, 200),
        ({"Host": "dash.example.com"}, 403),
        ({"Host": "localhost.example.com"}, 403),
        ({"Origin": "https://evil.example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "127.0.0.1:8081", "Origin": "http://127.0.0.1:8081"}, 200),
        ({"Host": "127.0.0.1:8081", "Origin": "http://127.0.0.1:3000"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_without_a_token_pages_and_proxies_of_others_are_not(
    headers: dict[str, str], expected: int
) -> None:
    async with behind(None) as client:
        assert await status(client, headers) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Bearer s3cret", 200),
        ("bearer s3cret", 200),
        ("Bearer  s3cret ", 200),
        ("Bearer s3cre", 401),
        ("Bearer s3crets", 401),
        ("Bearer S3CRET", 401),
        ("Bearer", 401),
        ("Basic s3cret", 401),
        ("s3cret", 401),
        ("Bearer sécret", 401),
    ],
)
async def test_with_a_token_only_those_who_know_it_are(given: str, expected: int) -> None:
    for remote in ("127.0.0.1", "10.0.0.7"):
        async with behind("s3cret", remote=remote) as client:
            assert await status(client, {"Authorization": given}) == expected


async def test_with_a_token_this_machine_needs_it_too() -> None:
    async with behind("s3cret") as client, client.get("/") as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert "s3cret" not in await response.text()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RequestError("bad"), 400),
        (JobsFullError("full"), 409),
        (BackendError("gone"), 503),
        (ProxyError("other"), 500),
        (web.HTTPRequestEntityTooLarge(1, 2), 413),
    ],
)
async def test_every_error_is_json(error: Exception, expected: int) -> None:
    async with behind(None, error=error) as client:
        assert await status(client) == expected


async def test_a_redirect_is_no_error() -> None:
    async with (
        behind(None, error=web.HTTPFound("/else")) as client,
        client.get("/", allow_redirects=False) as response,
    ):
        assert response.status == 302


async def test_health_and_metrics_need_no_token(tmp_path: Path) -> None:
    database = make_database(tmp_path / "daily.db")
    async with (
        serving(database, admin_token="s3cret") as running,
        aiohttp.ClientSession(running.admin_url) as session,
    ):
        for path, expected in (
            ("/health/live", 200),
            ("/metrics", 200),
            ("/admin/status", 401),
            ("/admin/nothing", 401),
            ("/administration", 404),
        ):
            async with session.get(path) as response:
                assert response.status == expected, path
        headers = {"Authorization": "Bearer s3cret"}
        async with session.get("/admin/status", headers=headers) as response:
            assert response.status == 200
