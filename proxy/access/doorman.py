"""Doorman: who is let in to our answers, on the legacy's word, and how long that word counts."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b

import structlog

from proxy.access.credentials import Credentials, Headers, Mark, credentials_of, mark_of
from proxy.access.gate import Gate
from proxy.access.verdict import Refusal, RefusedError
from proxy.background import Background
from proxy.clock import Clock
from proxy.errors import BackendUnavailable
from proxy.single_flight import SingleFlight

log = structlog.get_logger(__name__)

MOST_KEPT = 10_000
_GRACE_S = 1.0
"""Making an answer may take so long before the caller is asked about anew, whatever the TTL."""
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Admission:
    """A caller that was let in, and since when the word for it counts."""

    mark: Mark
    credentials: Credentials
    asked_at: float
    withdrawals: int


@dataclass(slots=True, eq=False)
class _Asking:
    """A question under way. It is void once the legacy has refused its credentials elsewhere."""

    asked_at: float
    is_void: bool = False


@dataclass(frozen=True, slots=True)
class _Told:
    refusal: Refusal | None
    asking: _Asking


class Doorman:
    """Asks `gate` about credentials it has no word for, once for all who show the same.

    That somebody is let in counts for `ttl_s`, from when the question was sent:
    the credentials may have been withdrawn while its answer was on the way. A
    refusal is handed to those who waited for it and not kept. Neither are the
    credentials: only their mark is, under `key`. Without a verdict nobody is
    let in.

    For one event loop. A cancelled caller leaves the others' question alone.
    """

    def __init__(
        self,
        gate: Gate,
        background: Background,
        clock: Clock,
        *,
        ttl_s: float,
        cookies: Collection[str],
        key: bytes,
        most_kept: int = MOST_KEPT,
    ) -> None:
        self._gate = gate
        self._clock = clock
        self._ttl_s = ttl_s
        self._cookies = frozenset(cookies)
        self._key = key
        self._most_kept = most_kept
        self._kept: dict[Mark, float] = {}
        self._asking: dict[Mark, _Asking] = {}
        self._flights: SingleFlight[Mark, _Told] = SingleFlight(background)
        self._withdrawals = 0

    def mark_of(self, headers: Headers) -> Mark:
        """What stands for the credentials in `headers`."""
        return mark_of(credentials_of(headers, self._cookies), self._key)

    def hash(self, data: bytes) -> bytes:
        """What stands for `data` that hold credentials, where they must not be kept."""
        return blake2b(data, key=self._key, digest_size=32).digest()

    def admits_now(self, mark: Mark) -> bool:
        """Whether the legacy's word for `mark` still counts. Asks nobody."""
        asked_at = self._kept.get(mark)
        return asked_at is not None and self._clock.monotonic() - asked_at < self._ttl_s

    async def admit(self, headers: Headers) -> Admission:
        """Who shows `headers` is let in, else RefusedError. BackendError: nobody can say."""
        credentials = credentials_of(headers, self._cookies)
        mark = mark_of(credentials, self._key)
        if self.admits_now(mark):
            return Admission(mark, credentials, self._kept[mark], self._withdrawals)
        return await self._ask(mark, credentials)

    async def confirm(self, admission: Admission) -> None:
        """The word that let the caller in counts now too, else it is asked for again.

        An answer may take longer to make than the word for its caller lasts.
        """
        if self.admits_now(admission.mark):
            return
        age_s = self._clock.monotonic() - admission.asked_at
        if age_s < _GRACE_S and admission.withdrawals == self._withdrawals:
            return
        await self._ask(admission.mark, admission.credentials)

    def withdraw(self, headers: Headers) -> None:
        """The legacy has refused who shows `headers`, wherever that was: its word ends at once."""
        mark = self.mark_of(headers)
        self._withdrawals += 1
        if self._kept.pop(mark, None) is not None:
            log.info("verdict_withdrawn")
        if (asking := self._asking.get(mark)) is not None:
            asking.is_void = True

    async def _ask(self, mark: Mark, credentials: Credentials) -> Admission:
        for attempt in range(_ROUNDS):
            withdrawals = self._withdrawals
            flown = await self._flights.run(mark, lambda: self._question(mark, credentials))
            told = flown.value
            if told.refusal is not None:
                raise RefusedError(told.refusal)
            asked_at = told.asking.asked_at
            # A question that was under way when this caller came may be answered
            # with what was true before: as old as a kept word may be, and no older.
            # The one after it began later than he came.
            is_own = flown.led or attempt > 0
            is_young = self._clock.monotonic() - asked_at < self._ttl_s
            if (is_own or is_young) and not told.asking.is_void:
                return Admission(mark, credentials, asked_at, withdrawals)
        raise BackendUnavailable(
            "the legacy application lets the caller in and refuses it at the same time",
            reason="no_verdict",
        )

    async def _question(self, mark: Mark, credentials: Credentials) -> _Told:
        asking = _Asking(self._clock.monotonic())
        self._asking[mark] = asking
        try:
            refusal = await self._gate.ask(credentials)
        finally:
            del self._asking[mark]
        if refusal is not None:
            self._kept.pop(mark, None)
        elif self._ttl_s > 0 and not asking.is_void:
            self._keep(mark, asking.asked_at)
        return _Told(refusal, asking)

    def _keep(self, mark: Mark, asked_at: float) -> None:
        # Taken out first: the dict stays in the order in which words run out.
        self._kept.pop(mark, None)
        self._kept[mark] = asked_at
        while len(self._kept) > self._most_kept:
            del self._kept[next(iter(self._kept))]

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"<Doorman kept={len(self._kept)} asking={len(self._asking)}>"


@asynccontextmanager
async def admitted(doorman: Doorman | None, headers: Headers) -> AsyncIterator[None]:
    """Make the answer inside: entered by who is let in, left with an answer that may go out.

    RefusedError and BackendError as `admit` has them. Without a doorman all are let in.
    """
    if doorman is None:
        yield
        return
    admission = await doorman.admit(headers)
    yield
    await doorman.confirm(admission)
