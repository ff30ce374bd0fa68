"""The pipeline's side of a database, in a process of its own.

Two copies of SQLite in one process (Python's and apsw's) break each other's
file locks: what a test writes beside a running reader is written from here.
"""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from proxy.demo.pipeline import empty, refill, run_pipeline

ROOT = Path(__file__).parent.parent


class Writer:
    """Every call has happened when it returns. What goes wrong there raises here."""

    def __init__(self, database: Path) -> None:
        self.database = database
        command = [sys.executable, "-m", "tests.writer", str(database)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def sql(self, *statements: str) -> list[list[Any]]:
        """Run them in one transaction (in none, when one of them begins its own); the last rows."""
        rows: list[list[Any]] = self._call("sql", list(statements))
        return rows

    def run(self, now: str, *, days: int = 3, seed: int = 1) -> None:
        """A run of the demo's pipeline: the daily rows in one commit, the breakdown in the next."""
        self._call("run", [now, days, seed])

    def run_daily(self, now: str, *, days: int = 3) -> None:
        """A run up to its first commit; `finish` makes the second."""
        self._call("run_daily", [now, days])

    def finish(self) -> None:
        self._call("finish", [])

    def empty(self) -> None:
        self._call("empty", [])

    def refill(self, now: str) -> None:
        self._call("refill", [now])

    def kill(self) -> None:
        """End it as a crash does: its log stays behind."""
        self._process.kill()
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._end()

    def _call(self, name: str, arguments: list[Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, arguments]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["rows"]

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.wait()
        self._process.stdout.close()
        if not self._process.stdin.closed:
            self._process.stdin.close()


class _Work:
    def __init__(self, database: Path) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None

    def sql(self, *statements: str) -> list[Any]:
        if self._connection is None:
            self._connection = sqlite3.connect(self._database, isolation_level=None, timeout=30)
        connection = self._connection
        rows: list[Any] = []
        is_ours = len(statements) > 1
        if is_ours:
            connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        if is_ours:
            connection.execute("COMMIT")
        return rows

    def run(self, now: str, days: int, seed: int) -> None:
        run_pipeline(self._database, now=datetime.fromisoformat(now), days=days, seed=seed)

    def run_daily(self, now: str, days: int) -> None:
        """Answers between the two commits, and makes the second when it is told to."""
        run_pipeline(
            self._database, now=datetime.fromisoformat(now), days=days, between=self._between
        )

    def finish(self) -> None:
        """Only the answer: what is awaited has happened."""

    def empty(self) -> None:
        empty(self._database)

    def refill(self, now: str) -> None:
        refill(self._database, now=datetime.fromisoformat(now))

    def _between(self) -> None:
        print(json.dumps({"rows": None}), flush=True)
        sys.stdin.readline()


def main() -> None:
    work = _Work(Path(sys.argv[1]))
    for line in sys.stdin:
        name, arguments = json.loads(line)
        called: Callable[..., Any] = getattr(work, name)
        try:
            answer = {"rows": called(*arguments)}
        except Exception as error:  # noqa: BLE001 (it is told to the test)
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
