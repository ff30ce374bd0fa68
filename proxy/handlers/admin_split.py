"""/admin/split, /admin/rollback and /admin/shadow: who gets which side's answers, and how many."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from proxy.audit import Audit
from proxy.clock import Clock
from proxy.errors import RequestError
from proxy.handlers.admin_request import Asked, instant, read_asked, respond
from proxy.rollout.ramp import Event
from proxy.rollout.rollout import Tell, tell_nobody
from proxy.rollout.state import (
    Cause,
    Change,
    MigrationState,
    lifted,
    rolled_back,
    with_percent,
    with_shadow_rate,
)
from proxy.rollout.steering import Steering, Transition
from proxy.telemetry import Telemetry

_Shown = Callable[[MigrationState], dict[str, Any]]


class AdminSplit:
    """Each change is in force in every process that can be reached when it is answered.

    What the audit list says of it is noted when it is in force here, also when
    its caller has gone by then. `tell` hears of a rollback and of its
    end, not of a second rollback.
    """

    def __init__(
        self,
        steering: Steering,
        audit: Audit,
        clock: Clock,
        telemetry: Telemetry,
        *,
        tell: Tell = tell_nobody,
    ) -> None:
        self._steering = steering
        self._audit = audit
        self._clock = clock
        self._telemetry = telemetry
        self._tell = tell

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/split", self._show_split),
            web.post("/split", self._set_percent),
            web.post("/rollback", self._roll_back),
            web.delete("/rollback", self._lift),
            web.get("/shadow", self._show_shadow),
            web.post("/shadow", self._set_rate),
        ]

    def as_json(self) -> dict[str, Any]:
        """`percent` is the one in force: 0 while rolled back. `history` has the newest first."""
        state = self._steering.state
        return {
            "percent": state.percent_in_force,
            "rolled_back": state.rolled_back,
            "changed_at": instant(state.changed_at),
            "author": state.author,
            "reason": state.reason,
            "is_kept": self._steering.is_kept,
            "history": [change_as_json(change) for change in reversed(state.history)],
        }

    def _shadow_as_json(self) -> dict[str, Any]:
        stamp = self._steering.state.shadow_stamp
        return {
            "rate": self._steering.state.shadow_rate,
            "changed_at": instant(stamp.at) if stamp.version else None,
            "author": stamp.author,
            "reason": stamp.reason,
            "is_kept": self._steering.is_kept,
        }

    async def _show_split(self, request: web.Request) -> web.Response:
        return respond(self.as_json())

    async def _show_shadow(self, request: web.Request) -> web.Response:
        return respond(self._shadow_as_json())

    async def _set_percent(self, request: web.Request) -> web.Response:
        asked = await read_asked(request, {"percent"})
        percent, cause = _number(asked, "percent", 100), self._cause(asked)
        await self._change("split", lambda state: with_percent(state, percent, cause), cause)
        return respond(self.as_json())

    async def _roll_back(self, request: web.Request) -> web.Response:
        cause = self._cause(await read_asked(request, ()))
        await self._change(
            "rollback", lambda state: rolled_back(state, cause), cause, is_urgent=True
        )
        return respond(self.as_json())

    async def _lift(self, request: web.Request) -> web.Response:
        cause = self._cause(await read_asked(request, ()))
        await self._change("lift", lambda state: lifted(state, cause), cause)
        return respond(self.as_json())

    async def _set_rate(self, request: web.Request) -> web.Response:
        asked = await read_asked(request, {"rate"})
        rate, cause = _number(asked, "rate", 1), self._cause(asked)
        await self._change(
            "shadow", lambda state: with_shadow_rate(state, rate, cause), cause, _shadow_in_short
        )
        return respond(self._shadow_as_json())

    async def _change(
        self,
        action: str,
        transition: Transition,
        cause: Cause,
        shown: _Shown | None = None,
        *,
        is_urgent: bool = False,
    ) -> None:
        in_short = shown or _split_in_short

        def note(before: MigrationState, after: MigrationState) -> None:
            if action == "rollback":
                self._telemetry.rollbacks.labels("operator").inc()
            self._audit.note(
                action,
                author=cause.author,
                reason=cause.reason,
                before=in_short(before),
                after=in_short(after),
            )
            if before.rolled_back != after.rolled_back:
                self._tell(_event(action, after, cause))

        await self._steering.change(transition, is_urgent=is_urgent, done=note)

    def _cause(self, asked: Asked) -> Cause:
        return Cause(asked.author, asked.reason, self._clock.now())


def change_as_json(change: Change) -> dict[str, Any]:
    return {
        "at": instant(change.at),
        "author": change.author,
        "action": change.action,
        "percent": change.percent,
        "reason": change.reason,
    }


def _split_in_short(state: MigrationState) -> dict[str, Any]:
    return {"percent": state.percent_in_force, "rolled_back": state.rolled_back}


def _event(action: str, state: MigrationState, cause: Cause) -> Event:
    return Event(
        action,
        cause.at,
        state.percent_in_force,
        state.rollout.step,
        cause.reason,
        cause.author,
    )


def _shadow_in_short(state: MigrationState) -> dict[str, Any]:
    return {"rate": state.shadow_rate}


def _number(asked: Asked, name: str, most: int) -> float:
    value = asked.fields.get(name)
    # Asked this way round, NaN does not pass either.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise RequestError(f"Invalid {name} field. Must be a number, 0 to {most}")
    return float(value)
