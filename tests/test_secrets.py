"""Nothing secret in what a proxy says: its log, its errors, its metrics, its command line."""

import asyncio
import base64
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.intermediary import RawLegacy, raw_legacy
from tests.proxies import ProxyProcess
from tests.public_port import Caller, ask, calling, get, make_database, message, post

QUESTION = b'{"start_date":"2024-06-21","end_date":"2024-06-30"}'
MARK = "hushhush"
CREDENTIALS = (
    f"Authorization: Basic {base64.b64encode(f'anna:{MARK}'.encode()).decode()}",
    f"Cookie: session={MARK}; theme=dark",
    f"X-Api-Key: {MARK}",
    "Connection: close",
)
ENCODED = base64.b64encode(f"anna:{MARK}".encode()).decode()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "tables.db")


async def misbehave(
    legacy: RawLegacy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Whatever it is asked it answers differently each time, and never well."""
    await legacy.head(reader)
    bodies = [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
    ]
    writer.write(bodies[len(legacy.heads) % len(bodies)])


@pytest.fixture
async def legacy() -> AsyncIterator[RawLegacy]:
    async with raw_legacy(misbehave) as legacy:
        yield legacy


REQUESTS = [
    post("/data", QUESTION, *CREDENTIALS),
    post("/data", b"{", *CREDENTIALS),
    post("/analytics/data", b'{"unknown": 1}', *CREDENTIALS),
    get("/other?token=" + MARK, *CREDENTIALS),
    get("/cached?x=1", *CREDENTIALS),
    message("CONNECT", "dash:80", *CREDENTIALS),
    message("POST", "/data", "Content-Length: x", *CREDENTIALS),
    message("POST", "/data", "Transfer-Encoding: gzip, chunked", *CREDENTIALS),
    message("POST", "/other", "Transfer-Encoding: chunked", *CREDENTIALS, body=b"x\r\n"),
    message("GET", "/data", *CREDENTIALS, "X: " + MARK * 20_000),
    message("GET", "/" + MARK * 20_000, *CREDENTIALS),
    message("GET", "/data", *CREDENTIALS, f"Cookie{MARK}\x00: 1"),
    message("GET", "/data", *CREDENTIALS, f"X-Broken: {MARK}\x01"),
]


def reached(legacy: RawLegacy) -> Counter[bytes]:
    """How often it was asked what: method and path."""
    return Counter(head.partition(b"?")[0].partition(b" HTTP/")[0] for head in legacy.heads)


ROUNDS = 5
"""As many as there are ways in which the legacy misbehaves."""


async def replies(caller: Caller) -> bytes:
    try:
        async with asyncio.timeout(20):
            return await caller.reader.read()
    except ConnectionError:
        return b""


async def test_no_secret_is_said_whatever_goes_wrong(database: Path, legacy: RawLegacy) -> None:
    settings = {
        "admin_token": MARK,
        "legacy_url": legacy.url.with_user("u").with_password(MARK),
        "redis_url": f"redis://:{MARK}@127.0.0.1:1/0",
        "auth": "forward",
        "auth_url": legacy.url / "me" % {"token": MARK},
        "legacy_timeout_s": 1,
    }
    heard: list[bytes] = []
    async with ProxyProcess(database, **settings) as proxy:
        for _ in range(ROUNDS):
            for data in REQUESTS:
                async with calling(proxy.url) as caller:
                    caller.send(data)
                    heard.append(await replies(caller))
        for path in ("/admin/status", "/admin/nothing", "/admin/cache/explain", "/health/ready"):
            for token in (MARK, f"{MARK}-wrong"):
                data = get(path, f"Authorization: Bearer {token}")
                heard.append((await ask(proxy.admin_url, data)).body)
        heard.append((await ask(proxy.admin_url, get("/metrics"))).body)
        await proxy.end()
        said = "".join(proxy.said)
    whole = said + b"".join(heard).decode("latin-1")
    assert '"stopped"' in said
    asked = reached(legacy)
    # In each round it was asked about the one caller whose question is ours.
    assert asked.pop(b"GET /me") >= ROUNDS
    assert asked == dict.fromkeys((b"GET /other", b"GET /cached", b"POST /analytics/data"), ROUNDS)
    for secret in (MARK, ENCODED):
        assert [line[:300] for line in whole.splitlines() if secret in line] == []


@pytest.mark.parametrize(
    "name",
    ["PROXY_LEGACY_URL", "PROXY_REDIS_URL", "PROXY_AUTH_URL", "PROXY_ADMIN_TOKEN"],
)
def test_a_start_that_is_refused_says_no_secret(database: Path, name: str) -> None:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PROXY_")}
    environ |= {
        "PROXY_DATABASE": str(database),
        "PROXY_ADMIN_HOST": "0.0.0.0",
        "PROXY_PORT": "-1",
        name: f"odd://u:{MARK}@x" if name != "PROXY_ADMIN_TOKEN" else MARK,
    }
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "serve"],
        env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "PROXY_PORT" in done.stderr
    assert MARK not in done.stdout + done.stderr


async def test_warming_without_a_proxy_says_no_secret(database: Path, tmp_path: Path) -> None:
    state = tmp_path / f"{MARK}.db"
    state.write_bytes(b"garbage" * 1000)
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PROXY_")}
    environ |= {
        "PROXY_DATABASE": str(database),
        "PROXY_REDIS_URL": f"redis://:{MARK}@127.0.0.1:1/0",
        "PROXY_LEGACY_URL": f"http://u:{MARK}@127.0.0.1:1",
        "PROXY_ADMIN_TOKEN": MARK,
        "PROXY_STATE": str(state),
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "proxy", "warm", "--in-process"],
        env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert '/***.db"' in done.stderr
    assert "redis_down" in done.stderr
    assert MARK not in done.stdout + done.stderr
