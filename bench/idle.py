"""What an idle proxy costs: share of a core while nothing is asked and nothing changes."""

import time
from pathlib import Path

from bench.servers import proxy

_SETTLE_S = 12.0


def measure_idle(database: Path, seconds: float) -> float:
    """Percent of one core over `seconds`, after the first looks are done."""
    with proxy(database) as server:
        time.sleep(_SETTLE_S)
        before = server.cpu_s()
        time.sleep(seconds)
        return (server.cpu_s() - before) / seconds * 100
