"""Where in which trace work stands, and the spans it leaves there. Who keeps them, is not."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import MappingProxyType, TracebackType
from typing import Literal, Protocol, Self

from proxy.tracing.parent import TraceParent

Kind = Literal["internal", "server", "client"]
Value = str | bool | int | float
Attributes = Mapping[str, Value]

NO_ATTRIBUTES: Attributes = MappingProxyType({})


class Position(Protocol):
    """A place in a trace. `is_ours`: a span of ours stands there and is recorded."""

    @property
    def trace_id(self) -> str: ...

    @property
    def is_ours(self) -> bool: ...

    def headers(self) -> Mapping[str, str]:
        """`traceparent`, and `tracestate` if there is one: for requests made from here."""
        ...


class Span(Protocol):
    """A piece of work. Entered while it lasts: what is begun inside stands below it."""

    @property
    def is_recorded(self) -> bool:
        """Whether anybody will read what is said of it."""
        ...

    def set(self, name: str, value: Value) -> None: ...

    def failed(self, word: str) -> None:
        """`word` is one of a fixed few, never a caller's value."""
        ...

    def link(self, position: Position | None) -> None:
        """This work has to do with the work at `position`, of whatever trace."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Tracer(Protocol):
    """Makes spans. Only what a recorded request causes is recorded; all else costs next to nothing.

    Names and attributes are the proxy's own words and numbers, never a caller's.
    """

    @property
    def is_on(self) -> bool: ...

    def serve(self, name: str, parent: TraceParent | None, attributes: Attributes) -> Span:
        """The span of a request that came in, below the caller's if it names one."""
        ...

    def served(
        self, name: str, attributes: Attributes, *, at: float, seconds: float
    ) -> Position | None:
        """A request that was answered already, `at` seconds since the epoch; None: not recorded."""
        ...

    def span(
        self,
        name: str,
        kind: Kind = "internal",
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> Span:
        """A span below the one that this work stands in."""
        ...

    def apart(self, name: str, cause: Position | None) -> Span:
        """The span of later work: a trace of its own, linked to its `cause`."""
        ...


_here: ContextVar[Position | None] = ContextVar("position", default=None)


def here() -> Position | None:
    """Where the work of this task stands."""
    return _here.get()


def move(position: Position | None) -> Token[Position | None]:
    """Let the work of this task stand at `position` from now on."""
    return _here.set(position)


def move_back(token: Token[Position | None]) -> None:
    _here.reset(token)


def outgoing() -> Mapping[str, str]:
    """The headers that tell another application where a request of ours comes from."""
    position = _here.get()
    return NO_HEADERS if position is None else position.headers()


@contextmanager
def standing_at(position: Position | None) -> Iterator[None]:
    token = move(position)
    try:
        yield
    finally:
        move_back(token)


class NoSpan:
    """Work that is not recorded. With a `position` it stands there all the same."""

    __slots__ = ("_position", "_token")
    is_recorded = False

    def __init__(self, position: Position | None = None) -> None:
        self._position = position
        self._token: Token[Position | None] | None = None

    def set(self, name: str, value: Value) -> None:
        pass

    def failed(self, word: str) -> None:
        pass

    def link(self, position: Position | None) -> None:
        pass

    def __enter__(self) -> Self:
        if self._position is not None:
            self._token = move(self._position)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._token is not None:
            move_back(self._token)


class NoTracing:
    """Records nothing. The caller's own place in its trace is passed on all the same."""

    is_on = False

    def serve(self, name: str, parent: TraceParent | None, attributes: Attributes) -> Span:
        return NO_SPAN

    def served(
        self, name: str, attributes: Attributes, *, at: float, seconds: float
    ) -> Position | None:
        return None

    def span(
        self,
        name: str,
        kind: Kind = "internal",
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> Span:
        return NO_SPAN

    def apart(self, name: str, cause: Position | None) -> Span:
        return NO_SPAN if cause is None else NoSpan(cause)

    def __repr__(self) -> str:
        return "<NoTracing>"


NO_HEADERS: Mapping[str, str] = MappingProxyType({})
NO_SPAN = NoSpan()
NO_TRACING = NoTracing()
