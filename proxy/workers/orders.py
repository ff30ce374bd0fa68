"""What a supervisor and its worker say to each other: lines of JSON on a socket that both hold."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import orjson

DRAIN = b"drain\n"
"""Said to a worker: accept nothing more, answer what still comes, leave. The end of the
stream says the same: then the supervisor is gone."""

BAD_USAGE = 2
"""The exit code of a worker that cannot begin because of its settings."""


@dataclass(frozen=True, slots=True)
class Orders:
    """All that a worker needs to begin. Times are in seconds.

    `config` is the path of the configuration file and `text` what it said when the
    supervisor read it: a worker that is started later must not read another.
    `given` are the options of the command line, `listeners` numbers of inherited
    sockets that the public port is made of. `state_path` is the file in which the
    workers follow each other.
    """

    number: int
    config: str | None
    text: str | None
    given: Mapping[str, Any]
    listeners: tuple[int, ...]
    url: str
    admin_path: str
    admin_token: str
    grace_s: float
    leave_s: float
    state_path: str | None = None

    def as_line(self) -> bytes:
        return orjson.dumps(asdict(self)) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Orders":
        told = orjson.loads(line)
        return cls(**{**told, "listeners": tuple(told["listeners"])})


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of itself.

    `listening`: it answers. `failed`: it cannot begin, `text` says why, and
    `exit_code` what one process alone would have ended with. `left`: all it has
    begun is answered, `text` are its last metrics.
    """

    what: Literal["listening", "failed", "left"]
    text: str = ""
    exit_code: int = 0

    def as_line(self) -> bytes:
        return orjson.dumps(asdict(self)) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Report":
        """Raises ValueError."""
        told = orjson.loads(line)
        if not isinstance(told, dict) or told.get("what") not in ("listening", "failed", "left"):
            raise ValueError(f"no report: {line[:80]!r}")
        return cls(told["what"], str(told.get("text", "")), int(told.get("exit_code", 0)))
