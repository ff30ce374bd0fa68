"""A log line as people read it: time, level, what happened, and the rest as key=value. Pure."""

import json
import re
from collections.abc import Iterator, MutableMapping
from datetime import datetime
from typing import Any

_WORDS = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
_BARE = re.compile(r"[^\s\"'=\\]+")
_LAST = ("request_id", "trace_id")
_BELOW = ("stack", "exception")
_INDENT = "    "
_LEVEL_WIDTH = len("critical")
_EVENT_WIDTH = 20
_PLAIN, _BOLD, _DIM, _KEY = "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[36m"
_LEVELS = {
    "debug": _DIM,
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}


class HumanRenderer:
    """Renders what HideSecrets left: text, numbers, None, and lists and dicts of these.

    Nothing in a value can end a line, or colour the terminal: what is not
    printable is escaped. Tracebacks stand below their line, indented. Empty
    values are left out.
    """

    def __init__(self, *, is_coloured: bool) -> None:
        self._is_coloured = is_coloured

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        fields = dict(event)
        at = _time(str(fields.pop("timestamp", "")))
        level = str(fields.pop("level", method))
        said, *more = str(fields.pop("event", "")).splitlines() or [""]
        below = [line for name in _BELOW for line in str(fields.pop(name, "") or "").splitlines()]
        if _WORDS.fullmatch(said):
            said = said.replace("_", " ")
        parts = [
            self._in(_DIM, at),
            self._in(_LEVELS.get(level, _PLAIN), level) + " " * (_LEVEL_WIDTH - len(level)),
            self._in(_BOLD, printable(said)) + " " * (_EVENT_WIDTH - len(said)),
            *(f"{self._in(_KEY, printable(name))}={text}" for name, text in _values(fields)),
        ]
        lines = [" ".join(part for part in parts if part).rstrip()]
        lines += [f"{_INDENT}{printable(line)}".rstrip() for line in (*more, *below)]
        return "\n".join(lines)

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._is_coloured and text else text


def _time(timestamp: str) -> str:
    """Of the day, in the reader's own time zone."""
    try:
        return datetime.fromisoformat(timestamp).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except ValueError:
        return printable(timestamp)


def _values(fields: MutableMapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a line is about before whom it was for."""
    names = [name for name in fields if name not in _LAST]
    for name in (*names, *(name for name in _LAST if name in fields)):
        value = fields[name]
        if value is None or value in ("", [], {}):
            continue
        yield name, _text(value)


def _text(value: object) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value) and value.isprintable():
        return value
    return printable(json.dumps(value, ensure_ascii=False, default=repr))


def printable(text: str) -> str:
    """`text` with all that a terminal would act on written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
