"""The request that is being handled: its id for logs and answers, its place in its caller's trace.

Tasks begun for a request know it too; Background says which do not.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from proxy.tracing.parent import PARENT, TraceParent, parse_parent
from proxy.tracing.tracer import Position, here, move, standing_at

ID_HEADER = "X-Request-ID"
_LONGEST_ID = 200


class Headers(Protocol):
    def __contains__(self, key: object) -> bool: ...

    def get(self, key: str, default: str) -> str: ...

    def getall(self, key: str, default: tuple[str, ...]) -> Sequence[str]: ...


class RequestContext:
    """`asked_id` is the caller's own id, empty where it sent none that may stand in a log."""

    __slots__ = ("_made_id", "asked_id", "parent")

    def __init__(self, headers: Headers) -> None:
        self.asked_id = printable(headers.get(ID_HEADER, ""))
        self.parent: TraceParent | None = parse_parent(headers) if PARENT in headers else None
        self._made_id = ""

    @property
    def known_id(self) -> str:
        """The id, empty while nobody has wanted one."""
        return self.asked_id or self._made_id

    @property
    def request_id(self) -> str:
        """The caller's, else one of ours, made when somebody first wants it."""
        if not self.asked_id and not self._made_id:
            self._made_id = uuid.uuid4().hex
        return self.asked_id or self._made_id

    def __repr__(self) -> str:
        return f"<RequestContext {self.known_id or 'no id yet'}>"


_request: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def begin(headers: Headers) -> RequestContext:
    """What this task does from now on, it does for the request with these headers."""
    request = RequestContext(headers)
    _request.set(request)
    if request.parent is not None:
        move(request.parent)
    return request


def current_request() -> RequestContext | None:
    return _request.get()


def request_id_of(headers: Headers) -> str:
    """The id of the request with these headers: its caller's, else one of ours."""
    request = _request.get()
    return (RequestContext(headers) if request is None else request).request_id


@dataclass(frozen=True, slots=True)
class Origin:
    """For whom something is done that another task will do."""

    request: RequestContext | None
    position: Position | None


def origin() -> Origin:
    return Origin(_request.get(), here())


@contextmanager
def on_behalf_of(origin: Origin) -> Iterator[None]:
    token = _request.set(origin.request)
    try:
        with standing_at(origin.position):
            yield
    finally:
        _request.reset(token)


def log_fields() -> Mapping[str, str]:
    """What a log line says of the request it belongs to."""
    fields: dict[str, str] = {}
    request, position = _request.get(), here()
    if request is not None:
        fields["request_id"] = request.request_id
    if position is not None:
        fields["trace_id"] = position.trace_id
    return fields


def printable(asked_id: str) -> str:
    """A caller's request id as far as it may stand in a header and a log line."""
    if len(asked_id) > _LONGEST_ID or not asked_id.isascii() or not asked_id.isprintable():
        return ""
    return asked_id
