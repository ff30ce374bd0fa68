"""`python -m tests.later_version` is a `python -m proxy` of a version that is still to come.

It lays out entries, leases and the ledger otherwise, answers under another
version, and adds a register to the state of the migration: what was last done.
"""

from dataclasses import replace

import orjson

import proxy

proxy.__version__ = "99.0.0"

from proxy.cache import codec  # noqa: E402 (patched before anybody has its values)

codec.VERSION += 1

from proxy.cache import redis_connection  # noqa: E402
from proxy.rollout import state as states  # noqa: E402
from proxy.rollout.registers import Register  # noqa: E402
from proxy.rollout.state import MigrationState, Stamp  # noqa: E402

redis_connection.LEDGER_FORM += 1
_as_it_was = states._noted


def _noted(state: MigrationState, stamp: Stamp, action: str) -> MigrationState:
    changed = _as_it_was(state, stamp, action)
    value = orjson.dumps({"did": action})
    last = Register(stamp.version, stamp.at, stamp.author, stamp.reason, value)
    return replace(changed, more={**changed.more, "last": last})


states._noted = _noted

if __name__ == "__main__":
    from proxy.cli import main

    main()
