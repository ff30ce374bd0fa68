"""Composes the migration: what is in force, the shadow, the ledger and their admin rooms."""

import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
from yarl import URL

from proxy.app_admin import AdminRooms
from proxy.app_shadow import Yardstick, make_shadow
from proxy.app_start import check_state, refuse_newer_state
from proxy.background import Background
from proxy.cache.duty import Duty
from proxy.cache.file_duty import FileDuty
from proxy.cache.redis_connection import RedisConnection
from proxy.cache.redis_duty import RedisDuty
from proxy.clock import Clock
from proxy.errors import SettingsError, StoreError
from proxy.handlers.admin_diffs import AdminDiffs
from proxy.handlers.admin_rollout import AdminRollout
from proxy.handlers.admin_split import AdminSplit
from proxy.handlers.sampling import Sampling
from proxy.query import ShapeName
from proxy.read_through import ReadThrough
from proxy.rollout.contract import propose
from proxy.rollout.journal import Journal
from proxy.rollout.ledger import Ledger
from proxy.rollout.ledger_file import LedgerFile
from proxy.rollout.redaction import redact
from proxy.rollout.redis_ledger import RedisLedger
from proxy.rollout.redis_state import RedisState
from proxy.rollout.rollout import RolloutGuard, Tell, tell_nobody
from proxy.rollout.shadow import Shadow
from proxy.rollout.state import MigrationState
from proxy.rollout.state_file import StateFile
from proxy.rollout.steering import Dealing, Steering
from proxy.rollout.turn import Turn
from proxy.rollout.webhook import Webhook
from proxy.settings import Settings
from proxy.settings_tables import RolloutTable
from proxy.shapes import Shape
from proxy.telemetry import Telemetry
from proxy.tracing.tracer import NO_TRACING, Tracer
from proxy.watermarks import Watermarks

_GUARD_DUTY_S = 5.0


@dataclass(frozen=True, slots=True)
class Records:
    """What outlives the process. Opened before the tasks that write there."""

    path: Path
    file: StateFile
    ledger: Ledger
    journal: Journal
    redis: RedisConnection | None


@dataclass(frozen=True, slots=True)
class Migration:
    """`sampling` and `shadow` are None where there is no other side to ask."""

    steering: Steering
    records: Records
    shadow: Shadow | None
    sampling: Sampling | None
    guard: RolloutGuard | None
    tell: Tell

    def listen(self, telemetry: Telemetry, forget: Callable[[], None]) -> None:
        """Have all follow what is in force. `forget` drops what was remembered of the split."""

        def changed(state: MigrationState) -> None:
            telemetry.split_percent.set(state.percent_in_force)
            telemetry.rolled_back.set(float(state.rolled_back))
            if self.shadow is not None:
                self.shadow.rate = state.shadow_rate
            forget()

        self.steering.listen(changed)
        changed(self.steering.state)

    def furnish(self, admin: AdminRooms) -> None:
        """Put the rooms of the migration into /admin, and what it knows into the status."""
        rooms = AdminSplit(self.steering, admin.audit, admin.clock, admin.telemetry, tell=self.tell)
        admin.rooms.append(rooms)
        admin.rooms.append(
            AdminDiffs(self.records.ledger, flush=self.records.journal.flush, propose=propose)
        )
        rollout = AdminRollout(
            self.guard, admin.audit, admin.clock, state=lambda: self.steering.state
        )
        admin.rooms.append(rollout)
        admin.sections["split"] = rooms.as_json
        admin.sections["rollout"] = rollout.section


async def open_records(
    stack: AsyncExitStack,
    settings: Settings,
    redis: RedisConnection | None,
    telemetry: Telemetry,
    clock: Clock,
) -> Records:
    check_state(settings)
    file = await stack.enter_async_context(StateFile(settings.state))
    ledger: Ledger
    if redis is None:
        ledger = await stack.enter_async_context(LedgerFile(settings.state))
    else:
        ledger = RedisLedger(redis)
    journal = await stack.enter_async_context(
        Journal(
            ledger,
            clock,
            telemetry,
            redact=redact,
            latencies=partial(telemetry.latencies, "analytics", "optimized")
            # With nobody to judge them they would only keep the disk busy.
            if settings.rollout is not None
            else dict,
        )
    )
    return Records(settings.state, file, ledger, journal, redis)


async def compose_migration(
    settings: Settings,
    records: Records,
    yardstick: Yardstick | None,
    background: Background,
    read_through: ReadThrough,
    watermarks: Watermarks,
    shapes: dict[ShapeName, Shape],
    legacy_url: URL | None,
    session: aiohttp.ClientSession,
    telemetry: Telemetry,
    clock: Clock,
    tracer: Tracer = NO_TRACING,
) -> Migration:
    """Raises SettingsError when the state of an earlier run cannot be understood."""
    shared = None if records.redis is None else RedisState(records.redis)
    await refuse_newer_state(shared)
    steering = Steering(
        records.file,
        shared,
        background,
        clock,
        process=uuid.uuid4().hex,
        percent=settings.split_percent,
        shadow_rate=settings.shadow_rate,
        dealing=Dealing(settings.split.identity, settings.split.salt),
    )
    try:
        await steering.start(
            is_damaged=lambda: records.file.was_damaged, has_legacy=legacy_url is not None
        )
    except StoreError as error:
        raise SettingsError(f"PROXY_STATE: {error}") from error
    background.spawn(steering.follow(), name="steering", endless=True)
    background.spawn(records.journal.follow(), name="journal", endless=True)
    shadow = sampling = None
    if legacy_url is not None and yardstick is not None:
        shadow = make_shadow(
            settings, records.journal, yardstick, read_through, watermarks, shapes,
            legacy_url, session, clock, tracer,
        )  # fmt: skip
        shadow.start(background, concurrency=settings.shadow.concurrency)
        sampling = Sampling(shadow, read_through, records.journal)
    guard = None
    tell = tell_nobody
    if settings.rollout is not None:
        if settings.rollout.webhook:
            tell = Webhook(settings.rollout.webhook, session, background).tell
        guard = _guard(settings.rollout, steering, records, tell, background, telemetry, clock)
        background.spawn(guard.follow(), name="guard", endless=True)
    return Migration(steering, records, shadow, sampling, guard, tell)


def _guard(
    plan: RolloutTable,
    steering: Steering,
    records: Records,
    tell: Tell,
    background: Background,
    telemetry: Telemetry,
    clock: Clock,
) -> RolloutGuard:
    duty: Duty = FileDuty(records.path.with_name(f"{records.path.name}.guard"), ttl_s=_GUARD_DUTY_S)
    if records.redis is not None:
        duty = RedisDuty(records.redis, "guard", ttl_s=_GUARD_DUTY_S)
    return RolloutGuard(
        plan,
        steering,
        records.ledger,
        records.journal,
        Turn(duty, clock),
        background,
        telemetry,
        clock,
        tell=tell,
    )
