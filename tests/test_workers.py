"""Several workers behind one port, as real processes: what callers and operators notice of them."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from proxy.app_workers import supervise
from proxy.commands.supervising import read_plan
from proxy.workers.post import Times
from tests.proxies import ProxyProcess
from tests.public_port import Caller, calling, make_database, post
from tests.waiting import until

QUESTION = {"start_date": "2024-06-21", "end_date": "2024-06-30"}
ASK = post("/data", orjson.dumps(QUESTION))
A_WHILE_S = 30.0
"""For what follows at once, however busy the machine is."""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("workers") / "daily.db")


class Workers(ProxyProcess):
    """A supervisor with two workers, asked as an operator asks it."""

    def __init__(self, database: Path, folder: Path, **settings: object) -> None:
        super().__init__(
            database, **{"workers": 2, "state": folder / "state.db", "memory_mb": 64, **settings}
        )
        self._headers = {"Authorization": f"Bearer {settings.get('admin_token')}"}

    async def admin(self, path: str, body: object = None) -> Any:
        async with aiohttp.ClientSession(headers=self._headers) as session:
            url = f"{self.admin_url}".rstrip("/") + path
            method = "GET" if body is None else "POST"
            async with session.request(method, url, json=body) as response:
                return await response.json()

    async def workers(self) -> dict[int, Any]:
        """By process id."""
        status = await self.admin("/admin/status")
        return {one["pid"]: one for one in status["workers"]}

    async def requests(self) -> dict[int, int]:
        """Answered so far, by process id."""
        return {pid: one["requests"] for pid, one in (await self.workers()).items()}

    async def counted(self) -> float:
        return await self.metric("proxy_requests_total")

    async def said_so(self, event: str, times: int = 1) -> dict[str, Any]:
        """The log line of that name, once it is there so often."""
        async with asyncio.timeout(A_WHILE_S):
            await until(lambda: len(self.events(event)) >= times)
        return self.events(event)[times - 1]

    async def has_replaced(self, pid: int) -> None:
        """Returns when two serve and that one is none of them."""

        async def states() -> dict[int, str]:
            return {pid: one["state"] for pid, one in (await self.workers()).items()}

        async with asyncio.timeout(A_WHILE_S):
            while pid in (known := await states()) or [*known.values()] != ["serving"] * 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def hang_up(self) -> None:
        os.kill(self.pid, signal.SIGHUP)


@pytest.fixture
async def proxy(database: Path, tmp_path: Path) -> AsyncIterator[Workers]:
    async with Workers(database, tmp_path) as proxy:
        yield proxy


@dataclass
class Load:
    """Callers who ask without a pause and never ask twice, and what became of it."""

    proxy: Workers
    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    is_over: bool = False

    async def keep_asking(self, *, is_fresh: bool) -> None:
        """On one connection until it is closed with a last answer; `is_fresh`: one for each."""
        while not self.is_over:
            try:
                async with calling(self.proxy.url) as caller:
                    while not self.is_over:
                        reply = await caller.ask(ASK)
                        self.answered += 1
                        if reply.status != 200:
                            self.wrong.append(f"status {reply.status}")
                        if is_fresh or reply.headers.get("connection") == "close":
                            break
                        # Both kinds of caller get their turn.
                        await asyncio.sleep(0.003)
            except (OSError, EOFError, ValueError) as error:
                self.wrong.append(repr(error))

    @asynccontextmanager
    async def going_on(self, *, kept: int = 12, fresh: int = 2) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            for number in range(kept + fresh):
                group.create_task(self.keep_asking(is_fresh=number >= kept))
            await until(lambda: self.answered > 100)
            try:
                yield
            finally:
                self.is_over = True


async def connections_of(
    stack: AsyncExitStack, proxy: Workers, each: int
) -> dict[int, list[Caller]]:
    """So many open connections to each worker, by its process id. Each has asked once."""
    found: dict[int, list[Caller]] = {pid: [] for pid in await proxy.workers()}
    while any(len(callers) < each for callers in found.values()):
        before = await proxy.requests()
        caller = await stack.enter_async_context(calling(proxy.url))
        assert (await caller.ask(ASK)).status == 200
        after = await proxy.requests()
        [pid] = [pid for pid in found if after[pid] > before[pid]]
        found[pid].append(caller)
    return found


def is_alive(pid: int) -> bool:
    """Whether the process is there and has not ended; a dead one may wait to be fetched."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def gone(*pids: int) -> None:
    async with asyncio.timeout(A_WHILE_S):
        await until(lambda: not any(is_alive(pid) for pid in pids))


