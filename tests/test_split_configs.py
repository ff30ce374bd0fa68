"""The examples for those who split in front of the proxy: nginx, read and run, and Envoy, read.

nginx itself runs where the machine has it, beside the checks that always run.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import crossplane
import pytest
import yaml
from aiohttp import ClientSession, web

from proxy.app_listening import _KEEPALIVE_S
from proxy.demo.show import LEGACY_PORT
from proxy.settings import Settings
from tests.nginx import checked, configured, running_nginx, unused_port
from tests.programs import program

DEPLOY = Path(__file__).parent.parent / "deploy"
NGINX = DEPLOY / "nginx-split.conf"
ENVOY: dict[str, Any] = yaml.safe_load((DEPLOY / "envoy-split.yaml").read_text())
QUESTIONS = "/api/dashboard/analytics/data"
PROGRAM = program("nginx")
DATA_BLOCKS = ("map", "split_clients")
"""Blocks of nginx whose lines are no directives."""


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


# nginx, read


def parsed(path: Path, folder: Path) -> list[dict[str, Any]]:
    """The directives of `path` as nginx reads them inside http. Raises AssertionError."""
    whole = folder / "nginx.conf"
    whole.write_text(f"events {{}}\nhttp {{ include {path}; }}\n")
    lenient = crossplane.parse(str(whole))
    assert lenient["errors"] == []
    found: list[dict[str, Any]] = lenient["config"][1]["parsed"]
    data = {line["line"] for one in blocks(found, *DATA_BLOCKS) for line in one["block"]}
    unknown = crossplane.parse(str(whole), strict=True)["errors"]
    assert [error for error in unknown if error["line"] not in data] == []
    return found


def blocks(directives: list[dict[str, Any]], *names: str) -> Iterator[dict[str, Any]]:
    for one in directives:
        if one["directive"] in names:
            yield one
        yield from blocks(one.get("block", []), *names)


def values(directives: list[dict[str, Any]], name: str) -> list[list[str]]:
    return [one["args"] for one in directives if one["directive"] == name]


@pytest.fixture
def directives(tmp_path: Path) -> list[dict[str, Any]]:
    return parsed(NGINX, tmp_path)


@pytest.fixture
def server(directives: list[dict[str, Any]]) -> list[dict[str, Any]]:
    (found,) = [one["block"] for one in directives if one["directive"] == "server"]
    return list(found)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("proxy_next_upstream_tries 2;", "proxy_next_upstream_tries;"),
        ("keepalive 32;", "keep_alive 32;"),
        ("client_max_body_size 0;", "split_clients a $b { * c; }"),
        ("add_header X-Dashboard-Split", "add_header X-Dashboard-Split {"),
    ],
)
def test_a_mistake_in_the_file_would_be_seen(tmp_path: Path, right: str, wrong: str) -> None:
    text = NGINX.read_text()
    assert right in text
    broken = tmp_path / "broken.conf"
    broken.write_text(text.replace(right, wrong, 1))
    with pytest.raises(AssertionError):
        parsed(broken, tmp_path)


def test_the_share_is_drawn_with_a_salt_from_what_tells_callers_apart(
    directives: list[dict[str, Any]],
) -> None:
    (split,) = blocks(directives, "split_clients")
    drawn, side = split["args"]
    assert re.fullmatch(r"\w[\w-]*:\$split_caller", drawn)
    (caller,) = [one for one in blocks(directives, "map") if one["args"][1] == "$split_caller"]
    assert caller["args"][0] == "$cookie_session"
    by = {line["directive"]: line["args"] for line in caller["block"]}
    assert by == {"default": ["$cookie_session"], "": ["$remote_addr"]}
    assert side == "$split_side"


def test_the_proxys_share_comes_first_so_that_a_higher_one_moves_nobody_back(
    directives: list[dict[str, Any]],
) -> None:
    (split,) = blocks(directives, "split_clients")
    first, rest = split["block"]
    assert re.fullmatch(r"[\d.]+%", first["directive"])
    assert first["args"] == ["split_proxy"]
    assert (rest["directive"], rest["args"]) == ("*", ["split_legacy"])


def test_only_questions_are_split_and_all_else_is_the_legacys(
    server: list[dict[str, Any]],
) -> None:
    goes = {
        " ".join(one["args"]): values(one["block"], "proxy_pass")[0][0]
        for one in server
        if one["directive"] == "location"
    }
    assert goes == {
        f"= {QUESTIONS}": "http://$split_side",
        "/": "http://split_legacy",
        "/socket.io/": "http://split_legacy",
    }


def test_the_upstreams_are_where_proxy_and_legacy_are_by_default(
    directives: list[dict[str, Any]],
) -> None:
    upstreams = {one["args"][0]: one["block"] for one in blocks(directives, "upstream")}
    proxy, standing_in = values(upstreams["split_proxy"], "server")
    assert proxy[0] == f"127.0.0.1:{Settings().port}"
    assert standing_in == [f"127.0.0.1:{LEGACY_PORT}", "backup"]
    assert values(upstreams["split_legacy"], "server") == [[f"127.0.0.1:{LEGACY_PORT}"]]
    for block in upstreams.values():
        assert int(values(block, "keepalive")[0][0]) > 0
        assert seconds(values(block, "keepalive_timeout")[0][0]) < _KEEPALIVE_S


def test_only_a_question_may_be_sent_twice(server: list[dict[str, Any]]) -> None:
    assert values(server, "proxy_next_upstream") == [["off"]]
    again = {
        " ".join(one["args"]): values(one["block"], "proxy_next_upstream")
        for one in server
        if one["directive"] == "location"
    }
    assert again == {
        f"= {QUESTIONS}": [["error", "timeout", "non_idempotent"]],
        "/": [],
        "/socket.io/": [],
    }


def test_headers_and_time_limits_are_those_that_the_proxy_needs(
    server: list[dict[str, Any]],
) -> None:
    headers = dict(values(server, "proxy_set_header"))
    assert headers["Host"] == "$host"
    assert headers["X-Forwarded-For"] == "$remote_addr"
    assert headers["Connection"] == "$split_connection"
    # One of a location's own would hide all of them.
    assert [words for one in blocks(server, "location") for words in one["block"]
            if words["directive"] == "proxy_set_header"] == []  # fmt: skip
    assert seconds(values(server, "proxy_read_timeout")[0][0]) > Settings().legacy_timeout_s


# nginx, run


@dataclass
class Upstream:
    """Notes what reaches it, and can be told to hang up instead of answering."""

    name: str
    port: int = 0
    is_hanging_up: bool = False
    seen: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    peers: set[Any] = field(default_factory=set)

    async def answer(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        self.seen.append(request)
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        if self.is_hanging_up:
            request.transport.abort()
        return web.json_response({"from": self.name})

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", port)
            await site.start()
            self.port = runner.addresses[0][1]
            yield
        finally:
            await runner.cleanup()


@dataclass
class Split:
    """A running nginx with the shipped file, its ports and percent replaced."""

    url: str
    session: ClientSession
    proxy: Upstream
    legacy: Upstream

    async def ask(self, caller: str | None, path: str = QUESTIONS, **more: Any) -> tuple[str, Any]:
        """Who answered, and the side that nginx had drawn for the caller."""
        headers = {**more.pop("headers", {}), "Host": "dashboard.example.com"}
        if caller is not None:
            headers["Cookie"] = f"session={caller}"
        async with self.session.post(self.url + path, headers=headers, **more) as response:
            assert response.status == 200
            told = await response.json()
            return told["from"], response.headers.get("X-Dashboard-Split")

    async def sides(self, callers: range) -> list[str]:
        return [(await self.ask(f"caller-{n}"))[0] for n in callers]


def changed(listening: int, share: str, proxy: int, legacy: int) -> dict[str, str]:
    """What is another in a test: its ports and its share."""
    return {
        "listen 80;": f"listen 127.0.0.1:{listening};",
        f"127.0.0.1:{Settings().port}": f"127.0.0.1:{proxy}",
        f"127.0.0.1:{LEGACY_PORT}": f"127.0.0.1:{legacy}",
        "10%     split_proxy;": share,
    }


@asynccontextmanager
async def nginx(folder: Path, share: str, proxy: Upstream, legacy: Upstream) -> AsyncIterator[str]:
    listening = unused_port()
    whole = configured(folder, NGINX, changed(listening, share, proxy.port, legacy.port))
    async with running_nginx(whole, listening) as url:
        yield url


@asynccontextmanager
async def split_by(folder: Path, share: str) -> AsyncIterator[Split]:
    async with AsyncExitStack() as stack:
        proxy, legacy = Upstream("proxy"), Upstream("legacy")
        await stack.enter_async_context(proxy.listening())
        await stack.enter_async_context(legacy.listening())
        url = await stack.enter_async_context(nginx(folder, share, proxy, legacy))
        session = await stack.enter_async_context(ClientSession())
        yield Split(url, session, proxy, legacy)


def test_nginx_itself_accepts_the_file(tmp_path: Path) -> None:
    if PROGRAM is None:
        return
    whole = configured(tmp_path / "n", NGINX, changed(8080, "10% split_proxy;", 1, 2))
    assert checked(whole) == ""


async def test_nginx_gives_each_caller_one_side_and_a_higher_share_moves_nobody_back(
    tmp_path: Path,
) -> None:
    if PROGRAM is None:
        return
    callers = range(2000)
    before: set[int] = set()
    for percent in (10, 50):
        async with split_by(tmp_path / str(percent), f"{percent}% split_proxy;") as split:
            sides = await split.sides(callers)
            assert abs(Counter(sides)["proxy"] / len(callers) * 100 - percent) < 2.5
            assert await split.sides(range(50)) == sides[:50]
            now = {n for n in callers if sides[n] == "proxy"}
            assert before <= now
            before = now


async def test_nginx_sends_all_but_questions_to_the_legacy(tmp_path: Path) -> None:
    if PROGRAM is None:
        return
    async with split_by(tmp_path / "none", "") as split:
        assert {who for who in await split.sides(range(20))} == {"legacy"}  # noqa: C416
    async with split_by(tmp_path / "all", "99.99% split_proxy;") as split:
        assert await split.ask("a", data=b"{}") == ("proxy", "split_proxy")
        for path in ("/", "/socket.io/?EIO=4", f"{QUESTIONS}/more", "/api/dashboard/analytics"):
            assert await split.ask("a", path) == ("legacy", None)


async def test_nginx_sends_a_request_on_as_it_came(tmp_path: Path) -> None:
    if PROGRAM is None:
        return
    async with split_by(tmp_path / "n", "99.99% split_proxy;") as split:
        claimed = {"X-Forwarded-For": "6.6.6.6"}
        await split.ask("a", f"{QUESTIONS}?a=%20b&c", headers=claimed, data=b'{"depth": 1}')
        (request,) = split.proxy.seen
        assert request.raw_path == f"{QUESTIONS}?a=%20b&c"
        assert split.proxy.bodies == [b'{"depth": 1}']
        assert request.headers["Host"] == "dashboard.example.com"
        assert request.headers["X-Forwarded-For"] == "127.0.0.1"
        assert request.cookies == {"session": "a"}
        assert "Connection" not in request.headers


async def test_nginx_keeps_its_connection_to_the_proxy(tmp_path: Path) -> None:
    if PROGRAM is None:
        return
    async with split_by(tmp_path / "n", "99.99% split_proxy;") as split:
        for _ in range(5):
            await split.ask("a")
        assert len(split.proxy.peers) == 1


async def test_nginx_lets_the_legacy_stand_in_and_goes_back(tmp_path: Path) -> None:
    if PROGRAM is None:
        return
    async with AsyncExitStack() as stack:
        proxy, legacy = Upstream("proxy", unused_port()), Upstream("legacy")
        await stack.enter_async_context(legacy.listening())
        share = "99.99% split_proxy;"
        url = await stack.enter_async_context(nginx(tmp_path / "n", share, proxy, legacy))
        session = await stack.enter_async_context(ClientSession())
        split = Split(url, session, proxy, legacy)
        # Once only: a second failure would have it left alone for five seconds.
        assert await split.ask("a", data=b"{}") == ("legacy", "split_proxy")
        await stack.enter_async_context(proxy.listening(proxy.port))
        assert await split.ask("a", data=b"{}") == ("proxy", "split_proxy")


async def test_nginx_puts_a_question_that_was_hung_up_on_to_the_legacy(tmp_path: Path) -> None:
    if PROGRAM is None:
        return
    async with split_by(tmp_path / "n", "99.99% split_proxy;") as split:
        split.proxy.is_hanging_up = True
        assert await split.ask("a", data=b'{"depth": 1}') == ("legacy", "split_proxy")
        assert split.legacy.bodies == [b'{"depth": 1}']


# Envoy, read


def found_in(tree: Any, name: str) -> Iterator[Any]:
    """All values under the key `name`, at any depth."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key == name:
                yield value
            yield from found_in(value, name)
    elif isinstance(tree, list):
        for one in tree:
            yield from found_in(one, name)


