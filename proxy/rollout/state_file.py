"""StateFile: the state of the migration in a small SQLite file, for processes of one machine."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import apsw
import structlog

from proxy.rollout.own_file import WHAT_TO_DO, OwnFile
from proxy.rollout.shared_state import NewerStateError, merged_into
from proxy.rollout.state import MigrationState
from proxy.rollout.state_codec import NewerFormError, from_json, tag_of, to_json, version_of

log = structlog.get_logger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS migration (one INTEGER PRIMARY KEY CHECK (one = 1), body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS followers (process TEXT PRIMARY KEY, pid INTEGER, version INTEGER);
"""


class StateFile:
    """Written through to the disk before `write` returns. A process that is gone follows no more.

    Not `is_durable`: it outlives every process, but not a power cut.

    Where nothing was ever changed there is no file, and following costs nothing.
    """

    def __init__(self, path: Path, *, is_durable: bool = True) -> None:
        self._file = OwnFile(path, _SCHEMA, is_durable=is_durable)
        # What was said last, and where: a file that is made anew has not heard it.
        self._followed: tuple[apsw.Connection, str, str] | None = None
        self._seen: tuple[apsw.Connection, int, str | None] | None = None

    @property
    def was_damaged(self) -> bool:
        """Whether a file was found that could not be read. It was moved aside."""
        return self._file.was_damaged

    async def read(self) -> MigrationState | None:
        return await self._file.look(self._kept)

    async def write(self, state: MigrationState) -> MigrationState:
        def merge(db: apsw.Connection) -> MigrationState:
            kept = self._kept(db)
            merged = merged_into(kept, state)
            if merged != kept:
                db.execute("REPLACE INTO migration VALUES (1, ?)", (to_json(merged),))
                # The data_version of a connection does not move with its own writes.
                self._seen = None
            return merged

        return await self._file.write(merge)

    async def follow(self, process: str, tag: str | None) -> str | None:
        met = await self._file.read(lambda db: (db, self._tag(db)))
        if met is None:
            return None
        db, found = met
        has_it = found is not None and found == tag
        # Each write is one to the disk: only what would say something new.
        is_known = self._followed is not None and self._followed[0] is db
        if found is not None and (has_it or not is_known):
            said = (process, found if has_it else "")
            if (db, *said) != self._followed:
                self._followed = await self._file.write(lambda db: self._put_follower(db, *said))
        return found

    async def followers(self) -> Mapping[str, int]:
        rows = await self._file.read(
            lambda db: list(db.execute("SELECT process, pid, version FROM followers"))
        )
        alive = [row for row in rows or () if _is_alive(row[1])]
        gone = [row[0] for row in rows or () if not _is_alive(row[1])]
        if gone:
            await self.forget(gone)
        return {str(process): int(version) for process, _, version in alive}

    async def forget(self, processes: Collection[str]) -> None:
        names = [(name,) for name in processes]
        there = await self._file.read(
            lambda db: db.execute("SELECT EXISTS (SELECT 1 FROM followers)").get
        )
        if there:
            await self._file.write(
                lambda db: db.executemany("DELETE FROM followers WHERE process = ?", names)
            )
        if self._followed is not None and self._followed[1] in processes:
            self._followed = None

    def _tag(self, db: apsw.Connection) -> str | None:
        """Without reading the row as long as no other connection has written."""
        moved = int(db.execute("PRAGMA data_version").get)
        if self._seen is None or self._seen[:2] != (db, moved):
            kept = self._kept(db)
            self._seen = (db, moved, None if kept is None else tag_of(kept))
        return self._seen[2]

    def _put_follower(
        self, db: apsw.Connection, process: str, tag: str
    ) -> tuple[apsw.Connection, str, str]:
        # Asked once more: another may have written since it was looked at.
        version = version_of(tag) if tag == self._tag(db) else 0
        row = (process, os.getpid(), version)
        db.execute("REPLACE INTO followers VALUES (?, ?, ?)", row)
        return db, process, tag

    def _kept(self, db: apsw.Connection) -> MigrationState | None:
        row = db.execute("SELECT body FROM migration").fetchone()
        if row is None:
            return None
        try:
            return from_json(bytes(row[0]))
        except NewerFormError as error:
            raise NewerStateError(
                f"{self._file.path} was written by a newer version ({error}). {WHAT_TO_DO}"
            ) from error
        except ValueError as error:
            log.error("state_is_rubbish", path=str(self._file.path), error=str(error))
            self._file.was_damaged = True
            return None

    async def __aenter__(self) -> Self:
        await self._file.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._file.__aexit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"<StateFile {self._file!r}>"


def _is_alive(pid: int) -> bool:
    """A first guess: a process of another container has a number of its own world."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
