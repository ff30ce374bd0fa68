"""`warm`, `status` and `purge` against a proxy that runs, one that does not, and in the process."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from socket import socket

import pytest

from proxy.commands.admin_client import AdminClient, open_admin
from proxy.demo.data import make_demo
from proxy.errors import SettingsError
from tests.command_line import Ran, forget_variables, run
from tests.proxies import ProxyProcess
from tests.public_port import SMALL
from tests.redis_server import RedisServer

TOKEN = "s3cret-token"
Cli = Callable[..., Ran]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("commands") / "daily.db"
    make_demo(path, None, size=SMALL, end=date.today() - timedelta(days=1))
    return path


@pytest.fixture(scope="module")
def proxy(database: Path) -> Iterator[ProxyProcess]:
    process = ProxyProcess(database, admin_token=TOKEN, poll_ms=20)
    asyncio.run(process.start())
    try:
        asyncio.run(warm_from_its_start(process))
        yield process
    finally:
        process.kill()


@pytest.fixture
def nowhere() -> str:
    """Where nothing listens."""
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Cli:
    forget_variables(monkeypatch)
    monkeypatch.setenv("PROXY_ADMIN_TOKEN", TOKEN)
    return lambda *words: run(monkeypatch, *map(str, words))


def test_status_is_a_table_to_read(cli: Cli, proxy: ProxyProcess) -> None:
    ran = cli("status", "--url", proxy.admin_url)
    assert ran.code == 0
    for word in ("version", "settled", "entries", "database", "redis", "off", "warm start"):
        assert word in ran.out


def test_status_is_one_json_object_on_demand(cli: Cli, proxy: ProxyProcess) -> None:
    ran = cli("status", "--json", "--url", f"{proxy.admin_url}/")
    assert ran.code == 0
    assert json.loads(ran.out)["freshness"]["state"] in ("settled", "unknown")


def test_the_proxy_is_found_by_the_variables(
    cli: Cli, proxy: ProxyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROXY_ADMIN_PORT", str(proxy.admin_url.port))
    for host in ("127.0.0.1", "0.0.0.0"):
        monkeypatch.setenv("PROXY_ADMIN_HOST", host)
        assert cli("status").code == 0


def test_warm_waits_until_it_is_done(cli: Cli, proxy: ProxyProcess) -> None:
    ran = cli("warm", "--queries", "usual", "--url", proxy.admin_url, "--reason", "morning")
    assert ran.code == 0
    assert ran.out.startswith("done: ")
    told = cli("warm", "--json", "--url", proxy.admin_url)
    job = json.loads(told.out)
    assert (told.code, job["state"], job["done"]) == (0, "done", job["total"])


def test_purge_says_how_many_are_gone(cli: Cli, proxy: ProxyProcess) -> None:
    cli("warm", "--url", proxy.admin_url)
    one = json.dumps(
        {"start_date": str(date.today()), "end_date": str(date.today()), "group_by": "ad"}
    )
    ran = cli("purge", "--query", one, "--url", proxy.admin_url)
    assert ran.out == "0 entries are gone.\n"
    ran = cli("purge", "--start", "2000-01-01", "--end", "2000-01-02", "--url", proxy.admin_url)
    assert (ran.code, ran.out) == (0, "0 entries are gone.\n")
    ran = cli("purge", "--all", "--json", "--url", proxy.admin_url, "--author", "ann")
    assert json.loads(ran.out)["purged"] > 10


@pytest.mark.parametrize(
    "words",
    [
        ["purge"],
        ["purge", "--all", "--start", "2024-01-01", "--end", "2024-01-01"],
        ["purge", "--start", "2024-01-01"],
        ["purge", "--query", "{"],
        ["warm", "--queries", "some"],
        ["warm", "--database", "x.db"],
        ["warm", "--in-process", "--url", "http://127.0.0.1:1"],
        ["warm", "--in-process", "--database", "x.db"],
        ["status", "--url", "127.0.0.1:8081"],
        ["status", "--url", "http://user:pass@127.0.0.1:8081"],
        ["status", "--url", "http://127.0.0.1:99999"],
    ],
)
def test_bad_usage_is_2(cli: Cli, words: list[str]) -> None:
    ran = cli(*words)
    assert ran.code == 2
    assert "pass@" not in ran.err


def test_what_the_proxy_calls_a_bad_request_is_2(cli: Cli, proxy: ProxyProcess) -> None:
    ran = cli("purge", "--start", "2024-13-01", "--end", "2024-13-02", "--url", proxy.admin_url)
    assert ran.code == 2
    assert "start_date" in ran.err


@pytest.mark.parametrize("words", [["status"], ["warm"], ["purge", "--all"]])
def test_no_proxy_there_is_3(cli: Cli, nowhere: str, words: list[str]) -> None:
    ran = cli(*words, "--url", nowhere)
    assert ran.code == 3
    assert "no proxy answers" in ran.err
    assert ran.out == ""


def test_a_proxy_that_refuses_is_3_and_no_token_is_shown(
    cli: Cli, proxy: ProxyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROXY_ADMIN_TOKEN", "wrong-token")
    ran = cli("status", "--url", proxy.admin_url)
    assert ran.code == 3
    assert "401" in ran.err
    assert "wrong-token" not in ran.err + ran.out
    assert TOKEN not in ran.err + ran.out


def test_what_is_no_proxy_is_3(cli: Cli, proxy: ProxyProcess) -> None:
    ran = cli("status", "--url", proxy.url)
    assert ran.code == 3


def test_warming_in_the_process_leaves_the_answers_in_redis(cli: Cli, database: Path) -> None:
    server = RedisServer()
    asyncio.run(server.start())
    try:
        words = ["warm", "--in-process", "--database", database, "--redis-url", server.url]
        first = cli(*words, "--json")
        assert first.code == 0, first.err
        job = json.loads(first.out)
        assert (job["state"], job["errors"], job["done"] > 100) == ("done", 0, True)
        assert asyncio.run(statements_of(database, server)) == 0
    finally:
        server.kill()


async def warm_from_its_start(proxy: ProxyProcess) -> None:
    async with asyncio.timeout(60):
        while not proxy.events("job_over"):  # noqa: ASYNC110 (another process fires no event)
            await asyncio.sleep(0.02)


async def statements_of(database: Path, server: RedisServer) -> float:
    """What a proxy on that Redis still has to compute for its own warm-up."""
    async with ProxyProcess(database, redis_url=server.url, poll_ms=20) as proxy:
        await warm_from_its_start(proxy)
        assert proxy.events("job_over")[0]["state"] == "done"
        return await proxy.metric("proxy_sql_seconds_count")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8081"),
        ("0.0.0.0", "http://127.0.0.1:8081"),
        ("::", "http://[::1]:8081"),
        ("::1", "http://[::1]:8081"),
        ("admin.local", "http://admin.local:8081"),
    ],
)
def test_the_own_proxy_stands_where_it_listens(
    monkeypatch: pytest.MonkeyPatch, host: str, url: str
) -> None:
    forget_variables(monkeypatch)
    monkeypatch.setenv("PROXY_ADMIN_HOST", host)
    assert repr(open_admin(None)) == f"<AdminClient {url}>"


def test_any_free_port_is_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_variables(monkeypatch)
    monkeypatch.setenv("PROXY_ADMIN_PORT", "0")
    with pytest.raises(SettingsError, match="PROXY_ADMIN_PORT is 0"):
        open_admin(None)


def test_a_client_never_shows_its_token() -> None:
    assert TOKEN not in repr(AdminClient("http://127.0.0.1:1", TOKEN))
