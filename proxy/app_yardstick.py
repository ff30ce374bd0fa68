"""Opens what both sides are compared with: a thread, the rules, the other rate mode."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from proxy.backends.database import Database
from proxy.backends.sqlite import SqliteBackend
from proxy.clock import Clock
from proxy.measures import Unit
from proxy.query import ShapeName
from proxy.rollout.compare import compare
from proxy.rollout.comparing import Comparing
from proxy.rollout.pace import Pace
from proxy.rollout.rate_modes import closer
from proxy.rollout.rules import Rules, rules_of
from proxy.settings import Settings
from proxy.shapes import Shape
from proxy.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What the shadow's workers compare with. Opened before them, so that they end first."""

    pace: Pace
    comparing: Comparing
    other_mode: SqliteBackend


async def open_yardstick(
    stack: AsyncExitStack,
    settings: Settings,
    database: Database,
    shapes: dict[ShapeName, Shape],
    telemetry: Telemetry,
    clock: Clock,
) -> Yardstick | None:
    """None where there is no legacy to compare with."""
    if settings.legacy_url is None:
        return None
    rules = _rules(settings, shapes["analytics"])
    pace = Pace(clock)
    comparing = await stack.enter_async_context(
        Comparing(
            partial(compare, rules=rules),
            partial(closer, rules=rules),
            rate_mode=settings.rate_mode,
            spent=pace.spent,
        )
    )
    other_mode = await stack.enter_async_context(
        SqliteBackend(
            database,
            shapes,
            telemetry,
            clock,
            rate_mode="ratio" if settings.rate_mode == "mean" else "mean",
            timeout_s=settings.query_timeout_s,
            lock_patience_s=0.5,
        )
    )
    return Yardstick(pace, comparing, other_mode)


def _rules(settings: Settings, shape: Shape) -> Rules:
    rates = (name for name, cell in shape.fields.items() if cell.unit is Unit.FRACTION)
    return rules_of(settings.compare, frozenset(rates))
