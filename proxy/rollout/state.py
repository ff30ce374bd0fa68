"""The state of the migration, in force and as it is kept. Pure: every change makes a new one.

Processes that cannot reach each other may change it at the same time. Each
register (split, rollback, shadow, rollout) has a Lamport version, so that what
they made can be merged when they meet, in any order and any number of times.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from proxy.errors import ProxyError
from proxy.rollout.registers import Register, newest

RolloutState = Literal["idle", "running", "paused", "rolled_back", "complete"]
Verdict = Literal["pass", "fail", "insufficient"]

MOST_CHANGES = 100
# One more than this and the oldest lift is forgotten; what it lifted could then come back from
# a process that slept through all of them.
MOST_LIFTS = 256


class ConflictError(ProxyError):
    """The change does not fit the state it meets. The text says what to do first."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Who asks for a change and why. `at` is in seconds since the epoch."""

    author: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """Which change set a register. `version` 0: none did, what the settings say counts."""

    version: int = 0
    at: float = 0.0
    author: str = ""
    reason: str = ""

    @property
    def mark(self) -> tuple[int, float]:
        return self.version, self.at


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """A line of history. `percent` is the one in force after it."""

    at: float
    author: str
    action: str
    percent: float
    reason: str
    version: int = 0


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far the plan has come. `step` is an index into its steps.

    `since` (seconds since the epoch) is when the window of evidence began and
    `baseline` the counters at that moment. `reason` belongs to `verdict`, or
    says why it is paused or rolled back.
    """

    state: RolloutState = "idle"
    step: int = 0
    since: float | None = None
    verdict: Verdict = "insufficient"
    reason: str = ""
    baseline: Mapping[str, float] = field(default_factory=dict)
    history: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class MigrationState:
    """`percent` (0 to 100) is what was asked for, `shadow_rate` a share from 0 to 1.

    `raises` are the rollbacks that nobody has lifted, `lifts` the marks of
    those that somebody has. A lift ends only the rollbacks that it knew of:
    one made elsewhere at the same time stays. `version` grows with every
    change. `history` has the newest last. `more` is what later versions added.
    """

    percent: float = 100.0
    shadow_rate: float = 0.0
    kept_rollout: Rollout = Rollout()
    split_stamp: Stamp = Stamp()
    shadow_stamp: Stamp = Stamp()
    rollout_stamp: Stamp = Stamp()
    raises: frozenset[Stamp] = frozenset()
    lifts: frozenset[tuple[int, float]] = frozenset()
    history: tuple[Change, ...] = ()
    version: int = 0
    more: Mapping[str, Register] = field(default_factory=dict)

    @property
    def rolled_back(self) -> bool:
        return bool(self.raises)

    @property
    def percent_in_force(self) -> float:
        return 0.0 if self.raises else self.percent

    @property
    def rollout(self) -> Rollout:
        """As it is in force: a rollback ends it, also one that was made elsewhere."""
        kept = self.kept_rollout
        if not self.raises or kept.state in ("idle", "rolled_back"):
            return kept
        return replace(kept, state="rolled_back", reason=max(self.raises).reason)

    @property
    def changed_at(self) -> float | None:
        """When the split or the rollback changed last, or None: they never did."""
        return self._latest.at if self._latest.version else None

    @property
    def author(self) -> str:
        return self._latest.author

    @property
    def reason(self) -> str:
        return self._latest.reason

    @property
    def _latest(self) -> Stamp:
        return max(self.raises | {self.split_stamp})


def with_percent(state: MigrationState, percent: float, cause: Cause) -> MigrationState:
    """Set by hand: a rollout that runs is paused. ConflictError while rolled back."""
    _refuse_rolled_back(state)
    stamp = _stamp(state, cause)
    changed = replace(state, percent=percent, split_stamp=stamp)
    if state.rollout.state == "running":
        paused = replace(state.rollout, state="paused", reason="the percent was set by hand")
        changed = _with_rollout(changed, paused, stamp, "pause")
    return _noted(changed, stamp, "split")


def rolled_back(
    state: MigrationState, cause: Cause, *, verdict: Verdict | None = None
) -> MigrationState:
    """All to the legacy, whatever the percent. Once more changes who asked last and why.

    It counts anew even when it is in force already: somebody elsewhere may be
    lifting it at this moment without knowing of this one.
    """
    stamp = _stamp(state, cause)
    changed = replace(
        state, raises=frozenset({stamp}), lifts=_newest_lifts(state.lifts | _marks(state.raises))
    )
    rollout = state.rollout
    if rollout.state in ("running", "paused", "complete"):
        over = replace(
            rollout, state="rolled_back", reason=cause.reason, verdict=verdict or rollout.verdict
        )
        changed = _with_rollout(changed, over, stamp, "rollback")
    return _noted(changed, stamp, "rollback")


def lifted(state: MigrationState, cause: Cause) -> MigrationState:
    """The percent goes to 0, not back to what it was. ConflictError when not rolled back."""
    if not state.rolled_back:
        raise ConflictError("the migration is not rolled back: there is nothing to lift")
    stamp = _stamp(state, cause)
    changed = replace(
        state,
        percent=0.0,
        split_stamp=stamp,
        raises=frozenset(),
        lifts=_newest_lifts(state.lifts | _marks(state.raises)),
    )
    if state.kept_rollout.state != "idle":
        idle = Rollout(history=state.rollout.history)
        changed = _with_rollout(changed, idle, stamp, "lift")
    return _noted(changed, stamp, "lift")


def with_shadow_rate(state: MigrationState, rate: float, cause: Cause) -> MigrationState:
    stamp = _stamp(state, cause)
    return replace(state, shadow_rate=rate, shadow_stamp=stamp, version=stamp.version)


def with_rollout(
    state: MigrationState,
    rollout: Rollout,
    percent: float | None,
    cause: Cause,
    *,
    action: str | None = None,
) -> MigrationState:
    """The rollout and the percent (None: as it is) in one change.

    With an `action` it is a line in the rollout's history, and in the split's
    when there is a percent. ConflictError while rolled back: lift it first.
    """
    _refuse_rolled_back(state)
    stamp = _stamp(state, cause)
    changed = state
    if percent is not None:
        changed = replace(state, percent=percent, split_stamp=stamp)
    changed = _with_rollout(changed, rollout, stamp, action)
    return changed if percent is None else _noted(changed, stamp, action or "rollout")


def with_settings(state: MigrationState, percent: float, shadow_rate: float) -> MigrationState:
    """With what the settings say where no change was ever made."""
    if not state.split_stamp.version:
        state = replace(state, percent=percent)
    if not state.shadow_stamp.version:
        state = replace(state, shadow_rate=shadow_rate)
    return state


def merge(one: MigrationState, other: MigrationState) -> MigrationState:
    """What both know. The same in whatever order and however often states are merged."""
    lifts = _newest_lifts(one.lifts | other.lifts)
    split = max((state.split_stamp, state.percent) for state in (one, other))
    shadow = max((state.shadow_stamp, state.shadow_rate) for state in (one, other))
    rollout = max((one, other), key=lambda state: (state.rollout_stamp, _order(state.kept_rollout)))
    history = sorted({*one.history, *other.history}, key=lambda change: (change.version, change))
    return MigrationState(
        percent=split[1],
        shadow_rate=shadow[1],
        kept_rollout=rollout.kept_rollout,
        split_stamp=split[0],
        shadow_stamp=shadow[0],
        rollout_stamp=rollout.rollout_stamp,
        raises=frozenset(
            raised for raised in one.raises | other.raises if raised.mark not in lifts
        ),
        lifts=lifts,
        history=tuple(history[-MOST_CHANGES:]),
        version=max(one.version, other.version),
        more=newest(one.more, other.more),
    )


def renewed(state: MigrationState) -> MigrationState:
    """The same under a version of its own: what two merged states are that neither was."""
    return replace(state, version=state.version + 1)


def _order(rollout: Rollout) -> tuple[object, ...]:
    # Any order will do, so long as every process has the same one.
    since = -1.0 if rollout.since is None else rollout.since
    baseline = sorted(rollout.baseline.items())
    told = (rollout.state, rollout.step, since, rollout.verdict, rollout.reason)
    return (*told, baseline, rollout.history)


def _refuse_rolled_back(state: MigrationState) -> None:
    if state.rolled_back:
        raise ConflictError(
            "the migration is rolled back: lift that first, with DELETE /admin/rollback"
            " or dashboard-proxy rollback --lift"
        )


def _stamp(state: MigrationState, cause: Cause) -> Stamp:
    return Stamp(state.version + 1, cause.at, cause.author, cause.reason)


def _marks(raises: frozenset[Stamp]) -> frozenset[tuple[int, float]]:
    return frozenset(raised.mark for raised in raises)


def _newest_lifts(lifts: frozenset[tuple[int, float]]) -> frozenset[tuple[int, float]]:
    return lifts if len(lifts) <= MOST_LIFTS else frozenset(sorted(lifts)[-MOST_LIFTS:])


def _with_rollout(
    state: MigrationState, rollout: Rollout, stamp: Stamp, action: str | None
) -> MigrationState:
    if action is not None:
        line = _line(state, stamp, action)
        history = (*rollout.history, line)[-MOST_CHANGES:]
        rollout = replace(rollout, history=history)
    return replace(state, kept_rollout=rollout, rollout_stamp=stamp, version=stamp.version)


def _noted(state: MigrationState, stamp: Stamp, action: str) -> MigrationState:
    history = (*state.history, _line(state, stamp, action))[-MOST_CHANGES:]
    return replace(state, history=history, version=stamp.version)


def _line(state: MigrationState, stamp: Stamp, action: str) -> Change:
    percent = state.percent_in_force
    return Change(stamp.at, stamp.author, action, percent, stamp.reason, stamp.version)
