"""Programs that tests run: found where they are, missed where they have to be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import programs
from tests.programs import program

ROOT = Path(__file__).parent.parent
TOOLS = ROOT / ".ci" / "tools"


def test_a_program_is_found_also_where_the_path_does_not_lead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program("env") == "/usr/bin/env"
    own = tmp_path / "own"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert program("own") == str(own)


def test_one_that_is_not_there_fails_only_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(programs, "MISSED", set())
    monkeypatch.delenv("TESTS_REQUIRE", raising=False)
    assert program("no-such-program") is None
    monkeypatch.setenv("TESTS_REQUIRE", "nginx no-such-program")
    with pytest.raises(AssertionError, match="no-such-program is not there"):
        program("no-such-program")


@pytest.mark.parametrize("spread", [[], ["-n", "2"]], ids=["in one process", "in two"])
def test_a_run_says_in_the_end_what_it_did_without(tmp_path: Path, spread: list[str]) -> None:
    test = tmp_path / "test_it.py"
    lines = ["from tests.programs import program"]
    for name in ("env", "no-such-program", "nor-this", "no-such-program"):
        lines += [f"def test_{len(lines)}():", f"    program({name!r})"]
    test.write_text("\n".join(lines))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "tests.conftest",
            "-p",
            "no:cacheprovider",
            *spread,
            test,
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "TESTS_REQUIRE"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "not on this machine: no-such-program, nor-this. See" in done.stdout
    assert "4 passed" in done.stdout


def tools(folder: Path, *wanted: str) -> subprocess.CompletedProcess[str]:
    """What .ci/tools does for a user who is not root and may not become it."""
    for name, does in (
        ("id", "echo 1000"),
        ("sudo", "exit 1"),
        ("apt-get", 'touch "$(dirname "$0")/asked"'),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    return subprocess.run(
        [TOOLS, *wanted],
        env={**os.environ, "PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_there_is_not_installed(tmp_path: Path) -> None:
    done = tools(tmp_path, "env:coreutils", "bash:bash")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "asked").exists()


def test_what_cannot_be_had_is_named_with_what_would_bring_it(tmp_path: Path) -> None:
    done = tools(tmp_path, "env:coreutils", "no-such-one:a-package", "nor-this:another")
    assert done.returncode == 1
    assert "could not be installed: no-such-one nor-this\n" in done.stderr
    assert "apt-get install --no-install-recommends a-package another\n" in done.stderr
    assert not (tmp_path / "asked").exists()
