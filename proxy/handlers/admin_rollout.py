"""/admin/rollout: how far the plan has come, why it holds, and what operators ask of it."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, get_args

from aiohttp import web

from proxy.audit import Audit
from proxy.clock import Clock
from proxy.errors import RequestError
from proxy.handlers.admin_request import instant, read_asked, respond
from proxy.handlers.admin_split import change_as_json
from proxy.rollout.evidence import Evidence
from proxy.rollout.ramp import Asked
from proxy.rollout.rollout import RolloutGuard
from proxy.rollout.state import Cause, ConflictError, MigrationState

NO_TABLE = "there is no rollout: the configuration file has no [rollout] table"
_ACTIONS: tuple[Asked, ...] = get_args(Asked)


class AdminRollout:
    """`guard` is None where there is no [rollout] table; `state` tells what is in force."""

    def __init__(
        self,
        guard: RolloutGuard | None,
        audit: Audit,
        clock: Clock,
        *,
        state: Callable[[], MigrationState],
    ) -> None:
        self._guard = guard
        self._audit = audit
        self._clock = clock
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/rollout", self._read), web.post("/rollout", self._change)]

    def section(self) -> dict[str, Any]:
        """For /admin/status: what is known without asking the ledger."""
        state = self._state()
        rollout = state.rollout
        steps = [] if self._guard is None else list(self._guard.plan.steps)
        is_idle = self._guard is None
        return {
            "state": "idle" if is_idle else rollout.state,
            "percent": state.percent_in_force,
            "step": 0 if is_idle else rollout.step,
            "steps": steps,
            "verdict": "insufficient" if is_idle else rollout.verdict,
            "reason": NO_TABLE if is_idle else rollout.reason,
        }

    async def _read(self, request: web.Request) -> web.Response:
        return respond(await self._told())

    async def _change(self, request: web.Request) -> web.Response:
        asked = await read_asked(request, {"action"})
        action = asked.fields.get("action")
        if action not in _ACTIONS:
            raise RequestError(f"Invalid action field. Must be one of: {list(_ACTIONS)}")
        if self._guard is None:
            raise ConflictError(NO_TABLE)
        before = self.section()
        await self._guard.steer(action, Cause(asked.author, asked.reason, self._clock.now()))
        self._audit.note(
            f"rollout {action}",
            author=asked.author,
            reason=asked.reason,
            before=before,
            after=self.section(),
        )
        return respond(await self._told())

    async def _told(self) -> dict[str, Any]:
        if self._guard is None:
            return self.section() | {"thresholds": [], "evidence": None, "history": []}
        report = await self._guard.report()
        rollout = report.state.rollout
        plan = self._guard.plan
        is_begun = rollout.state not in ("idle", "rolled_back")
        return {
            "state": rollout.state,
            "percent": report.state.percent_in_force,
            "step": rollout.step,
            "steps": list(plan.steps),
            "verdict": report.decision.verdict,
            "reason": report.decision.reason,
            "since": instant(rollout.since) if is_begun else None,
            "interval_s": plan.interval_s,
            "thresholds": [asdict(finding) for finding in report.decision.findings],
            "evidence": None if report.evidence is None else _as_json(report.evidence),
            "history": [change_as_json(change) for change in reversed(rollout.history)],
        }


def _as_json(evidence: Evidence) -> dict[str, Any]:
    p95_ms = evidence.p95_ms
    return {
        "compared": evidence.compared,
        "mismatched": evidence.mismatched,
        "structural": evidence.structural,
        "noise_compared": evidence.noise_compared,
        "noise_mismatched": evidence.noise_mismatched,
        "noise_structural": evidence.noise_structural,
        "answers": evidence.answers,
        "errors": evidence.errors,
        "p95_ms": None if p95_ms is None else round(p95_ms, 3),
    }
