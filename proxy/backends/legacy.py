"""LegacyBackend: puts a question to the legacy API when the tables cannot answer it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson
import structlog
from yarl import URL

from proxy.answer import Answer
from proxy.circuit import Circuit
from proxy.clock import Clock
from proxy.document import WARNINGS, render
from proxy.errors import BackendError, BackendTimeout, BackendUnavailable
from proxy.payload import Payload
from proxy.query import Query, ShapeName
from proxy.shapes import Shape
from proxy.tracing.http import answered, client_span
from proxy.tracing.tracer import NO_TRACING, Span, Tracer, outgoing
from proxy.translation import translate_records

ANALYTICS_PATH = "/api/dashboard/analytics/data"
_LARGEST_ANSWER = 128 * 2**20
_FAILURES = 3
_HELD_UP_S = 1.0
"""A failure that comes sooner has held nobody up: it says nothing against asking again."""

log = structlog.get_logger(__name__)


class LegacyBackend:
    """Asks once, never again: raises BackendError for anything but a whole, successful answer.

    An analytics question gets the legacy's own bytes; a dashboard question
    gets its rows translated. An empty answer carries the warning `no_rows`.

    After a few failures in a row that made callers wait, the next callers are
    refused at once (reason `legacy_down`), but for one at a time who tries
    whether the legacy answers again. Errors that come at once open nothing.
    """

    def __init__(
        self,
        base_url: URL,
        session: aiohttp.ClientSession,
        shapes: Mapping[ShapeName, Shape],
        clock: Clock,
        *,
        timeout_s: float,
        tracer: Tracer = NO_TRACING,
    ) -> None:
        self._url = base_url.with_path(base_url.path.rstrip("/") + ANALYTICS_PATH)
        self._session = session
        self._shapes = shapes
        self._clock = clock
        self._timeout_s = timeout_s
        self._tracer = tracer
        self._circuit = Circuit(clock, failures=_FAILURES, try_s=timeout_s)

    @property
    def is_up(self) -> bool:
        """Whether it is asked; it may be down all the same."""
        return not self._circuit.is_open

    async def answer(self, query: Query) -> Answer:
        ticket = self._circuit.admit()
        if ticket is None:
            raise BackendUnavailable(
                "the legacy API has not answered for a while and is left alone for a moment",
                reason="legacy_down",
            )
        started = self._clock.monotonic()
        try:
            answer = self._read(query, await self._ask(query))
        except BackendError as error:
            took_s = self._clock.monotonic() - started
            if took_s < _HELD_UP_S and not isinstance(error, BackendTimeout):
                self._heard(ticket)
            elif self._circuit.failed(ticket):
                log.warning("legacy_down", error=str(error))
            raise
        except BaseException:
            self._circuit.gave_up(ticket)
            raise
        self._heard(ticket)
        return answer

    def _heard(self, ticket: int) -> None:
        if self._circuit.succeeded(ticket):
            log.info("legacy_back")

    def _read(self, query: Query, body: bytes) -> Answer:
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BackendError("the legacy API sent no JSON", reason="malformed") from error
        if not isinstance(parsed, dict) or parsed.get("success") is not True:
            raise BackendError("the legacy API reports a failure", reason="legacy_error")
        records = parsed.get("data")
        if not isinstance(records, list):
            raise BackendError("the legacy API sent no list of data", reason="malformed")
        warnings = () if records else ("no_rows",)
        if query.shape == "dashboard":
            return self._translated(query, records, warnings)
        return Answer(Payload.of(body), "legacy", "miss", warnings=warnings)

    async def _ask(self, query: Query) -> bytes:
        with client_span(self._tracer, "POST", self._url) as span:
            return await self._post(query, span)

    async def _post(self, query: Query, span: Span) -> bytes:
        question = orjson.dumps(
            {
                "start_date": query.start.isoformat(),
                "end_date": query.end.isoformat(),
                "breakdown": query.breakdown,
                "group_by": query.level,
            }
        )
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            **outgoing(),
        }
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._session.post(
                    self._url, data=question, headers=headers, allow_redirects=False
                ) as response:
                    answered(span, response.status)
                    if response.status != 200:
                        raise BackendError(
                            f"the legacy API answers {response.status}", reason="legacy_error"
                        )
                    return await _whole_body(response)
        except TimeoutError as error:
            raise BackendTimeout(
                f"the legacy API did not answer within {self._timeout_s:g} s",
                reason="legacy_timeout",
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise BackendUnavailable("the legacy API broke off", reason="unreachable") from error

    def _translated(self, query: Query, records: list[Any], warnings: tuple[str, ...]) -> Answer:
        translated = translate_records(
            query, records, self._shapes["analytics"], self._shapes[query.shape]
        )
        sentences = [WARNINGS[word] for word in warnings]
        if translated.lacking:
            names = ", ".join(translated.lacking)
            sentences.append(WARNINGS["legacy_fields"].format(names=names))
            warnings = (*warnings, "legacy_fields")
        body = render(
            query,
            translated.records,
            computed_at=None,
            warnings=sentences,
            data_source="legacy",
        )
        return Answer(Payload.of(body), "legacy", "miss", warnings=warnings)

    def __repr__(self) -> str:
        return f"<LegacyBackend {self._url.origin()} {self._circuit!r}>"


async def _whole_body(response: aiohttp.ClientResponse) -> bytes:
    parts = []
    held = 0
    async for part in response.content.iter_any():
        held += len(part)
        if held > _LARGEST_ANSWER:
            raise BackendError("the legacy API's answer is too long", reason="too_long")
        parts.append(part)
    return b"".join(parts)
