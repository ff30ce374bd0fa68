"""The guard's decision: what a window of evidence says about the thresholds of the plan. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from proxy.rollout.evidence import Evidence
from proxy.rollout.state import Rollout, Verdict
from proxy.rollout.wilson import excess_low, wilson
from proxy.settings_tables import RolloutTable

Action = Literal["hold", "step", "complete", "renew", "roll_back"]

Z = 4.5
"""Standard errors of every bound.

So many because it is looked at after every sample, and since every mark of the
past again: what is unlikely at one look is not at a thousand. In turn trouble
must be plain. As the plan is by default, with `noise_every` 10 and a legacy
without noise, the guard is sure after 200 comparisons when all differ, 400
when half of them do, 1,200 when one in five does, 3,000 when one in ten does;
and, after 200 answers, at 9 errors or 24 slow ones.
"""
STRUCTURAL_SAMPLES = 20
"""Comparisons after which differences of structure trip, whatever `min_samples` says.

At least one of them must have asked the legacy twice. A structure that is
wrong in every answer trips within 30.
"""
_SLOW_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """One threshold held against the evidence.

    `observed` is the point estimate and `lower` the bound that `allowed` is
    held against, both None while nothing can be said. Of `p95_ms` they are
    milliseconds and, the bound, the share of slower answers.
    """

    name: str
    verdict: Verdict
    samples: int
    needed: int
    observed: float | None
    lower: float | None
    allowed: float
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    verdict: Verdict
    reason: str
    action: Action
    findings: tuple[Finding, ...] = ()


def decide(
    plan: RolloutTable,
    rollout: Rollout,
    evidence: Evidence | None,
    now: float,
    recent: Sequence[Evidence] = (),
) -> Decision:
    """What to do with a rollout that is running or complete.

    `evidence` is of the window since the step began, None when that is not
    known (the ledger was emptied, or the window has not begun). `recent` are
    windows that began later: they can only fail, so that a good past does not
    hide what has gone wrong since. `now` is in seconds since the epoch.

    Failure is told at once. A pass counts from `interval_s` on. Without
    enough samples, or between a threshold and being sure, nothing happens.
    """
    if evidence is None or rollout.since is None:
        return Decision("insufficient", "a new window of evidence begins", "renew")
    findings = judge(plan, evidence)
    later = [one for window in recent if _may_fail(plan, window) for one in judge(plan, window)]
    for finding in (*findings, *later):
        if finding.verdict == "fail":
            return Decision("fail", finding.text, "roll_back", findings)
    # Once each: two thresholds that wait for the same samples say so in the same words.
    lacking = dict.fromkeys(one.text for one in findings if one.verdict == "insufficient")
    if lacking:
        return Decision("insufficient", "; ".join(lacking), "hold", findings)
    left_s = rollout.since + plan.interval_s - now
    if left_s > 0:
        reason = f"within all thresholds, {left_s:.0f} s of the interval are left"
        return Decision("pass", reason, "hold", findings)
    reason = (
        f"within all thresholds: {evidence.compared} compared, {evidence.mismatched} mismatched,"
        f" {evidence.errors} errors in {evidence.answers} answers"
    )
    if rollout.state == "complete":
        return Decision("pass", reason, "renew", findings)
    is_last = rollout.step >= len(plan.steps) - 1
    return Decision("pass", reason, "complete" if is_last else "step", findings)


def judge(plan: RolloutTable, evidence: Evidence) -> tuple[Finding, ...]:
    """Every threshold, in the order of importance."""
    return (
        _excess(
            "structural_rate",
            "structural differences",
            evidence.structural,
            evidence.noise_structural,
            evidence,
            plan.structural_rate,
            needed=plan.min_samples,
            needed_to_fail=STRUCTURAL_SAMPLES,
        ),
        _excess(
            "mismatch_rate",
            "mismatches",
            evidence.mismatched,
            evidence.noise_mismatched,
            evidence,
            plan.mismatch_rate,
            needed=plan.min_samples,
            needed_to_fail=plan.min_samples,
        ),
        _errors(plan, evidence),
        _latency(plan, evidence),
    )


def _may_fail(plan: RolloutTable, evidence: Evidence) -> bool:
    """A bound is never above the estimate, which is cheaper to know."""
    return (
        evidence.structural > plan.structural_rate * evidence.compared
        or evidence.mismatched > plan.mismatch_rate * evidence.compared
        or evidence.errors > plan.error_rate * evidence.answers
        or evidence.slower_than(plan.p95_ms) > _SLOW_SHARE * evidence.timed
    )


def _excess(
    name: str,
    what: str,
    count: int,
    noise_count: int,
    evidence: Evidence,
    allowed: float,
    *,
    needed: int,
    needed_to_fail: int,
) -> Finding:
    n, noise_n = evidence.compared, evidence.noise_compared
    rate = count / n if n else 0.0
    noise_rate = noise_count / noise_n if noise_n else 0.0
    observed = max(0.0, rate - noise_rate) if n else None
    # Without noise samples the bound says nothing about what is the legacy's own.
    lower = None
    if n and noise_n:
        # It is never above the estimate: the rest is spared where it cannot matter.
        lower = excess_low(count, n, noise_count, noise_n, Z) if rate - noise_rate > 0 else 0.0
    counted = f"{count} of {n} compared, noise {noise_count} of {noise_n}"

    def finding(verdict: Verdict, text: str) -> Finding:
        return Finding(name, verdict, n, needed, observed, lower, allowed, text)

    if n >= needed_to_fail and lower is not None and lower > allowed:
        text = f"{what}: at least {lower:.2%} in excess of noise, {allowed:.2%} allowed ({counted})"
        return finding("fail", f"{name}: {text}")
    if n < needed:
        return finding("insufficient", f"not enough samples: {n} of {needed} compared")
    if observed is not None and observed <= allowed:
        return finding("pass", f"{what} within {allowed:.2%} ({counted})")
    why = "not sure yet" if noise_n else "the legacy's own noise is not known yet"
    return finding("insufficient", f"{what} above {allowed:.2%}, {why} ({counted})")


def _errors(plan: RolloutTable, evidence: Evidence) -> Finding:
    count, n, allowed = evidence.errors, evidence.answers, plan.error_rate
    rate = count / n if n else None
    lower = wilson(count, n, Z)[0] if n else None

    def finding(verdict: Verdict, text: str) -> Finding:
        return Finding("error_rate", verdict, n, plan.min_samples, rate, lower, allowed, text)

    if n < plan.min_samples or rate is None or lower is None:
        return finding("insufficient", f"not enough samples: {n} of {plan.min_samples} answers")
    counted = f"{count} of {n} answers"
    if lower > allowed:
        return finding(
            "fail", f"error_rate: at least {lower:.2%} errors, {allowed:.2%} allowed ({counted})"
        )
    if rate <= allowed:
        return finding("pass", f"errors within {allowed:.2%} ({counted})")
    return finding("insufficient", f"errors above {allowed:.2%}, not sure yet ({counted})")


def _latency(plan: RolloutTable, evidence: Evidence) -> Finding:
    n, allowed, p95_ms = evidence.timed, plan.p95_ms, evidence.p95_ms
    slower = evidence.slower_than(allowed)
    lower = wilson(slower, n, Z)[0] if n else None

    def finding(verdict: Verdict, text: str) -> Finding:
        return Finding("p95_ms", verdict, n, plan.min_samples, p95_ms, lower, allowed, text)

    if n < plan.min_samples or p95_ms is None or lower is None:
        return finding(
            "insufficient", f"not enough samples: {n} of {plan.min_samples} answers timed"
        )
    counted = f"{slower} of {n} answers slower than {allowed:g} ms"
    if lower > _SLOW_SHARE:
        return finding("fail", f"p95_ms: about {p95_ms:.0f} ms, {allowed:g} ms allowed ({counted})")
    if p95_ms <= allowed:
        return finding("pass", f"p95 about {p95_ms:.0f} ms ({counted})")
    return finding(
        "insufficient", f"p95 about {p95_ms:.0f} ms, above {allowed:g} ms, not sure yet ({counted})"
    )
