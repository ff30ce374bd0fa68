"""Programs that tests run: found where they are, missed where they have to be."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.programs import program

TOOLS = Path(__file__).parent.parent / ".ci" / "tools"


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
    monkeypatch.delenv("TESTS_REQUIRE", raising=False)
    assert program("no-such-program") is None
    monkeypatch.setenv("TESTS_REQUIRE", "nginx no-such-program")
    with pytest.raises(AssertionError, match="no-such-program is not there"):
        program("no-such-program")


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
