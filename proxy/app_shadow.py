"""Composes the shadow: both sides, what compares them, and what they are compared by."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from random import Random

import aiohttp
from yarl import URL

from proxy.backends.database import Database
from proxy.backends.legacy import LegacyBackend
from proxy.backends.sqlite import SqliteBackend
from proxy.clock import Clock
from proxy.measures import Unit
from proxy.query import ShapeName
from proxy.read_through import ReadThrough
from proxy.rollout.compare import compare
from proxy.rollout.comparing import Comparing
from proxy.rollout.journal import Journal
from proxy.rollout.pace import Pace
from proxy.rollout.rate_modes import closer
from proxy.rollout.rules import Rules, rules_of
from proxy.rollout.shadow import Shadow
from proxy.rollout.sides import LegacySide, OptimizedSide
from proxy.settings import Settings
from proxy.shapes import Shape
from proxy.telemetry import Telemetry
from proxy.tracing.tracer import Tracer
from proxy.watermarks import Watermarks


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


def make_shadow(
    settings: Settings,
    journal: Journal,
    yardstick: Yardstick,
    read_through: ReadThrough,
    watermarks: Watermarks,
    shapes: dict[ShapeName, Shape],
    legacy_url: URL,
    session: aiohttp.ClientSession,
    clock: Clock,
    tracer: Tracer,
) -> Shadow:
    table = settings.shadow
    pace = yardstick.pace
    # A backend and a circuit of its own: what the shadow meets must not keep callers from asking.
    legacy = LegacyBackend(
        legacy_url, session, shapes, clock, timeout_s=table.timeout_s, tracer=tracer
    )
    return Shadow(
        LegacySide(legacy, pace, timeout_s=table.timeout_s),
        OptimizedSide(
            read_through,
            journal,
            clock,
            pace,
            timeout_s=table.timeout_s,
            other_mode=yardstick.other_mode,
        ),
        yardstick.comparing,
        watermarks,
        journal,
        pace,
        clock,
        chance=Random().random,
        queue=table.queue,
        noise_every=table.noise_every,
        tracer=tracer,
    )


def _rules(settings: Settings, shape: Shape) -> Rules:
    rates = (name for name, cell in shape.fields.items() if cell.unit is Unit.FRACTION)
    return rules_of(settings.compare, frozenset(rates))
