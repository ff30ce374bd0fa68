"""Which way a request goes: to our own routes or to the legacy."""

from pathlib import Path

import pytest

from proxy.handlers.dashboard import ROUTES
from tests.public_port import (
    ask,
    calling,
    counted,
    echo_legacy,
    get,
    make_database,
    message,
    post,
    serving,
)

QUESTION = b'{"start_date":"2024-06-21","end_date":"2024-06-30"}'


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "tables.db")


def test_our_routes_are_mounted_twice() -> None:
    paths = ["/data", "/analytics/data", "/analytics/data/optimized"]
    assert set(ROUTES) == {mount + path for mount in ("", "/api/dashboard") for path in paths}


@pytest.mark.parametrize("path", ROUTES)
async def test_each_of_our_routes_is_answered_by_us(database: Path, path: str) -> None:
    async with echo_legacy() as legacy, serving(database, legacy_url=str(legacy.url)) as running:
        reply = await ask(running.url, post(path, QUESTION))
        assert (reply.status, reply.headers["x-dashboard-source"]) == (200, "optimized")
        assert legacy.asked == []


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/data/",
        "//data",
        "/Data",
        "/%64ata",
        "/api/dashboard/data/x",
        "/api/dashboard//data",
        "/./data",
        "/api/data",
        "/data;a=1",
        "/api/dashboard/analytics/date-range?x=%zz&x=+",
        "/metrics",
        "/health/live",
        "/health/ready",
        "/admin/status",
        "/socket.io/?EIO=4",
    ],
)
async def test_every_other_path_goes_to_the_legacy_byte_for_byte(
    database: Path, target: str
) -> None:
    async with echo_legacy() as legacy, serving(database, legacy_url=str(legacy.url)) as running:
        reply = await ask(running.url, get(target))
        assert reply.body == f"GET {target}\n".encode()
        assert "cache-status" not in reply.headers
        assert counted(running, "passthrough", "legacy", "bypass") == 1
        seconds = running.telemetry.registry.get_sample_value(
            "proxy_request_seconds_count", {"route": "passthrough", "source": "legacy"}
        )
        assert seconds == 1


async def test_without_a_legacy_other_paths_get_the_reason_as_json(database: Path) -> None:
    async with serving(database) as running:
        reply = await ask(running.url, get("/other"))
    assert (reply.status, reply.headers["content-type"]) == (502, "application/json")
    assert b"PROXY_LEGACY_URL" in reply.body


@pytest.mark.parametrize("path", ["/data", "/other"])
async def test_only_who_waits_for_it_is_told_to_go_on(database: Path, path: str) -> None:
    length = f"Content-Length: {len(QUESTION)}"
    waiting = message("POST", path, length, "Expect: 100-Continue")
    async with echo_legacy() as legacy, serving(database, legacy_url=str(legacy.url)) as running:
        async with calling(running.url) as caller:
            assert (await caller.ask(waiting)).status == 100
            assert (await caller.ask(QUESTION)).status == 200
        for other in (
            waiting.replace(b"HTTP/1.1", b"HTTP/1.0") + QUESTION,
            message("POST", path, length, "Expect: miracles", body=QUESTION),
        ):
            assert (await ask(running.url, other)).status == 200
