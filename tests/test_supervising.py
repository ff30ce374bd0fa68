"""What a SIGHUP means, and what a process that supervises is started with."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from proxy.app import run_proxy
from proxy.app_workers import supervise
from proxy.commands.supervising import read_plan
from proxy.errors import SettingsError
from proxy.hang_up import EarlyHangUp, Terminal
from tests.proxies import ProxyProcess
from tests.public_port import ask, make_database, post
from tests.waiting import until


def test_a_terminal_that_was_closed_is_told_from_none() -> None:
    ours, theirs = os.openpty()
    nothing = os.open(os.devnull, os.O_RDONLY)
    terminals = [Terminal(theirs), Terminal(nothing)]
    before = [terminal.is_gone for terminal in terminals]
    os.close(ours)
    after = [terminal.is_gone for terminal in terminals]
    assert (before, after) == ([False, False], [True, False])
    os.close(theirs)
    os.close(nothing)


def test_a_plan_has_the_file_as_it_was_read(tmp_path: Path) -> None:
    config = tmp_path / "proxy.toml"
    config.write_text("workers = 3\n")
    plan = read_plan(config, {"port": 1})
    config.write_text("workers = 4\n")
    assert (plan.config, plan.text) == (str(config), "workers = 3\n")
    assert (plan.settings.workers, plan.settings.port) == (3, 1)
    assert plan.settings.state == tmp_path / "proxy-state.db"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read_plan(tmp_path / "none.toml", {})


async def test_one_process_alone_has_nothing_to_reload_and_goes_on(tmp_path: Path) -> None:
    async with ProxyProcess(make_database(tmp_path / "daily.db")) as proxy:
        os.kill(proxy.pid, signal.SIGHUP)
        await until(lambda: len(proxy.events("nothing_to_reload")) == 1)
        question = b'{"start_date": "2024-06-21", "end_date": "2024-06-30"}'
        assert (await ask(proxy.url, post("/data", question))).status == 200
        assert await proxy.end() == 0


def test_a_hang_up_is_remembered_unless_it_means_what_it_has_always_meant() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    early = EarlyHangUp(Terminal(nothing))
    before = early.has_come
    early(signal.SIGHUP, None)
    assert (before, early.has_come) == (False, True)
    os.close(nothing)
    script = """
import os, signal
from proxy.hang_up import EarlyHangUp, Terminal
ours, theirs = os.openpty()
signal.signal(signal.SIGHUP, EarlyHangUp(Terminal(theirs)))
signal.raise_signal(signal.SIGHUP)
print("still here", flush=True)
os.close(ours)
signal.raise_signal(signal.SIGHUP)
print("too long", flush=True)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout, ended.returncode) == ("still here\n", -signal.SIGHUP)


class Hurried(ProxyProcess):
    """Gets a SIGHUP as soon as it has begun to import what it needs."""

    def _listen_to(self, process: "subprocess.Popen[str]") -> None:
        while "pydantic_core" not in Path(f"/proc/{process.pid}/maps").read_text():
            assert process.poll() is None
        os.kill(process.pid, signal.SIGHUP)
        super()._listen_to(process)


@pytest.mark.parametrize(("workers", "event"), [(1, "nothing_to_reload"), (2, "rolled")])
async def test_a_hang_up_amid_the_start_ends_nothing_and_is_not_forgotten(
    tmp_path: Path, workers: int, event: str
) -> None:
    async with Hurried(make_database(tmp_path / "daily.db"), workers=workers) as proxy:
        async with asyncio.timeout(30):
            await until(lambda: len(proxy.events(event)) == 1)
        assert await proxy.end() == 0


def test_a_hang_up_before_the_first_line_is_made_good_by_systemd() -> None:
    unit = Path(__file__).parent.parent / "deploy" / "systemd" / "dashboard-proxy.service"
    assert "RestartForceExitStatus=SIGHUP" in unit.read_text().splitlines()


async def test_after_a_reload_neither_the_old_token_nor_the_new_one_is_logged(
    tmp_path: Path,
) -> None:
    config = tmp_path / "proxy.toml"
    config.write_text("admin_token = 'the-first'\n")
    meta = tmp_path / "meta.db"
    meta.write_text("no database" * 1000)
    database = make_database(tmp_path / "the-first-and-the-second.db")
    async with ProxyProcess(database, config=config, workers=2) as proxy:
        config.write_text(f"admin_token = 'the-second'\nmeta_database = '{meta}'\n")
        os.kill(proxy.pid, signal.SIGHUP)
        async with asyncio.timeout(30):
            await until(lambda: len(proxy.events("rolling_given_up")) == 1)
        [told] = proxy.events("rolling_given_up")
        assert str(told["error"]).startswith(f"{tmp_path}/***-and-***.db: ")
        assert await proxy.end() == 0


@pytest.mark.parametrize("host", ["a" * 70, "a..b", "[::1]", "a b"])
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_host_that_cannot_be_is_told_by_its_variable(
    tmp_path: Path, workers: int, host: str
) -> None:
    given = {
        "database": str(make_database(tmp_path / "daily.db")), "state": str(tmp_path / "state.db"),
        "host": host, "port": 0, "admin_port": 0, "workers": workers,
    }  # fmt: skip
    plan = read_plan(None, given)
    running = run_proxy(plan.settings) if workers == 1 else supervise(plan, given)
    with pytest.raises(SettingsError, match=r"cannot listen on .* \(PROXY_HOST, PROXY_PORT\): "):
        async with running:
            raise AssertionError("it listens")


async def test_who_looks_on_does_not_hold_up_the_leaving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.app_workers._LAST_WORDS_S", 1000.0)
    given = {"database": str(tmp_path / "none.db"), "port": 0, "admin_port": 0, "workers": 2}
    async with aiohttp.ClientSession() as session:
        async with asyncio.timeout(20):
            async with supervise(read_plan(None, given), given) as supervised:
                response = await session.get(supervised.admin_url / "admin/events")
                assert response.content_type == "text/event-stream"
            assert await response.content.read() == b""
