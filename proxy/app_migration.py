"""Composes the migration: what is in force, the shadow, the ledger and their admin rooms."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from proxy.app_admin import AdminRooms
from proxy.app_ground import Ground
from proxy.app_path import ReadPath
from proxy.app_records import Records
from proxy.app_shadow import make_shadow
from proxy.app_start import refuse_newer_state
from proxy.cache.duty import Duty
from proxy.cache.file_duty import FileDuty
from proxy.cache.redis_duty import RedisDuty
from proxy.errors import SettingsError, StoreError
from proxy.handlers.admin_diffs import AdminDiffs
from proxy.handlers.admin_rollout import AdminRollout
from proxy.handlers.admin_split import AdminSplit
from proxy.handlers.sampling import Sampling
from proxy.rollout.contract import propose
from proxy.rollout.redis_state import RedisState
from proxy.rollout.rollout import RolloutGuard, Tell, tell_nobody
from proxy.rollout.shadow import Shadow
from proxy.rollout.state import MigrationState
from proxy.rollout.steering import Dealing, Steering
from proxy.rollout.turn import Turn
from proxy.rollout.webhook import Webhook
from proxy.settings_tables import RolloutTable
from proxy.telemetry import Telemetry

_GUARD_DUTY_S = 5.0


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


async def compose_migration(ground: Ground, path: ReadPath) -> Migration:
    """Raises SettingsError when the state of an earlier run cannot be understood."""
    settings, records, background = ground.settings, ground.records, ground.background
    shared = None if records.redis is None else RedisState(records.redis)
    await refuse_newer_state(shared)
    steering = Steering(
        records.file,
        shared,
        background,
        ground.clock,
        workers=records.workers,
        process=uuid.uuid4().hex,
        percent=settings.split_percent,
        shadow_rate=settings.shadow_rate,
        dealing=Dealing(settings.split.identity, settings.split.salt),
    )
    try:
        await steering.start(
            is_damaged=lambda: records.file.was_damaged, has_legacy=ground.legacy_url is not None
        )
    except StoreError as error:
        raise SettingsError(f"PROXY_STATE: {error}") from error
    background.spawn(steering.follow(), name="steering", endless=True)
    background.spawn(records.journal.follow(), name="journal", endless=True)
    sampling = None
    shadow = make_shadow(ground, path)
    if shadow is not None:
        shadow.start(background, concurrency=settings.shadow.concurrency)
        sampling = Sampling(shadow, path.read_through, records.journal)
    guard = None
    tell = tell_nobody
    if settings.rollout is not None:
        if settings.rollout.webhook:
            tell = Webhook(settings.rollout.webhook, ground.session, background).tell
        guard = _guard(ground, settings.rollout, steering, tell)
        background.spawn(guard.follow(), name="guard", endless=True)
    return Migration(steering, records, shadow, sampling, guard, tell)


def _guard(ground: Ground, plan: RolloutTable, steering: Steering, tell: Tell) -> RolloutGuard:
    records, clock = ground.records, ground.clock
    duty: Duty = FileDuty(records.path.with_name(f"{records.path.name}.guard"), ttl_s=_GUARD_DUTY_S)
    if records.redis is not None:
        duty = RedisDuty(records.redis, "guard", ttl_s=_GUARD_DUTY_S)
    return RolloutGuard(
        plan,
        steering,
        records.ledger,
        records.journal,
        Turn(duty, clock),
        ground.background,
        ground.telemetry,
        clock,
        tell=tell,
    )
