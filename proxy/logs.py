"""How log lines look and where they go. Configured once, by whoever builds the process."""

import logging
import re
import sys
import threading
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from proxy.logs_human import HumanRenderer
from proxy.tracing.request import log_fields

LogFormat = Literal["auto", "json", "human"]

log = structlog.get_logger(__name__)

_HANDLER = "proxy.logs"
_SECRET_NAMES = ("token", "password", "secret", "authorization", "cookie")
_CREDENTIALS = re.compile(r"(?<=://)[^\s'\"<>]*@|(?i:(?<=\bbearer ))[\w.~+/=-]+")
_MASK = "***"
_DEEPEST = 6


class HideSecrets:
    """Masks values under secret names, credentials in any text, and the given `secrets`.

    Runs after tracebacks have become text, so those are masked too.
    """

    def __init__(self, secrets: Collection[str] = ()) -> None:
        # Longest first: one secret may be part of another.
        self._secrets = sorted((s for s in secrets if s), key=len, reverse=True)

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        return {name: self._hide(name, value, 0) for name, value in event.items()}

    def _hide(self, name: str, value: object, depth: int) -> object:
        if name.lower().endswith(_SECRET_NAMES) and value is not None:
            return _MASK
        if isinstance(value, str):
            return self._hide_text(value)
        if value is None or isinstance(value, bool | int | float):
            return value
        if depth < _DEEPEST and isinstance(value, Mapping):
            return {str(k): self._hide(str(k), v, depth + 1) for k, v in value.items()}
        if depth < _DEEPEST and isinstance(value, list | tuple | set | frozenset):
            return [self._hide("", item, depth + 1) for item in value]
        return self._hide_text(
            value.decode(errors="replace") if isinstance(value, bytes) else repr(value)
        )

    def _hide_text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return _CREDENTIALS.sub(lambda found: _MASK + ("@" if found[0].endswith("@") else ""), text)


def configure_logs(
    log_format: LogFormat,
    stream: TextIO,
    *,
    secrets: Collection[str] = (),
    may_colour: bool = True,
    worker: int | None = None,
) -> None:
    """Send structlog and the standard library's logging to `stream`, one event a line.

    JSON lines have `timestamp` (UTC, ISO 8601), `level` and `event`, and those of
    a request its `request_id` and, where it is in a trace, `trace_id`. `auto` is
    `human` on a terminal, else `json`; only a terminal is coloured. With `worker`
    each line says which of several it is from. A second call takes the first one's
    place.
    """
    is_terminal = stream.isatty()
    is_human = log_format == "human" or (log_format == "auto" and is_terminal)
    shared: list[Processor] = [
        *([] if worker is None else [_Signed(worker)]),
        structlog.contextvars.merge_contextvars,
        _add_request,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = (
        HumanRenderer(is_coloured=is_terminal and may_colour)
        if is_human
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.set_name(_HANDLER)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_logger_name,
                *shared,
                structlog.stdlib.ExtraAdder(),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                HideSecrets(secrets),
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    for old in [h for h in root.handlers if h.get_name() == _HANDLER]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def log_what_nobody_catches() -> None:
    """Have exceptions that end a process or a thread, and Python's warnings, logged like the rest.

    For a process of our own: it changes the interpreter's hooks.
    """
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


class _Signed:
    def __init__(self, worker: int) -> None:
        self._worker = worker

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        return {"worker": self._worker, **event}


def _add_request(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    for name, value in log_fields().items():
        event.setdefault(name, value)
    return event


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    log.critical("uncaught_exception", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    error = args.exc_value or args.exc_type()
    log.critical(
        "uncaught_exception",
        thread=None if args.thread is None else args.thread.name,
        exc_info=(args.exc_type, error, args.exc_traceback),
    )


def _unraisable(args: "sys.UnraisableHookArgs") -> None:
    error = args.exc_value or args.exc_type()
    log.error(
        "unraisable_exception",
        where=repr(args.object),
        exc_info=(args.exc_type, error, args.exc_traceback),
    )
