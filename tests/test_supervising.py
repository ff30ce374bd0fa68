"""What a SIGHUP means, and what a process that supervises is started with."""

import os
import signal
from pathlib import Path

import pytest

from proxy.commands.supervising import Terminal, read_plan
from proxy.errors import SettingsError
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
