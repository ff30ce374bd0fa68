"""A rollout guard over state, ledger and duty in memory, by itself or one of several processes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from proxy.background import Background
from proxy.cache.duty import Duty
from proxy.errors import StoreError
from proxy.rollout.journal import Journal
from proxy.rollout.ramp import Event
from proxy.rollout.rollout import RolloutGuard
from proxy.rollout.shared_state import SharedState
from proxy.rollout.state import Cause, MigrationState, Rollout
from proxy.rollout.steering import Steering
from proxy.rollout.turn import Turn
from proxy.settings_tables import RolloutTable
from proxy.telemetry import Telemetry
from tests.clocks import HandClock
from tests.comparisons import AT, a_comparison, a_difference, a_result, as_it_is
from tests.kept_in_memory import LedgerInMemory
from tests.state_in_memory import StateInMemory
from tests.waiting import until

PLAN = RolloutTable(steps=(5, 50, 100), interval_s=60, min_samples=20, consecutive_errors=3)
BY_ANN = Cause("ann", "because", AT)


@dataclass
class Desk:
    """Where processes agree on who has the duty. `holder` is a name, empty when nobody has it."""

    holder: str = ""
    is_down: bool = False
    calls: list[str] = field(default_factory=list)


class DutyInMemory:
    def __init__(self, desk: Desk, name: str, *, ttl_s: float = 6.0) -> None:
        self.ttl_s = ttl_s
        self._desk = desk
        self._name = name

    async def take(self) -> bool:
        self._ask("take")
        self._desk.holder = self._desk.holder or self._name
        return self._desk.holder == self._name

    async def renew(self) -> bool:
        self._ask("renew")
        return self._desk.holder == self._name

    async def give_back(self) -> None:
        self._ask("give back")
        if self._desk.holder == self._name:
            self._desk.holder = ""

    def _ask(self, what: str) -> None:
        self._desk.calls.append(what)
        if self._desk.is_down:
            raise StoreError("the duty cannot be asked")


@dataclass
class Guarded:
    guard: RolloutGuard
    steering: Steering
    journal: Journal
    ledger: LedgerInMemory
    file: StateInMemory
    desk: Desk
    clock: HandClock
    telemetry: Telemetry
    background: Background
    told: list[Event]

    @property
    def state(self) -> MigrationState:
        return self.steering.state

    @property
    def rollout(self) -> Rollout:
        return self.steering.state.rollout

    @property
    def rollbacks(self) -> float:
        labels = {"by": "guard"}
        return self.telemetry.registry.get_sample_value("proxy_rollbacks_total", labels) or 0.0

    def compare(self, count: int, *, mismatched: bool = False, structural: bool = False) -> None:
        for number in range(count):
            found = a_difference(kind="missing_key" if structural else "value")
            noise = a_result() if number % 10 == 9 else None
            differences = (found,) if mismatched or structural else ()
            self.journal.note(a_comparison(*differences, at=self.clock.now(), noise=noise))

    def answer(self, count: int, *, is_ok: bool = True, seconds: float = 0.005) -> None:
        for _ in range(count):
            self.journal.tried(is_ok, seconds)

    def be_good(self) -> None:
        """Enough evidence for a pass."""
        self.compare(PLAN.min_samples)
        self.answer(PLAN.min_samples)

    async def looked(self) -> None:
        """A whole look, begun from now on, is over: of what was noted nothing is left to write."""
        with suppress(StoreError):
            await self.journal.flush()
        asked = self.ledger.asked
        # While it is down, both the journal and the guard ask in vain.
        await until(lambda: self.ledger.asked > asked + 5)

    async def started(self) -> None:
        await self.guard.steer("start", BY_ANN)


@asynccontextmanager
async def guarded(
    *,
    plan: RolloutTable = PLAN,
    name: str = "one",
    desk: Desk | None = None,
    duty: Duty | None = None,
    file: StateInMemory | None = None,
    shared: SharedState | None = None,
    ledger: LedgerInMemory | None = None,
    clock: HandClock | None = None,
    is_following: bool = True,
    tick_s: float = 0.001,
) -> AsyncIterator[Guarded]:
    desk = Desk() if desk is None else desk
    file = StateInMemory() if file is None else file
    ledger = LedgerInMemory() if ledger is None else ledger
    clock = HandClock(AT) if clock is None else clock
    telemetry = Telemetry()
    told: list[Event] = []
    async with Background(drain_s=0) as background:
        steering = Steering(
            file,
            shared,
            background,
            clock,
            process=name,
            percent=0,
            shadow_rate=0.1,
            poll_s=0.001,
            settle_s=0.05,
        )
        await steering.start(is_damaged=lambda: False, has_legacy=True)
        journal = Journal(ledger, clock, telemetry, redact=as_it_is, latencies=dict, flush_s=0.001)
        guard = RolloutGuard(
            plan,
            steering,
            ledger,
            journal,
            Turn(DutyInMemory(desk, name) if duty is None else duty, clock),
            background,
            telemetry,
            clock,
            tell=told.append,
            tick_s=tick_s,
            pause_s=0,
        )
        if is_following:
            background.spawn(steering.follow(), name="steering", endless=True)
            background.spawn(journal.follow(), name="journal", endless=True)
            background.spawn(guard.follow(), name="guard", endless=True)
        yield Guarded(
            guard, steering, journal, ledger, file, desk, clock, telemetry, background, told
        )