async def test_a_killed_worker_is_replaced_and_the_others_callers_notice_nothing(
    proxy: Workers,
) -> None:
    async with AsyncExitStack() as stack:
        connections = await connections_of(stack, proxy, 2)
        asked = sum(len(callers) for callers in connections.values())
        # Every worker answers on the one port, and what they count adds up.
        assert await proxy.counted() == asked
        victim, survivor = connections
        os.kill(victim, signal.SIGKILL)
        for caller in connections[victim]:
            with pytest.raises((OSError, EOFError)):
                await caller.ask(ASK)
        for _ in range(3):
            for caller in connections[survivor]:
                assert (await caller.ask(ASK)).status == 200
            async with calling(proxy.url) as new:
                assert (await new.ask(ASK)).status == 200
        asked += 3 * (len(connections[survivor]) + 1)

    await proxy.has_replaced(victim)
    # What the dead one had counted when it was last looked at is still counted.
    assert await proxy.counted() == asked
    assert await proxy.metric("proxy_workers") == 2
    assert await proxy.metric("proxy_worker_restarts_total", reason="crash") == 1
    assert (await proxy.said_so("worker_crashed"))["error"] == "it ended with exit code -9"
    assert len(proxy.events("listening")) == 1


async def test_a_rolling_restart_loses_no_request_and_no_count(
    database: Path, tmp_path: Path
) -> None:
    config = tmp_path / "proxy.toml"
    config.write_text("max_range_days = 1000\n")
    async with Workers(database, tmp_path, config=config) as proxy:
        before = set(await proxy.workers())
        config.write_text("max_range_days = 10\n")
        load = Load(proxy)
        async with load.going_on():
            proxy.hang_up()
            await proxy.said_so("rolled")
        assert load.wrong == []
        after = set(await proxy.workers())
        assert len(after) == 2
        assert not before & after
        assert await proxy.counted() == load.answered
        assert await proxy.metric("proxy_worker_restarts_total", reason="rolling") == 2
        assert await proxy.metric("proxy_worker_restarts_total", reason="crash") == 0
        # The file is in force as it is now: eleven days are too many.
        async with AsyncExitStack() as stack:
            eleven = post("/data", orjson.dumps({**QUESTION, "start_date": "2024-06-20"}))
            connections = await connections_of(stack, proxy, 1)
            for caller in [one for callers in connections.values() for one in callers]:
                assert (await caller.ask(eleven)).status == 400
        assert await proxy.end() == 0
    await gone(*before, *after)


async def test_who_looks_on_sees_a_rolling_restart_through(proxy: Workers) -> None:
    async with aiohttp.ClientSession() as session:
        url = proxy.admin_url.with_path("/admin/events")
        async with session.get(url) as response, calling(proxy.url) as caller:
            assert response.content_type == "text/event-stream"

            async def seen(requests: int) -> None:
                async for line in response.content:
                    if line.startswith(b"data: ") and b'"requests"' in line:
                        told = orjson.loads(line.removeprefix(b"data: "))
                        if told["requests"]["total"] >= requests:
                            return
                raise AssertionError("the stream has ended")

            for _ in range(3):
                assert (await caller.ask(ASK)).status == 200
            await seen(3)
            await closed_now(caller)
            proxy.hang_up()
            await proxy.said_so("rolled")
            async with calling(proxy.url) as another:
                assert (await another.ask(ASK)).status == 200
            # Those that are gone are still counted.
            await seen(4)


async def closed_now(caller: Caller) -> None:
    """Close it now, so that nobody waits for it."""
    caller.writer.close()
    await caller.writer.wait_closed()


