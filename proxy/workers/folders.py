"""The private directories of a supervisor: for its workers' sockets, and for what they share."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

from proxy.errors import SettingsError

MEMORY = Path("/dev/shm")
"""Where Linux keeps files in memory."""
_PREFIX = "dashboard-proxy-"
_LONGEST_FOLDER = 80
"""The path of a Unix socket has room for about 100 bytes."""
_ROOM = 256 * 1024
"""More than the state of a migration ever needs."""


@contextmanager
def own_folder() -> Iterator[Path]:
    """For the workers' own admin ports: nobody else may look in. Raises SettingsError."""
    try:
        made = Path(tempfile.mkdtemp(prefix=_PREFIX))
        if len(os.fsencode(made)) > _LONGEST_FOLDER:
            discard(made)
            made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))
    except OSError as error:
        raise SettingsError(
            f"PROXY_WORKERS above 1 needs a directory for temporary files (TMPDIR): {error}"
        ) from error
    try:
        yield made
    finally:
        discard(made)


@contextmanager
def shared_folder(instead: Path, memory: Path = MEMORY) -> Iterator[Path]:
    """For what workers share whatever becomes of the disk: in `memory`, or else `instead`.

    Made anew and removed at the end: what an earlier supervisor left is never found.
    """
    made = None
    try:
        made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=memory))
        room = made / "room"
        room.write_bytes(bytes(_ROOM))
        room.unlink()
    except OSError:
        if made is not None:
            discard(made)
        made = None
    try:
        yield made or instead
    finally:
        if made is not None:
            discard(made)


def state_path(folder: Path, kept: Path) -> Path:
    """The file in `folder` for those whose PROXY_STATE is `kept`; others begin without it."""
    name = blake2b(str(kept.absolute()).encode(), digest_size=8).hexdigest()
    return folder / f"state-{name}.db"


def discard(folder: Path) -> None:
    """Remove it. Who still writes there finds it no more: nothing is left behind."""
    with suppress(OSError):
        folder = folder.rename(folder.with_name(f"{folder.name}.gone"))
    shutil.rmtree(folder, ignore_errors=True)
