"""Runs `dashboard-proxy` inside the test's own process and keeps what it says."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

from proxy.cli import main
from proxy.settings import variables


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> Ran:
    """`dashboard-proxy` with `words`; it always leaves with an exit code."""
    monkeypatch.setattr(sys, "argv", ["dashboard-proxy", *words])
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        main()
    code = left.value.code
    return Ran(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def forget_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variables():
        monkeypatch.delenv(name, raising=False)