def routes() -> list[dict[str, Any]]:
    (hosts,) = found_in(ENVOY, "virtual_hosts")
    (host,) = hosts
    listed: list[dict[str, Any]] = host["routes"]
    return listed


def clusters() -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in ENVOY["static_resources"]["clusters"]}


def ports(cluster: dict[str, Any]) -> list[tuple[int, int]]:
    """Priority and port of each endpoint."""
    return [
        (group.get("priority", 0), address["port_value"])
        for group in cluster["load_assignment"]["endpoints"]
        for address in found_in(group, "socket_address")
    ]


def test_envoy_knows_every_cluster_that_a_route_names() -> None:
    named = {one["route"]["cluster"] for one in routes() if "cluster" in one["route"]}
    weighted = {one["name"] for one in routes()[0]["route"]["weighted_clusters"]["clusters"]}
    assert named | weighted == set(clusters())
    for name, cluster in clusters().items():
        assert cluster["load_assignment"]["cluster_name"] == name


def test_envoy_splits_questions_only_by_weights_that_add_up() -> None:
    assert [one["match"] for one in routes()] == [
        {"path": QUESTIONS},
        {"prefix": "/socket.io/"},
        {"prefix": "/"},
    ]
    split = routes()[0]["route"]["weighted_clusters"]["clusters"]
    assert sum(one["weight"] for one in split) == 100
    assert [one["name"] for one in split] == ["dashboard_proxy", "dashboard_legacy"]
    assert {one["route"]["cluster"] for one in routes()[1:]} == {"dashboard_legacy"}