async def test_settings_that_cannot_be_leave_the_workers_as_they_are(
    database: Path, tmp_path: Path
) -> None:
    config = tmp_path / "proxy.toml"
    config.write_text("rate_mode = 'mean'\n")
    async with Workers(database, tmp_path, config=config) as proxy:
        before = set(await proxy.workers())
        config.write_text("rate_mode = 'median'\n")
        proxy.hang_up()
        refused = await proxy.said_so("reload_refused")
        assert "rate_mode" in str(refused["error"])
        # What only the start of a worker can find out.
        meta = tmp_path / "meta.db"
        meta.write_text("no database" * 1000)
        config.write_text(f"meta_database = '{meta}'\n")
        proxy.hang_up()
        given_up = await proxy.said_so("rolling_given_up")
        assert "meta.db" in str(given_up["error"]) or "database" in str(given_up["error"])
        assert set(await proxy.workers()) == before
        # One that ends now comes back with the settings that are in force, not with those.
        os.kill(min(before), signal.SIGKILL)
        await proxy.has_replaced(min(before))
        assert (await proxy.admin("/health/ready"))["status"] == "ready"


async def test_workers_leave_when_their_supervisor_is_killed(proxy: Workers) -> None:
    pids = set(await proxy.workers())
    async with calling(proxy.url) as caller:
        assert (await caller.ask(ASK)).status == 200
        os.kill(proxy.pid, signal.SIGKILL)
        # It is still answered on the connection that it had, until told that this is the last.
        reply = await caller.ask(ASK)
        while reply.headers.get("connection") != "close":
            assert reply.status == 200
            reply = await caller.ask(ASK)
    await gone(*pids)
    proxy.kill()
    socket.create_server(("127.0.0.1", proxy.url.port or 0)).close()


async def test_what_operators_do_reaches_all_workers_and_is_noted_once(
    database: Path, tmp_path: Path
) -> None:
    config = tmp_path / "proxy.toml"
    config.write_text("[rollout]\nsteps = [10, 100]\ninterval_s = 3600\n")
    settings = {"config": config, "legacy_url": "http://127.0.0.1:9", "admin_token": "s3cret"}
    async with Workers(database, tmp_path, **settings) as proxy, AsyncExitStack() as stack:
        stranger = await stack.enter_async_context(aiohttp.ClientSession())
        async with stranger.get(proxy.admin_url.with_path("/admin/status")) as response:
            assert response.status == 401

        async def held() -> int:
            return int((await proxy.admin("/admin/status"))["cache"]["entries"])

        connections = await connections_of(stack, proxy, 1)
        entries = (await proxy.admin("/admin/cache"))["entries"]
        assert [entry["workers"] for entry in entries] == [2]
        assert await held() == 2
        # Each has its part of the memory, and all together what was given.
        assert (await proxy.admin("/admin/overview"))["cache"]["max_bytes"] == 64 * 2**20
        purged = await proxy.admin("/admin/purge", {"all": True, "reason": "a test"})
        assert purged == {"purged": 2, "is_complete": True}
        assert await held() == 0

        ask = post("/analytics/data", orjson.dumps(QUESTION))
        for percent, side in ((0, "legacy"), (100, "optimized")):
            told = await proxy.admin("/admin/split", {"percent": percent})
            assert told["percent"] == percent
            for caller in [one for callers in connections.values() for one in callers]:
                assert (await caller.ask(ask)).headers["x-dashboard-variant"] == side

        assert (await proxy.admin("/admin/rollout", {"action": "start"}))["state"] == "running"
        await until(lambda: holders(tmp_path / "state.db.guard") == 1)
        audit = (await proxy.admin("/admin/audit"))["entries"]
        assert [entry["action"] for entry in audit][::-1] == [
            "purge",
            "split",
            "split",
            "rollout start",
        ]
        assert {entry["author"] for entry in audit} == {"127.0.0.1"}
        # Also when none of those is there any more who did it.
        await stack.aclose()
        proxy.hang_up()
        await proxy.said_so("rolled")
        assert (await proxy.admin("/admin/audit"))["entries"] == audit
        await until(lambda: holders(tmp_path / "state.db.guard") == 1)


