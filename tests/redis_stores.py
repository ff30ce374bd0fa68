"""The proxy's Redis tier as tests make it."""

from proxy.cache.redis import RedisStore
from proxy.clock import Clock
from proxy.telemetry import Telemetry
from tests.clocks import HandClock

LONG_S = 20.0
"""For calls that are not to run into their limit, however busy the machine is."""


def store_at(
    url: str,
    *,
    telemetry: Telemetry | None = None,
    clock: Clock | None = None,
    entry_ttl_s: float = 600,
    timeout_s: float = LONG_S,
    max_connections: int = 16,
) -> RedisStore:
    """On a clock that stands still, where none is given."""
    return RedisStore(
        url,
        telemetry=telemetry or Telemetry(),
        clock=clock or HandClock(),
        entry_ttl_s=entry_ttl_s,
        timeout_s=timeout_s,
        connect_timeout_s=timeout_s,
        max_connections=max_connections,
    )