def test_envoy_draws_the_side_from_the_caller() -> None:
    route = routes()[0]["route"]
    assert route["weighted_clusters"]["use_hash_policy"] is True
    cookie, address = route["hash_policy"]
    # Terminal: a caller with a cookie keeps the side when the address is another.
    assert cookie == {"cookie": {"name": "session"}, "terminal": True}
    assert address == {"connection_properties": {"source_ip": True}}


def test_envoy_reaches_proxy_and_legacy_where_they_are_by_default() -> None:
    assert ports(clusters()["dashboard_proxy"]) == [(0, Settings().port), (1, LEGACY_PORT)]
    assert ports(clusters()["dashboard_legacy"]) == [(0, LEGACY_PORT)]
    admin = ENVOY["admin"]["address"]["socket_address"]
    assert admin["address"] == "127.0.0.1"
    assert admin["port_value"] not in (Settings().port, Settings().admin_port, LEGACY_PORT)


def test_envoy_lets_the_legacy_stand_in_for_a_proxy_that_cannot_be_reached() -> None:
    proxy = clusters()["dashboard_proxy"]
    assert proxy["outlier_detection"]["max_ejection_percent"] == 100
    assert proxy["outlier_detection"]["split_external_local_origin_errors"] is True
    assert proxy["outlier_detection"]["enforcing_consecutive_5xx"] == 0
    assert proxy["common_lb_config"] == {"healthy_panic_threshold": {"value": 0}}
    retry = routes()[0]["route"]["retry_policy"]
    assert retry["num_retries"] == 1
    assert retry["retry_priority"]["name"] == "envoy.retry_priorities.previous_priorities"
    # What changes something is sent once.
    assert [one for one in routes()[1:] if "retry_policy" in one["route"]] == []


def test_envoy_has_the_time_limits_that_the_proxy_needs() -> None:
    assert seconds(routes()[0]["route"]["timeout"]) > Settings().legacy_timeout_s
    # Without one Envoy ends every request after 15 s.
    assert all("timeout" in one["route"] for one in routes())
    (idle,) = found_in(clusters()["dashboard_proxy"], "common_http_protocol_options")
    assert seconds(idle["idle_timeout"]) < _KEEPALIVE_S


@pytest.mark.parametrize("name", ["nginx-split.conf", "envoy-split.yaml"])
def test_the_admin_port_is_not_named(name: str) -> None:
    assert str(Settings().admin_port) not in (DEPLOY / name).read_text()
