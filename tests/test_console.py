"""The console's page and parts: what is given out, under which rules, and nothing else."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from proxy.handlers.console import Console, assets_in
from tests.public_port import Reply, ask, make_database, message, serving

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "daily.db")


@pytest.fixture
async def admin_url(database: Path) -> AsyncIterator[URL]:
    async with serving(database) as running:
        yield running.admin_url


async def fetch(url: URL, target: str, *headers: str, method: str = "GET") -> Reply:
    """By its bytes: no client tidies up the path."""
    return await ask(url, message(method, target, *headers))


async def test_the_page_is_there(admin_url: URL) -> None:
    for target in ("/console", "/console/", "/console/index.html"):
        reply = await fetch(admin_url, target)
        assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert reply.body.startswith(b"<!doctype html>")


async def test_every_part_of_the_package_is_given_out(admin_url: URL) -> None:
    folder = Path(__file__).parent.parent / "proxy" / "console"
    parts = [path for path in folder.rglob("*") if path.is_file()]
    assert parts
    for path in parts:
        reply = await fetch(admin_url, f"/console/{path.relative_to(folder)}")
        assert (reply.status, reply.body) == (200, path.read_bytes()), path


async def test_the_rules_for_browsers_are_strict(admin_url: URL) -> None:
    for target in ("/console", "/console/no-such-part"):
        headers = (await fetch(admin_url, target)).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-opener-policy"] == "same-origin"


async def test_a_browser_asks_each_time_and_gets_nothing_twice(admin_url: URL) -> None:
    first = await fetch(admin_url, "/console")
    assert first.headers["cache-control"] == "no-cache"
    etag = first.headers["etag"]
    assert etag.startswith('"')
    again = await fetch(admin_url, "/console", f"If-None-Match: {etag}")
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
    assert (await fetch(admin_url, "/console", 'If-None-Match: "other"')).status == 200


async def test_a_head_has_no_body(admin_url: URL) -> None:
    reply = await fetch(admin_url, "/console", method="HEAD")
    assert (reply.status, reply.body) == (200, b"")
    assert int(reply.headers["content-length"]) > 0


@pytest.mark.parametrize(
    "target",
    [
        "/console/../errors.py",
        "/console/..%2ferrors.py",
        "/console/%2e%2e/errors.py",
        "/console/vendor/../../errors.py",
        "/console//etc/passwd",
        "/console/..\\errors.py",
        "/console/index.html%00.js",
        "/console/INDEX.HTML",
        "/console/vendor",
        "/console/vendor/",
        "/console/__init__.py",
        "/consoles",
    ],
)
async def test_nothing_else_is_given_out(admin_url: URL, target: str) -> None:
    reply = await fetch(admin_url, target)
    assert reply.status == 404
    assert b"import" not in reply.body


async def test_nothing_can_be_sent_there(admin_url: URL) -> None:
    assert (await fetch(admin_url, "/console", "Content-Length: 0", method="POST")).status == 405


async def test_the_page_needs_no_token_and_the_data_do(database: Path) -> None:
    token: dict[str, Any] = {"admin_token": "secret-token-of-32-characters-xx"}
    async with serving(database, **token) as running:
        assert (await fetch(running.admin_url, "/console")).status == 200
        assert (await fetch(running.admin_url, "/admin/overview")).status == 401


async def test_the_page_may_ask_for_the_data_and_no_other_page_may(admin_url: URL) -> None:
    host = f"127.0.0.1:{admin_url.port}"
    for origin, status in ((f"http://{host}", 200), ("http://elsewhere.example", 403)):
        request = f"GET /admin/overview HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\r\n"
        assert (await ask(admin_url, request.encode())).status == status


async def test_on_the_public_port_the_path_is_not_ours(database: Path) -> None:
    async with serving(database) as running:
        assert (await fetch(running.url, "/console")).status != 200


def test_only_files_of_known_types_are_parts(tmp_path: Path) -> None:
    (tmp_path / "vendor").mkdir()
    for name in ("index.html", "notes.py", ".hidden", "vendor/lib.min.js", "vendor/lib.map"):
        (tmp_path / name).write_text(name)
    found = assets_in(tmp_path)
    assert sorted(found) == ["index.html", "vendor/lib.min.js"]
    assert found["vendor/lib.min.js"].headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert repr(Console(tmp_path)) == "<Console ['index.html', 'vendor/lib.min.js']>"
