"""The logs of a whole process: on a terminal, into a pipe, and what nobody catches."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.public_port import make_database

START_S = 60.0
ESCAPE = "\x1b["


class Screen:
    """What a process shows on a terminal of its own."""

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self._shown = b""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until(self, word: str) -> str:
        """What is shown when `word` is; AssertionError when it does not come."""
        with self._news:
            assert self._news.wait_for(lambda: word in self._text(), START_S), self._text()
            return self._text()

    def end(self) -> str:
        """All there was, once the process has gone."""
        self._reader.join(START_S)
        return self._text()

    def _text(self) -> str:
        return self._shown.decode(errors="replace")

    def _read(self) -> None:
        # EIO is how a terminal says that the last one at the other end has left.
        while True:
            try:
                select.select([self._leader], [], [])
                data = os.read(self._leader, 65536)
            except OSError:
                return
            with self._news:
                self._shown += data
                self._news.notify_all()


@contextmanager
def terminal() -> Iterator[tuple[int, Screen]]:
    leader, follower = pty.openpty()
    screen = Screen(leader)
    try:
        yield follower, screen
    finally:
        screen.end()
        os.close(leader)


def serve_on_a_terminal(database: Path, **environ: str) -> str:
    settings = {
        "PROXY_DATABASE": str(database),
        "PROXY_LEGACY_URL": "http://anna:hush@127.0.0.1:1",
        "PROXY_ADMIN_TOKEN": "sesame",
        "PROXY_PORT": "0",
        "PROXY_ADMIN_PORT": "0",
        "PROXY_STATE": str(database.with_name("state.db")),
        "TERM": "xterm",
    }
    kept = {n: v for n, v in os.environ.items() if n not in ("NO_COLOR", "PROXY_LOG_FORMAT")}
    with terminal() as (follower, screen):
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "serve"],
            stdout=subprocess.DEVNULL,
            stderr=follower,
            env={**kept, **settings, **environ},
        )
        os.close(follower)
        try:
            screen.until("listening")
            process.terminate()
            assert process.wait(START_S) == 0
        finally:
            process.kill()
            process.wait()
        return screen.end()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "data.db")


def test_on_a_terminal_the_lines_are_for_people_and_coloured(database: Path) -> None:
    shown = serve_on_a_terminal(database)
    assert ESCAPE in shown
    plain = re.sub("\x1b\\[[0-9;]*m", "", shown)
    first, *_, last = plain.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} info     listening +url=http://127\S+ .*", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} info     stopped", last)
    for secret in ("hush", "sesame"):
        assert secret not in shown


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_who_wants_no_colours_gets_none(database: Path, name: str, value: str) -> None:
    shown = serve_on_a_terminal(database, **{name: value})
    assert ESCAPE not in shown
    assert "listening" in shown


def test_an_empty_no_color_is_none(database: Path) -> None:
    assert ESCAPE in serve_on_a_terminal(database, NO_COLOR="")


def test_json_may_be_had_on_a_terminal_too(database: Path) -> None:
    lines = serve_on_a_terminal(database, PROXY_LOG_FORMAT="json").splitlines()
    assert [json.loads(line)["event"] for line in lines][-1] == "stopped"


UNCAUGHT = """
import sys, threading, warnings
from proxy.logs import configure_logs, log_what_nobody_catches

configure_logs(sys.argv[1], sys.stderr, secrets=["sesame"])
log_what_nobody_catches()
warnings.warn("sesame is old", stacklevel=1)

def fail():
    raise ValueError("sesame in a thread")

thread = threading.Thread(target=fail, name="worker")
thread.start()
thread.join()

class Odd:
    def __del__(self):
        raise KeyError("sesame in a finalizer")

Odd()
raise RuntimeError("sesame at the end")
"""


def fail(log_format: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", UNCAUGHT, log_format],
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    return done.returncode, done.stderr


def test_what_nobody_catches_is_a_line_like_any_other() -> None:
    code, said = fail("json")
    lines = [json.loads(line) for line in said.splitlines()]
    assert code == 1
    assert [(line["level"], line["event"].split(" ")[0].split(":")[0]) for line in lines] == [
        ("warning", "<string>"),
        ("critical", "uncaught_exception"),
        ("error", "unraisable_exception"),
        ("critical", "uncaught_exception"),
    ]
    assert "UserWarning: *** is old" in lines[0]["event"]
    assert lines[1]["thread"] == "worker"
    assert lines[3]["exception"].endswith("RuntimeError: *** at the end")
    assert "sesame" not in said


def test_a_person_reads_tracebacks_below_the_line() -> None:
    _, said = fail("human")
    assert ESCAPE not in said
    assert "sesame" not in said
    lines = said.splitlines()
    [end] = [n for n, line in enumerate(lines) if "uncaught exception" in line and n > 10]
    assert lines[end + 1] == "    Traceback (most recent call last):"
    assert lines[-1] == "    RuntimeError: *** at the end"
