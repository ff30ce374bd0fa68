"""Answers a request seen before from its raw bytes, before they are parsed again.

A client that repeats a question repeats it byte for byte. The lane remembers
which Question such bytes were; the answer itself is looked up and judged each
time, like any other. What it costs is a dict look-up and one write.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate

from proxy.access.credentials import Headers, Mark
from proxy.access.doorman import Doorman
from proxy.answer import Answer
from proxy.clock import Clock
from proxy.freshness import Watermark
from proxy.handlers.lane_trace import LaneTrace
from proxy.handlers.responses import Rendered, Wanted, age_s, render_answer
from proxy.query import Query
from proxy.read_through import ReadThrough
from proxy.rollout.shadow import Shadow
from proxy.telemetry import Telemetry
from proxy.tracing.tracer import NO_TRACING, Tracer, standing_at

_LONGEST_RAW = 8192
_MOST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Question:
    """All that a request's bytes say: what is asked and how the answer is to be sent.

    `is_split`: it came by the route that both sides answer.
    """

    query: Query
    route: str
    wanted: Wanted
    more: Mapping[str, str]
    is_head: bool = False
    is_split: bool = False


@dataclass(slots=True)
class _Prepared:
    """A question and the head of its answer: `lasting` for one entry, `head` for one second of it.

    Holds no payload: an entry that has left the memory tier is not kept alive from here.
    """

    question: Question
    mark: Mark | None
    count_hit: Callable[[], None]
    observe_s: Callable[[float], None]
    shadow: Shadow | None = None
    trace: LaneTrace | None = None
    watermark: Watermark | None = None
    etag: str = ""
    lasting: bytes = b""
    status: int = 200
    has_body: bool = True
    second: int = -1
    head: bytes = b""


class Lane:
    """Raw request -> question -> the bytes to write, or None: then the usual way.

    Bounded in number; when full it forgets everything and fills again. Hits on
    the split route are offered to `shadow`. With a `doorman` it keeps hashes of
    the bytes, which hold credentials, and answers only whom he admits without
    asking.
    """

    def __init__(
        self,
        read_through: ReadThrough,
        telemetry: Telemetry,
        clock: Clock,
        *,
        shadow: Shadow | None = None,
        doorman: Doorman | None = None,
        tracer: Tracer = NO_TRACING,
    ) -> None:
        self._read_through = read_through
        self._clock = clock
        self._telemetry = telemetry
        self._shadow = shadow
        self._doorman = doorman
        self._tracer = tracer
        self._remembered: dict[bytes, _Prepared] = {}
        self._has_looked = False
        self.is_closed = False

    def remember(self, raw: bytes | None, question: Question, headers: Headers) -> None:
        """Note that a request of the bytes `raw` is `question`; None: its bytes are not known.

        What its bytes do not say, the caller has looked at in the same step:
        a `forget` between that look and this call would be undone. `headers` are
        those in `raw`: they say who asks.
        """
        if raw is None or len(raw) > _LONGEST_RAW or self.is_closed:
            return
        mark = None
        trace = LaneTrace(self._tracer, raw, question.route) if self._tracer.is_on else None
        if self._doorman is not None:
            raw, mark = self._doorman.hash(raw), self._doorman.mark_of(headers)
        if raw in self._remembered:
            return
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[raw] = _Prepared(
            question,
            mark,
            self._telemetry.requests.labels(question.route, "optimized", "hit").inc,
            self._telemetry.request_seconds.labels(question.route, "optimized").observe,
            self._shadow if question.is_split else None,
            trace,
        )

    def forget(self) -> None:
        """Drop all questions: something that their bytes do not say has changed."""
        self._remembered.clear()

    def close(self) -> None:
        """Answer nothing any more: its heads cannot say that an answer is the last one."""
        self.is_closed = True
        self._remembered.clear()

    def pieces(
        self, raw: bytes, call_soon: Callable[[Callable[[], None]], object]
    ) -> tuple[bytes, bytes] | None:
        """Head and body to write in answer to `raw`, counted as a hit.

        For connections' `data_received` only: requests that one poll of the sockets
        brought share one look at the database. All of them had begun before it, and
        `call_soon`, the event loop's, ends the sharing before it polls again.
        """
        doorman = self._doorman
        prepared = self._remembered.get(raw if doorman is None else doorman.hash(raw))
        if prepared is None:
            return None
        if doorman is not None and (prepared.mark is None or not doorman.admits_now(prepared.mark)):
            return None
        clock = self._clock
        started = clock.monotonic()
        question = prepared.question
        held = self._read_through.entry_now(question.query, has_looked=self._has_looked)
        if held is None:
            return None
        if not self._has_looked:
            self._has_looked = True
            call_soon(self._look_again)
        key, entry = held
        payload = entry.payload
        coding = question.wanted.coding
        body = payload.body if coding is None else payload.encodings.get(coding)
        if body is None:
            return None
        now = clock.now()
        # An entry is of one watermark and one body: a new one differs in either.
        if prepared.watermark is not entry.watermark or prepared.etag != payload.etag:
            self._prepare(prepared, Answer.held(key, entry), body, now)
            prepared.watermark, prepared.etag = entry.watermark, payload.etag
        second = int(now)
        if prepared.second != second:
            prepared.head = prepared.lasting + _tail(entry.stored_at, now)
            prepared.second = second
        position = None
        if prepared.trace is not None:
            seconds = clock.monotonic() - started
            position = prepared.trace(prepared.status, at=now - seconds, seconds=seconds)
        shadow = prepared.shadow
        if shadow is not None and shadow.rate and shadow.wants():
            with standing_at(position):
                shadow.offer(question.query, payload.body, entry.watermark.token)
        prepared.count_hit()
        prepared.observe_s(clock.monotonic() - started)
        return prepared.head, body if prepared.has_body else b""

    def _look_again(self) -> None:
        self._has_looked = False

    def _prepare(self, prepared: _Prepared, answer: Answer, body: bytes, now: float) -> None:
        question = prepared.question
        rendered = render_answer(answer, question.wanted, body, now=now, more=question.more)
        prepared.lasting = _lasting(rendered)
        prepared.status = rendered.status
        prepared.has_body = rendered.status == 200 and not question.is_head
        prepared.second = -1

    def __len__(self) -> int:
        return len(self._remembered)


def _lasting(rendered: Rendered) -> bytes:
    """The head but for the two headers that change by the second, which come last."""
    status = "200 OK" if rendered.status == 200 else "304 Not Modified"
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"{name}: {value}" for name, value in rendered.headers.items() if name != "Age"]
    if rendered.status == 200:
        lines.append(f"Content-Length: {len(rendered.body)}")
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


def _tail(stored_at: float, now: float) -> bytes:
    age = age_s(stored_at, now)
    return f"Age: {age}\r\nDate: {formatdate(now, usegmt=True)}\r\n\r\n".encode("latin-1")