def holders(path: Path) -> int:
    """Processes that have a lock on the file."""
    inode = path.stat().st_ino if path.exists() else 0
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return sum(lock[1] == "FLOCK" and lock[5].endswith(f":{inode}") for lock in locks)


async def test_told_to_stop_amid_a_rolling_restart_it_leaves_nobody_behind(
    proxy: Workers,
) -> None:
    pids = set(await proxy.workers())
    async with AsyncExitStack() as stack:
        await connections_of(stack, proxy, 1)
        proxy.hang_up()
        # One is leaving, which waits for an idle caller; its successor is there.
        await proxy.said_so("worker_draining")
        pids |= set(await proxy.workers())
        assert len(pids) == 3
        os.kill(proxy.pid, signal.SIGTERM)
        os.kill(proxy.pid, signal.SIGTERM)
        assert await proxy.end() == 0
    await gone(*pids)
    assert not proxy.events("worker_crashed")
    assert not proxy.events("worker_killed")


async def test_what_is_under_way_when_it_is_told_to_stop_is_answered(
    database: Path, tmp_path: Path
) -> None:
    came = asyncio.Event()
    go_on = asyncio.Event()

    async def legacy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        came.set()
        await go_on.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async with await asyncio.start_server(legacy, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Workers(database, tmp_path, legacy_url=f"http://127.0.0.1:{port}") as proxy:
            async with calling(proxy.url) as caller:
                caller.send(b"GET /slow HTTP/1.1\r\nHost: dash\r\n\r\n")
                await came.wait()
                os.kill(proxy.pid, signal.SIGTERM)
                await proxy.said_so("stopping", 2)
                go_on.set()
                assert (await caller.reply()).body == b"ok"
            assert await proxy.end() == 0


def test_workers_that_cannot_begin_end_it_as_one_process_would_end(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_text("no database" * 1000)
    environ = {name: text for name, text in os.environ.items() if name[:6] != "PROXY_"}
    environ["PROXY_STATE"] = str(tmp_path / "state.db")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for port in (0, taken.getsockname()[1]):
            ended = []
            for workers in ("1", "2"):
                command = [sys.executable, "-m", "proxy", "serve", "--admin-port", "0"]
                command += ["--database", str(tmp_path / ("none.db" if port else "no.db"))]
                command += ["--port", str(port), "--workers", workers]
                done = subprocess.run(
                    command, env=environ, capture_output=True, text=True, timeout=60
                )
                errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
                ended.append((done.returncode, errors))
            assert ended[0] == ended[1]
            assert ended[0][0] == 2
            assert len(ended[0][1]) == 1


async def test_a_worker_that_hangs_is_ended_and_replaced(database: Path, tmp_path: Path) -> None:
    given = {
        "database": str(database), "state": str(tmp_path / "state.db"), "port": 0, "admin_port": 0,
        "workers": 2,
    }  # fmt: skip
    times = Times(probe_s=0.05, hang_s=2)
    async with supervise(read_plan(None, given), given, times=times) as supervised:
        supervisor = supervised.supervisor
        assert await supervisor.start()
        first = [post.worker.pid for post in supervisor]
        os.kill(first[0], signal.SIGSTOP)
        async with asyncio.timeout(A_WHILE_S):
            await until(lambda: first[0] not in [post.worker.pid for post in supervisor])
            await until(lambda: supervisor.roster.is_complete)
        assert not is_alive(first[0])
        assert first[1] in [post.worker.pid for post in supervisor]
        async with (
            aiohttp.ClientSession() as session,
            session.get(supervised.admin_url / "metrics") as response,
        ):
            assert 'proxy_worker_restarts_total{reason="hang"} 1.0' in await response.text()


def test_a_worker_without_a_supervisor_does_not_even_begin(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.close()
        command = [sys.executable, "-m", "proxy", "worker", "--orders", str(theirs.fileno())]
        ended = subprocess.run(
            command, pass_fds=[theirs.fileno()], capture_output=True, text=True, timeout=60
        )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
