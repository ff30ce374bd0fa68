"""The command line as a newcomer and a script meet it: help, one-line errors, exit codes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import IO
from urllib.request import urlopen

import pytest

from proxy import __version__
from proxy.demo.data import Size, make_demo
from tests.command_line import Ran, forget_variables, run

TINY = Size(campaigns=1, adsets=1, ads=2, days=3)
END = date(2024, 3, 31)

Cli = Callable[..., Ran]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Cli:
    forget_variables(monkeypatch)
    return lambda *words: run(monkeypatch, *map(str, words))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "daily.db"
    make_demo(path, None, size=TINY, end=END)
    return path


@pytest.fixture
def taken_port() -> Iterator[int]:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def proxy_process(*words: str | Path) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PROXY_")}
    return subprocess.Popen(
        [sys.executable, "-m", "proxy", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    )


def event(lines: IO[str] | None, name: str) -> dict[str, str]:
    """The first log line of that name."""
    assert lines is not None
    for line in lines:
        if json.loads(line)["event"] == name:
            return dict(json.loads(line))
    raise AssertionError(f"no line says {name}")


def test_help_names_every_command_and_the_exit_codes(cli: Cli) -> None:
    ran = cli("--help")
    assert ran.code == 0
    for command in ("serve", "check-db", "demo"):
        assert f"{command} " in ran.out
    assert "Exit codes: 0 done, 1 a check failed, 2 bad usage" in ran.out


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("serve", ["--database", "--legacy-url", "--redis-url", "--config", "--port"]),
        ("check-db", ["--database", "--meta-database", "--config", "--json", "--verbose"]),
        ("demo", ["--size", "--folder", "--once", "--interval"]),
    ],
)
def test_help_of_a_command_explains_each_option(cli: Cli, command: str, options: list[str]) -> None:
    ran = cli(command, "--help")
    assert ran.code == 0
    for option in options:
        assert option in ran.out


def test_it_says_its_version(cli: Cli) -> None:
    ran = cli("--version")
    assert (ran.code, ran.out) == (0, f"dashboard-proxy {__version__}\n")


def test_without_a_command_it_shows_the_help(cli: Cli) -> None:
    ran = cli()
    assert ran.code == 2
    assert "check-db" in ran.out


@pytest.mark.parametrize("words", [["nope"], ["serve", "--nope"], ["serve", "--port", "x"]])
def test_an_unknown_command_or_option_is_bad_usage(cli: Cli, words: list[str]) -> None:
    ran = cli(*words)
    assert ran.code == 2
    assert words[-1] in ran.err or "--port" in ran.err
    assert "Traceback" not in ran.err


def test_serve_without_a_database_names_the_variable(cli: Cli) -> None:
    ran = cli("serve")
    assert ran.code == 2
    assert ran.err.startswith("error: PROXY_DATABASE is required")
    assert len(ran.err.splitlines()) == 1


def test_serve_names_the_setting_that_cannot_be(cli: Cli, database: Path) -> None:
    ran = cli("serve", "--database", database, "--port", "70000")
    assert ran.code == 2
    assert "--port is 70000" in ran.err


def test_serve_names_what_the_database_lacks(cli: Cli, tmp_path: Path) -> None:
    meta = tmp_path / "meta.db"
    make_demo(tmp_path / "daily.db", meta, size=TINY, end=END)
    ran = cli("serve", "--database", meta, "--port", "0", "--admin-port", "0")
    assert ran.code == 2
    assert "lacks the required table daily_mixpanel_metrics" in ran.err


def test_serve_does_not_start_on_a_file_that_is_no_database(cli: Cli, tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("no database " * 500)
    ran = cli("serve", "--database", text, "--port", "0", "--admin-port", "0")
    assert ran.code == 2
    assert "not a database" in ran.err


@pytest.mark.parametrize(
    ("option", "variable"), [("--port", "PROXY_PORT"), ("--admin-port", "PROXY_ADMIN_PORT")]
)
def test_a_port_in_use_is_told_with_its_number(
    database: Path, taken_port: int, option: str, variable: str
) -> None:
    other = "--admin-port" if option == "--port" else "--port"
    ports = (option, str(taken_port), other, "0")
    with proxy_process("serve", "--database", database, *ports) as process:
        _, err = process.communicate()
    assert process.returncode == 2
    [line] = [line for line in err.splitlines() if line.startswith("error:")]
    assert f":{taken_port} " in line
    assert variable in line
    assert "address already in use" in line
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_answers_until_it_is_told_to_stop(database: Path, number: signal.Signals) -> None:
    ports = ("--port", "0", "--admin-port", "0")
    with proxy_process("serve", "--database", database, *ports) as process:
        try:
            listening = event(process.stderr, "listening")
            question = f"/data?start_date={END}&end_date={END}"
            with urlopen(f"{listening['url']}{question}") as response:
                assert json.load(response)["success"] is True
            with urlopen(f"{listening['admin']}/health/live") as response:
                assert response.status == 200
            process.send_signal(number)
            event(process.stderr, "stopped")
            process.communicate()
        finally:
            process.kill()
    assert process.returncode == 0
