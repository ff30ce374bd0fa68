"""Where the state of the migration is kept and shared between processes. Protocol only."""

from collections.abc import Collection, Mapping
from typing import Protocol

from proxy.errors import StoreError
from proxy.rollout.state import MigrationState, merge, renewed
from proxy.rollout.state_codec import to_json


class NewerStateError(StoreError):
    """What is there was written by a newer version of the proxy. It is left as it is."""


class SharedState(Protocol):
    """One state that many processes read and change. All raise StoreError.

    Nothing that is written gets lost, whoever writes at the same time: what is
    there is merged with what comes.
    """

    async def read(self) -> MigrationState | None:
        """None where nothing was ever written, or what is there is no state.

        NewerStateError for one of a later form, here as in `write` and `follow`.
        """
        ...

    async def write(self, state: MigrationState) -> MigrationState:
        """What is there afterwards: `state` merged with what was there before."""
        ...

    async def follow(self, process: str, tag: str | None) -> str | None:
        """Say that `process` follows; the tag of what is there, None for nothing.

        `tag` is of what it has in force. Only when that is what is there does
        it count as having its version: a number of its own may be another's too.
        """
        ...

    async def followers(self) -> Mapping[str, int]:
        """Each process that follows and seems to be alive, and the version it has from here.

        0 for one that has another than what was there when it last asked.
        """
        ...

    async def forget(self, processes: Collection[str]) -> None:
        """Do not count on them. One that is alive counts again when it has a newer version."""
        ...


def merged_into(kept: MigrationState | None, state: MigrationState) -> MigrationState:
    """What to keep in place of `kept` when `state` comes. Equal to `kept`: nothing to write.

    Whatever replaces another has a higher version: who has that version, or a
    later one of the same place, has all that was there before.
    """
    if kept is None:
        return state
    merged = merge(kept, state)
    if to_json(merged) == to_json(kept):
        return kept
    return merged if merged.version > kept.version else renewed(merged)
