"""RolloutGuard: looks at the evidence, and steps up, holds or rolls back."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from proxy.background import Background
from proxy.clock import Clock
from proxy.errors import ProxyError, StoreError
from proxy.rollout.evidence import Evidence, Marks, counters_of
from proxy.rollout.guard import Decision, decide
from proxy.rollout.journal import Journal
from proxy.rollout.ledger import Ledger
from proxy.rollout.ramp import JUDGED, Advance, Asked, Event, Window, advanced, steered
from proxy.rollout.state import Cause, MigrationState, Rollout, rolled_back
from proxy.rollout.steering import Steering
from proxy.rollout.tallies import Tally, day_of
from proxy.rollout.turn import Turn
from proxy.settings_tables import RolloutTable
from proxy.telemetry import Telemetry

log = structlog.get_logger(__name__)

AUTHOR = "guard"

Tell = Callable[[Event], None]


def tell_nobody(event: Event) -> None:
    """Where there is no webhook."""


@dataclass(frozen=True, slots=True)
class Report:
    """How a rollout stands: what a decision at this moment says, and from which evidence."""

    state: MigrationState
    decision: Decision
    evidence: Evidence | None = None


class RolloutGuard:
    """Judges a rollout that is running or complete; one that is paused or idle it leaves alone.

    The process on duty decides from what all have written to the ledger, and
    every process for itself rolls back when its own side fails
    `consecutive_errors` times in a row. A ledger or a duty that cannot be
    asked means: hold. What was decided is done only if the rollout still
    stands where it stood when it was judged.
    """

    def __init__(
        self,
        plan: RolloutTable,
        steering: Steering,
        ledger: Ledger,
        journal: Journal,
        turn: Turn,
        background: Background,
        telemetry: Telemetry,
        clock: Clock,
        *,
        tell: Tell = tell_nobody,
        tick_s: float = 1.0,
        pause_s: float = 0.25,
    ) -> None:
        self.plan = plan
        self._steering = steering
        self._ledger = ledger
        self._journal = journal
        self._turn = turn
        self._background = background
        self._telemetry = telemetry
        self._clock = clock
        self._tell = tell
        self._tick_s = tick_s
        self._pause_s = pause_s
        self._nudge = asyncio.Event()
        self._is_judging = False
        self._forgiven = 0
        # Only the process on duty has them: the next one begins with the window alone.
        self._marks = Marks()
        self._is_blind = False
        steering.listen(self._noticed)
        journal.listen(self._heard)
        self._noticed(steering.state)

    async def follow(self) -> None:
        """Look when something was noted here, and every `tick_s` seconds. Endless."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._tick_s):
                        await self._nudge.wait()
                self._nudge.clear()
                await self._look()
                # However much is noted: a look costs a read of the ledger.
                await asyncio.sleep(self._pause_s)
        finally:
            await self._turn.leave()

    async def steer(self, asked: Asked, cause: Cause) -> MigrationState:
        """For an operator. Raises ConflictError, and StoreError when it cannot be kept."""
        window = await self._new_window()

        def done(before: MigrationState, after: MigrationState) -> None:
            log.info(f"rollout_{asked}", percent=after.percent_in_force, author=cause.author)
            self._announce(asked, after, cause)

        return await self._steering.change(
            lambda state: steered(state, asked, self.plan, window, cause), done=done
        )

    async def report(self) -> Report:
        """Raises nothing: a ledger that cannot be asked is told in the reason."""
        state = self._steering.state
        rollout = state.rollout
        if rollout.state not in JUDGED | {"paused"}:
            return Report(state, Decision(rollout.verdict, rollout.reason, "hold"))
        try:
            with suppress(StoreError):
                await self._journal.flush()
            evidence = _evidence(rollout, await self._tallies(rollout.since))
        except StoreError:
            return Report(
                state, Decision("insufficient", "hold: the ledger cannot be asked", "hold")
            )
        decision = decide(self.plan, rollout, evidence, self._clock.now())
        if rollout.state == "paused":
            decision = replace(decision, reason=rollout.reason, action="hold")
        return Report(state, decision, evidence)

    def _noticed(self, state: MigrationState) -> None:
        """In force here is now `state`."""
        is_judging = state.rollout.state in JUDGED
        if is_judging and not self._is_judging:
            # What went wrong before it began is no matter of this rollout.
            self._forgiven = self._journal.errors_in_a_row
        self._is_judging = is_judging
        self._nudge.set()

    def _heard(self) -> None:
        """The journal has noted something."""
        if not self._is_judging:
            return
        self._nudge.set()
        errors = self._journal.errors_in_a_row
        if errors < self._forgiven:
            self._forgiven = 0
        in_a_row = errors - self._forgiven
        if in_a_row < self.plan.consecutive_errors:
            return
        self._forgiven = errors
        reason = (
            f"consecutive_errors: {in_a_row} errors in a row,"
            f" {self.plan.consecutive_errors} are too many"
        )
        # Refused when the proxy leaves, and with it what fails.
        with suppress(RuntimeError):
            self._background.spawn(
                self._roll_back(reason, lambda rollout: True), name="consecutive errors"
            )

    async def _look(self) -> None:
        rollout = self._steering.state.rollout
        if rollout.state not in JUDGED:
            self._marks.forget()
            await self._turn.leave()
            return
        try:
            if await self._turn.is_ours():
                await self._judge(rollout)
            else:
                self._marks.forget()
        except ProxyError as error:
            if not self._is_blind:
                self._is_blind = True
                log.warning("guard_holds", error=str(error))
        else:
            if self._is_blind:
                self._is_blind = False
                log.info("guard_judges_again")

    async def _judge(self, rollout: Rollout) -> None:
        with suppress(StoreError):
            # So that what was noted here counts at once. What cannot be written waits.
            await self._journal.flush()
        tallies = await self._tallies(rollout.since)
        counters = counters_of(tallies.values())
        now = self._clock.now()
        evidence = _evidence(rollout, tallies)
        decision = decide(
            self.plan, rollout, evidence, now, self._marks.since_each(rollout.since, counters)
        )

        def is_judged_one(current: Rollout) -> bool:
            judged = (rollout.state, rollout.step, rollout.since)
            return (current.state, current.step, current.since) == judged

        if decision.action == "roll_back":
            await self._roll_back(decision.reason, is_judged_one)
        elif decision.action != "hold":
            await self._advance(decision, decision.action, _window(tallies, now), is_judged_one)

    async def _advance(
        self,
        decision: Decision,
        advance: Advance,
        window: Window,
        is_judged_one: Callable[[Rollout], bool],
    ) -> None:
        cause = Cause(AUTHOR, decision.reason, self._clock.now())
        has_moved = False

        def transition(state: MigrationState) -> MigrationState:
            nonlocal has_moved
            # An operator or another process may have changed it meanwhile.
            if state.rolled_back or not is_judged_one(state.rollout):
                return state
            moved = advanced(state, advance, self.plan, window, cause)
            has_moved = True
            return moved

        def done(before: MigrationState, after: MigrationState) -> None:
            # A new window is no news.
            if has_moved and advance != "renew":
                percent = after.percent_in_force
                log.info(f"rollout_{advance}", percent=percent, reason=cause.reason)
                self._announce(advance, after, cause)

        await self._steering.change(transition, done=done)

    async def _roll_back(self, reason: str, is_meant: Callable[[Rollout], bool]) -> None:
        cause = Cause(AUTHOR, reason, self._clock.now())
        has_moved = False

        def transition(state: MigrationState) -> MigrationState:
            nonlocal has_moved
            has_moved = state.rollout.state in JUDGED and is_meant(state.rollout)
            return rolled_back(state, cause, verdict="fail") if has_moved else state

        def done(before: MigrationState, after: MigrationState) -> None:
            if has_moved:
                self._telemetry.rollbacks.labels(AUTHOR).inc()
                percent = before.percent_in_force
                log.error("rolled_back", author=AUTHOR, reason=reason, percent_before=percent)
                self._announce("rollback", after, cause)

        await self._steering.change(transition, is_urgent=True, done=done)

    async def _tallies(self, since: float | None) -> Mapping[str, Tally]:
        # Of the days of the window only: the ledger lets go of those long past.
        return await self._ledger.tallies(day_of(self._clock.now() if since is None else since))

    async def _new_window(self) -> Window:
        now = self._clock.now()
        try:
            await self._journal.flush()
            return _window(await self._tallies(now), now)
        except StoreError:
            return Window()

    def _announce(self, event: str, state: MigrationState, cause: Cause) -> None:
        step = state.rollout.step
        self._tell(Event(event, cause.at, state.percent_in_force, step, cause.reason, cause.author))

    def __repr__(self) -> str:
        return f"<RolloutGuard {self._steering.state.rollout.state} {self._turn!r}>"


def _evidence(rollout: Rollout, tallies: Mapping[str, Tally]) -> Evidence | None:
    if rollout.since is None:
        return None
    return Evidence.between(counters_of(tallies.values()), rollout.baseline)


def _window(tallies: Mapping[str, Tally], now: float) -> Window:
    """One that begins now. Its baseline is of the days that will be asked for, no others."""
    first = day_of(now)
    return Window(now, counters_of(tally for day, tally in tallies.items() if day >= first))
