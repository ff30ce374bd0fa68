"""The proxy's own small SQLite file, reached through one thread. What it holds others know."""

import asyncio
import os
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import apsw
import structlog

from proxy.errors import StoreError
from proxy.rollout.shared_state import NewerStateError

T = TypeVar("T")
log = structlog.get_logger(__name__)

STEPS: tuple[str, ...] = ()
"""Each brings a file from one form to the next. It meets files that lack some of the tables."""
FORM = 1 + len(STEPS)
"""PRAGMA user_version of the file: one form for all that is kept in it."""
WHAT_TO_DO = (
    "Start that version again, or name another file in PROXY_STATE: "
    "that begins without the split, the rollback and the samples of this one"
)
_BUSY_MS = 5000
_WAL_TRIES, _WAL_PAUSE_S = 100, 0.02
_DAMAGED = (apsw.CorruptError, apsw.NotADBError)
# Not when it is locked: who does that may be about to write.
_UNWRITABLE = (apsw.CantOpenError, apsw.FullError, apsw.IOError, apsw.ReadOnlyError)


class NewerFileError(NewerStateError):
    """The file was written by a newer version of the proxy. It is left as it is."""


class OwnFile:
    """Runs work on a connection to `path`, one piece at a time, in a thread of its own.

    The file is made at the first write, not before; deleted or replaced while
    it is open, it is opened anew. A damaged one is moved aside to
    `NAME.damaged`, `was_damaged` tells, and a new one begins. One of an older
    form is brought to ours; one of a newer form is refused, also when it
    becomes so while it is open. All else that goes wrong is a StoreError.
    Cancelled while it waits, work that has begun is still done.
    """

    def __init__(self, path: Path, schema: str, *, is_durable: bool) -> None:
        self.path = path
        self.was_damaged = False
        self._schema = schema
        texts = schema.split("CREATE TABLE IF NOT EXISTS ")[1:]
        self._wanted = {text.split("(")[0].strip() for text in texts}
        self._is_durable = is_durable
        self._db: apsw.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._has_schema = False
        self._is_closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="own-file")

    async def read(self, work: Callable[[apsw.Connection], T]) -> T | None:
        """What `work` returns; None when there is no file, or nothing of this kind in it."""
        return await self._in_thread(lambda: self._read(work))

    async def look(self, work: Callable[[apsw.Connection], T]) -> T | None:
        """As `read`, also where SQLite wants to write before it reads and cannot.

        So it is on a full disk and on a read-only one, unless something there
        waits to be brought in from beside the file: that is a StoreError.
        """
        return await self._in_thread(lambda: self._look(work))

    async def write(self, work: Callable[[apsw.Connection], T]) -> T:
        """What `work` returns, once it is committed. One writer at a time, over all processes."""
        return await self._in_thread(lambda: self._write(work))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        if self._is_closed:
            raise StoreError(f"{self.path} is closed: the proxy leaves")
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _read(self, work: Callable[[apsw.Connection], T]) -> T | None:
        try:
            is_begun = _is_begun(self.path)
        except OSError as error:
            self._close()
            raise StoreError(f"{self.path}: {error.strerror}") from error
        if not is_begun:
            self._close()
            return None
        return self._guarded(lambda db: work(db) if self._is_ready(db) else None)

    def _look(self, work: Callable[[apsw.Connection], T]) -> T | None:
        try:
            return self._read(work)
        except NewerStateError:
            raise
        except StoreError as error:
            if not (isinstance(error.__cause__, _UNWRITABLE) and _is_at_rest(self.path)):
                raise
            try:
                return self._look_only(work)
            except apsw.Error:
                pass
            raise

    def _look_only(self, work: Callable[[apsw.Connection], T]) -> T | None:
        # Each time anew: SQLite takes for granted that such a file never changes.
        uri = f"{self.path.absolute().as_uri()}?immutable=1"
        db = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        try:
            _refuse_newer(db, self.path)
            return work(db) if self._wanted <= _tables(db) else None
        finally:
            db.close()

    def _write(self, work: Callable[[apsw.Connection], T]) -> T:
        def in_transaction(db: apsw.Connection) -> T:
            db.execute("BEGIN IMMEDIATE")
            try:
                _refuse_newer(db, self.path)
                if not self._has_schema:
                    db.execute(self._schema)
                    db.execute(f"PRAGMA user_version = {FORM}")
                done = work(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            self._has_schema = True
            return done

        return self._guarded(in_transaction)

    def _guarded(self, work: Callable[[apsw.Connection], T]) -> T:
        try:
            try:
                return work(self._opened())
            except _DAMAGED as error:
                self._move_aside(error)
                return work(self._opened())
        except (apsw.Error, OSError) as error:
            self._close()
            raise StoreError(f"{self.path}: {type(error).__name__}: {error}") from error

    def _opened(self) -> apsw.Connection:
        if self._db is not None and _inode(self.path) == self._inode:
            return self._db
        self._close()
        # Looked at first: when this one proves damaged, another process may
        # have put a new one in its place, which is not to be moved aside.
        self._inode = _inode(self.path)
        db = apsw.Connection(str(self.path))
        try:
            db.set_busy_timeout(_BUSY_MS)
            # Before anything is changed in it.
            _refuse_newer(db, self.path)
            _use_wal(db)
            db.execute(f"PRAGMA synchronous = {'FULL' if self._is_durable else 'NORMAL'}")
            _bring_up(db)
        except BaseException:
            db.close()
            raise
        self._db, self._inode, self._has_schema = db, _inode(self.path), False
        return db

    def _is_ready(self, db: apsw.Connection) -> bool:
        # Asked each time: a newer version may be at work on it as well.
        _refuse_newer(db, self.path)
        if not self._has_schema:
            self._has_schema = self._wanted <= _tables(db)
        return self._has_schema

    def _move_aside(self, error: apsw.Error) -> None:
        held = self._inode
        self._close()
        if _inode(self.path) != held:
            # Another process has moved it already.
            return
        self.was_damaged = True
        log.error("state_file_damaged", path=str(self.path), error=str(error))
        for ending in ("", "-wal", "-shm"):
            part = Path(f"{self.path}{ending}")
            if part.exists():
                os.replace(part, f"{self.path}.damaged{ending}")

    def _close(self) -> None:
        db, self._db, self._inode, self._has_schema = self._db, None, None, False
        if db is not None:
            try:
                db.close()
            except apsw.Error as error:
                log.warning("state_file_not_closed", path=str(self.path), error=str(error))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._in_thread(self._close)
        self._is_closed = True
        self._thread.shutdown(wait=False)

    def __repr__(self) -> str:
        return f"<OwnFile {self.path.name} open={self._db is not None}>"


def _refuse_newer(db: apsw.Connection, path: Path) -> None:
    form = db.execute("PRAGMA user_version").get
    if form > FORM:
        raise NewerFileError(
            f"{path} was written by a newer version "
            f"(form {form}; this one knows up to {FORM}). {WHAT_TO_DO}"
        )


def _bring_up(db: apsw.Connection) -> None:
    """Bring a file of an older form to ours, all at once or not at all."""
    if not 0 < db.execute("PRAGMA user_version").get < FORM:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have come first.
        for step in STEPS[db.execute("PRAGMA user_version").get - 1 :]:
            db.execute(step)
        db.execute(f"PRAGMA user_version = {FORM}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _tables(db: apsw.Connection) -> set[str]:
    rows = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {str(name) for (name,) in rows}


def _use_wal(db: apsw.Connection) -> None:
    """Two that make a new file at once: here SQLite refuses one of them instead of waiting."""
    for _ in range(_WAL_TRIES - 1):
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except apsw.BusyError:
            time.sleep(_WAL_PAUSE_S)
        else:
            return
    db.execute("PRAGMA journal_mode = WAL")


def _is_begun(path: Path) -> bool:
    """Whether anything was ever written there: on a full disk an empty file may be left.

    Raises OSError where that cannot be told.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return found.st_size > 0 or not stat.S_ISREG(found.st_mode)


def _is_at_rest(path: Path) -> bool:
    """Whether all that was ever written is in the file itself."""
    parts = [Path(f"{path}{ending}") for ending in ("-wal", "-journal")]
    return not any(os.path.lexists(part) and part.stat().st_size for part in parts)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
