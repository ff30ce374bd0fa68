"""What the composition root says and does that no part of it does alone."""

import io
import socket
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from yarl import URL

from proxy.app import run_proxy
from proxy.app_listening import Inherited
from proxy.logs import configure_logs
from proxy.settings import load_settings


@pytest.fixture
def said() -> io.StringIO:
    stream = io.StringIO()
    configure_logs("json", stream)
    return stream


def events(said: io.StringIO) -> list[Any]:
    return [orjson.loads(line)["event"] for line in said.getvalue().splitlines()]


async def test_a_worker_answers_on_what_it_inherited_and_its_admin_only_to_its_supervisor(
    tmp_path: Path, said: io.StringIO
) -> None:
    given = {"database": str(tmp_path / "none.db"), "state": str(tmp_path / "state.db")}
    listener = socket.create_server(("127.0.0.1", 0))
    url = URL(f"http://127.0.0.1:{listener.getsockname()[1]}")
    inherited = Inherited([listener], url, tmp_path / "admin", "of-the-supervisor")
    connector = aiohttp.UnixConnector(str(tmp_path / "admin"))
    async with (
        run_proxy(load_settings(None, given, {}), inherited=inherited) as running,
        aiohttp.ClientSession() as outside,
        aiohttp.ClientSession(connector=connector) as inside,
    ):
        assert running.url == url
        async with outside.get(url / "data") as response:
            assert response.status == 400
        async with inside.get("http://worker/admin/status") as response:
            assert response.status == 401
        known = {"Authorization": "Bearer of-the-supervisor"}
        async with inside.get("http://worker/admin/status", headers=known) as response:
            assert response.status == 200
    # Whoever waits for the line of a whole proxy must not take this one for it.
    assert "worker_listening" in events(said)
    assert "listening" not in events(said)
