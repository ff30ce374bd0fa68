"""The demo as a newcomer runs it: real processes, three requests, nothing left behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from proxy.demo.show import without_settings
from tests.command_line import forget_variables, run

WAITS = "Ctrl-C stops everything"


@contextmanager
def demo(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy", "demo", "--folder", str(folder), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A variable of the caller that would stop the demo if it were believed.
        env={**os.environ, "PROXY_REDIS_URL": "redis://127.0.0.1:1/0", "COLUMNS": "120"},
    )
    with process:
        try:
            yield process
        finally:
            # Not killed: it stops its children itself.
            process.terminate()


def said_until(process: subprocess.Popen[str], text: str) -> str:
    """All lines up to the one with `text` in it."""
    said = ""
    for line in process.stdout or ():
        said += line
        if text in line:
            return said
    raise AssertionError(f"{text!r} was never said: {said}")


def children_of(folder: Path) -> list[psutil.Process]:
    """The demo's processes that still run: each has the folder in its arguments."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in process.info["cmdline"] or ())
    ]


def child(folder: Path, word: str) -> psutil.Process:
    [found] = [p for p in children_of(folder) if word in p.cmdline()]
    return found


def test_once_shows_three_requests_and_leaves_nothing_running(tmp_path: Path) -> None:
    with demo(tmp_path, "--once") as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    cells = [re.split(r"\s*[│|]\s*", line)[1:-1] for line in out.splitlines() if "│" in line]
    rows = {row[0]: row[1:] for row in cells}
    assert list(rows) == ["a miss", "a hit", "the legacy's own"]
    assert [row[1] for row in rows.values()] == ["fwd=miss; stored", "hit", "-"]
    for where, source in (("a miss", "the proxy"), ("the legacy's own", "the legacy")):
        assert rows[where][0] == source
    for row in rows.values():
        assert float(row[3]) > 0
    assert rows["a hit"][4].endswith("x")
    assert children_of(tmp_path) == []


def test_it_says_where_to_look(tmp_path: Path) -> None:
    with demo(tmp_path, "--once") as process:
        out, _ = process.communicate()
    url = r"http://127\.0\.0\.1:\d+"
    assert re.search(rf"dashboard +{url}/ ", out)
    assert re.search(rf"health +{url}/health/ready\n", out)
    assert re.search(rf"metrics +{url}/metrics\n", out)
    assert re.search(rf"legacy +{url}/ ", out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_goes_on_until_told_to_stop_and_then_stops_everything(
    tmp_path: Path, number: signal.Signals
) -> None:
    with demo(tmp_path) as process:
        said_until(process, WAITS)
        assert len(children_of(tmp_path)) == 4
        process.send_signal(number)
        process.communicate()
    assert process.returncode == 0
    assert children_of(tmp_path) == []


def test_it_shows_that_a_run_of_the_pipeline_leaves_older_answers_cached(tmp_path: Path) -> None:
    with demo(tmp_path, "--interval", "1") as process:
        said_until(process, WAITS)
        # The warm-up may have been quicker than the demo's own question: then it is a hit again.
        line = said_until(process, "read again").splitlines()[-1]
    assert "rewritten" in line
    recent, older = re.findall(r"read again|still a hit", line)
    assert (recent, older) == ("read again", "still a hit")


def test_a_part_that_dies_ends_the_demo_with_one_clear_line(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        said_until(process, WAITS)
        child(tmp_path, "proxy.demo.pipeline").kill()
        _, err = process.communicate()
    assert process.returncode == 1
    [line] = err.splitlines()
    assert line.startswith("error: the demo's pipeline has stopped")
    assert children_of(tmp_path) == []


def test_nothing_outlives_a_demo_that_is_killed(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        said_until(process, WAITS)
        running = [p for p in children_of(tmp_path) if p.pid != process.pid]
        assert len(running) == 3
        process.kill()
        process.communicate()
    _, left = psutil.wait_procs(running, timeout=30)
    assert left == []


def test_a_folder_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_variables(monkeypatch)
    file = tmp_path / "file"
    file.touch()
    ran = run(monkeypatch, "demo", "--folder", str(file / "under"))
    assert ran.code == 2
    assert "cannot write there" in ran.err


def test_the_callers_own_settings_are_left_out() -> None:
    assert without_settings({"PROXY_PORT": "1", "PATH": "/bin"}) == {"PATH": "/bin"}
