"""nginx with the shipped file in front of two real proxies, where the machine has nginx."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientSession

from tests.nginx import checked, configured, running_nginx, unused_port
from tests.programs import program
from tests.proxies import ProxyProcess
from tests.public_port import echo_legacy, make_database
from tests.redis_server import RedisServer

SHIPPED = Path(__file__).parent.parent / "deploy" / "nginx-proxies.conf"
PROGRAM = program("nginx")
QUESTION = {"start_date": "2024-06-21", "end_date": "2024-06-30"}


def changed(listening: int, *ports: int | None) -> dict[str, str]:
    one, other = ports
    return {
        "listen 80;": f"listen 127.0.0.1:{listening};",
        "127.0.0.1:8080": f"127.0.0.1:{one}",
        "127.0.0.1:8090": f"127.0.0.1:{other}",
    }


@dataclass
class Site:
    url: str
    session: ClientSession
    proxies: list[ProxyProcess]
    passed: list[bytes]
    heads: list[str]

    async def ask(self, **more: object) -> tuple[int, str]:
        """Status and Cache-Status of the one question that is asked here."""
        url = f"{self.url}/api/dashboard/data"
        async with self.session.post(url, json={**QUESTION, **more}) as response:
            await response.read()
            return response.status, response.headers.get("Cache-Status", "")

    async def requests(self) -> list[float]:
        """What each proxy has answered."""
        return [await proxy.metric("proxy_requests_total") for proxy in self.proxies]


@asynccontextmanager
async def two_behind_nginx(folder: Path) -> AsyncIterator[Site]:
    database = make_database(folder / "tables.db")
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(RedisServer())
        legacy = await stack.enter_async_context(echo_legacy())
        settings = {"redis_url": redis.url, "legacy_url": str(legacy.url)}
        proxies = [ProxyProcess(database, **settings) for _ in range(2)]
        for proxy in proxies:
            await stack.enter_async_context(proxy)
        port = unused_port()
        whole = configured(folder / "n", SHIPPED, changed(port, *(p.url.port for p in proxies)))
        url = await stack.enter_async_context(running_nginx(whole, port))
        session = await stack.enter_async_context(ClientSession())
        yield Site(url, session, proxies, legacy.asked, legacy.heads)


def test_nginx_itself_accepts_the_file(tmp_path: Path) -> None:
    if PROGRAM is None:
        return
    assert checked(configured(tmp_path / "n", SHIPPED, changed(8080, 1, 2))) == ""
    broken = configured(tmp_path / "b", SHIPPED, {"least_conn;": "least_con;"})
    assert "least_con" in checked(broken)


async def test_both_answer_and_share_what_one_has_computed(tmp_path: Path) -> None:
    if PROGRAM is None:
        return
    async with two_behind_nginx(tmp_path) as site:
        said = [await site.ask() for _ in range(20)]
        assert {status for status, _ in said} == {200}
        assert sum("fwd=miss" in cache for _, cache in said) == 1
        assert min(await site.requests()) >= 5


async def test_one_that_dies_is_passed_over(tmp_path: Path) -> None:
    if PROGRAM is None:
        return
    async with two_behind_nginx(tmp_path) as site:
        await site.ask()
        site.proxies[0].kill()
        assert {(await site.ask())[0] for _ in range(20)} == {200}


async def test_what_is_not_ours_passes_both_once_with_the_callers_own_address(
    tmp_path: Path,
) -> None:
    if PROGRAM is None:
        return
    async with two_behind_nginx(tmp_path) as site:
        claimed = {"X-Forwarded-For": "6.6.6.6"}
        async with site.session.post(f"{site.url}/a?b=%20", data=b"x", headers=claimed) as response:
            assert response.status == 200
        assert site.passed == [b"POST /a?b=%20\nx"]
        (head,) = site.heads
        assert "6.6.6.6" not in head
        assert "X-Forwarded-For: 127.0.0.1, 127.0.0.1" in head
