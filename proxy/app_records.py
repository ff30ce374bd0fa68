"""Opens what outlives the process: the state in force, and the ledger of comparisons."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from proxy.app_start import check_state
from proxy.cache.redis_connection import RedisConnection
from proxy.clock import Clock
from proxy.rollout.journal import Journal
from proxy.rollout.ledger import Ledger
from proxy.rollout.ledger_file import LedgerFile
from proxy.rollout.redaction import redact
from proxy.rollout.redis_ledger import RedisLedger
from proxy.rollout.state_file import StateFile
from proxy.settings import Settings
from proxy.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Records:
    """What outlives the process. Opened before the tasks that write there.

    `workers` is where the workers of one supervisor follow each other.
    """

    path: Path
    file: StateFile
    workers: StateFile | None
    ledger: Ledger
    journal: Journal
    redis: RedisConnection | None


async def open_records(
    stack: AsyncExitStack,
    settings: Settings,
    redis: RedisConnection | None,
    telemetry: Telemetry,
    clock: Clock,
    workers_path: Path | None,
) -> Records:
    check_state(settings)
    file = await stack.enter_async_context(StateFile(settings.state))
    workers = None
    if workers_path is not None:
        workers = await stack.enter_async_context(StateFile(workers_path, is_durable=False))
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
    return Records(settings.state, file, workers, ledger, journal, redis)
