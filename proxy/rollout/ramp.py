"""The way up the steps of the plan, as changes of the migration's state. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from proxy.rollout.state import (
    Cause,
    ConflictError,
    MigrationState,
    Rollout,
    RolloutState,
    with_rollout,
)
from proxy.settings_tables import RolloutTable

Asked = Literal["start", "pause", "resume", "promote", "abort"]
"""What operators may ask for."""
Advance = Literal["step", "complete", "renew"]
"""What the guard does by itself, besides rolling back."""

JUDGED: frozenset[RolloutState] = frozenset({"running", "complete"})
_POSSIBLE: Mapping[RolloutState, tuple[Asked, ...]] = {
    "idle": ("start",),
    "running": ("pause", "promote", "abort"),
    "paused": ("resume", "promote", "abort"),
    "complete": ("pause", "abort"),
    "rolled_back": (),
}


@dataclass(frozen=True, slots=True)
class Window:
    """Where evidence begins: `since` in seconds since the epoch, and the counters at that moment.

    Without `since` the ledger could not be asked: the guard begins it when it can.
    """

    since: float | None = None
    baseline: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """A change as others are told of it. `percent` is the one in force after it."""

    event: str
    at: float
    percent: float
    step: int
    reason: str
    author: str


def steered(
    state: MigrationState, asked: Asked, plan: RolloutTable, window: Window, cause: Cause
) -> MigrationState:
    """By hand. ConflictError where it is not possible, with what is."""
    rollout = state.rollout
    possible = _POSSIBLE[rollout.state]
    if rollout.state == "rolled_back":
        raise ConflictError(
            f"the rollout is rolled back: {asked} is not possible. Lift that first, with DELETE"
            " /admin/rollback or dashboard-proxy rollback --lift, then start"
        )
    if asked not in possible:
        raise ConflictError(
            f"the rollout is {rollout.state}: {asked} is not possible, only {', '.join(possible)}"
        )
    match asked:
        case "start":
            fresh = Rollout(history=rollout.history)
            return _at_step(state, fresh, 0, plan, window, cause, asked)
        case "pause":
            paused = replace(rollout, state="paused", reason=cause.reason or "paused by hand")
            return with_rollout(state, paused, None, cause, action=asked)
        case "resume":
            return _at_step(state, rollout, rollout.step, plan, window, cause, asked)
        case "promote" if rollout.step < len(plan.steps) - 1:
            return _at_step(state, rollout, rollout.step + 1, plan, window, cause, asked)
        case "promote":
            return _completed(state, rollout, plan, window, cause, asked)
        case "abort":
            over = Rollout(history=rollout.history, reason=cause.reason or "aborted by hand")
            return with_rollout(state, over, 0.0, cause, action=asked)


def advanced(
    state: MigrationState, advance: Advance, plan: RolloutTable, window: Window, cause: Cause
) -> MigrationState:
    """By the guard. ConflictError while rolled back."""
    rollout = state.rollout
    match advance:
        case "step":
            return _at_step(state, rollout, rollout.step + 1, plan, window, cause, advance)
        case "complete":
            return _completed(state, rollout, plan, window, cause, advance)
        case "renew":
            # No line of history: nothing has changed for anybody.
            return with_rollout(state, _from(rollout, window), None, cause)


def _at_step(
    state: MigrationState,
    rollout: Rollout,
    step: int,
    plan: RolloutTable,
    window: Window,
    cause: Cause,
    action: str,
) -> MigrationState:
    # The file may have fewer steps than when it began.
    step = min(step, len(plan.steps) - 1)
    moved = replace(
        _from(rollout, window), state="running", step=step, verdict="insufficient", reason=""
    )
    return with_rollout(state, moved, plan.steps[step], cause, action=action)


def _completed(
    state: MigrationState,
    rollout: Rollout,
    plan: RolloutTable,
    window: Window,
    cause: Cause,
    action: str,
) -> MigrationState:
    step = len(plan.steps) - 1
    moved = replace(
        _from(rollout, window), state="complete", step=step, verdict="pass", reason=cause.reason
    )
    return with_rollout(state, moved, plan.steps[step], cause, action=action)


def _from(rollout: Rollout, window: Window) -> Rollout:
    return replace(rollout, since=window.since, baseline=dict(window.baseline))
