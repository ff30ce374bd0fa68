"""Commits: whether anybody has written to the database, or put another file in its place."""

import os
from contextlib import suppress

import apsw

from proxy.backends.database import Database, translated
from proxy.errors import BackendUnavailable
from proxy.looks import Counter


class Commits:
    """Holds one connection, used on the event loop alone, whose commit counter is looked at.

    Makes every reader open the database anew when another file has its name,
    and when the file itself was written: one that is copied over in place may
    show neither in the counter nor in what connections have cached. A
    checkpoint looks the same, and costs one opening. Raises BackendError while
    the database cannot be looked at.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._path = str(database.path)
        self._wal_path = f"{database.path}-wal"
        self._meta_path = None if database.meta_path is None else str(database.meta_path)
        self._held: apsw.Connection | None = None
        self._cursor: apsw.Cursor | None = None
        self._files: tuple[tuple[int, int], ...] = ()
        self._main: tuple[int, int] | None = None
        self._wal: tuple[int, int] | None = None
        self._pin: int | None = None
        self._written: tuple[int, int] = (0, 0)

    def counter(self) -> Counter:
        # Part of every hit: a cursor that is held saves half a microsecond, and so on.
        files, written = self._files_now()
        try:
            if self._cursor is not None and files == self._files and not self._has_own_log_now():
                # Before anything else: while it is locked there is nothing to open.
                counter = self._count()
                if written == self._written:
                    return counter
            self._open(files, written)
            self._written = written
            return self._count()
        except apsw.BusyError as error:
            raise translated(error) from error
        except apsw.Error as error:
            self._drop()
            self._database.let_go()
            raise translated(error) from error

    def close(self) -> None:
        self._unpin()
        self._drop()

    def _drop(self) -> None:
        held, self._held, self._cursor = self._held, None, None
        if held is not None:
            held.close()

    def _count(self) -> Counter:
        assert self._cursor is not None
        commits = self._cursor.execute("PRAGMA main.data_version").get
        if len(self._files) == 1:
            return (self._database.opening, commits)
        meta = self._cursor.execute("PRAGMA meta.data_version").get
        return (self._database.opening, commits, meta)

    def _open(self, files: tuple[tuple[int, int], ...], written: tuple[int, int]) -> None:
        is_foreign = self._is_log_foreign(files[0], written)
        if is_foreign:
            self._pin_log()
        self._drop()
        self._database.has_foreign_wal = is_foreign
        self._database.reopen(is_another=files != self._files)
        self._held = self._database.open()
        self._held.set_busy_timeout(0)
        self._cursor = self._held.cursor()
        self._files = files
        # The log comes with the first read, and stays while this connection is held.
        self._cursor.execute("PRAGMA main.schema_version").fetchall()
        self._main, self._wal = files[0], _identity(self._wal_path)
        if not is_foreign:
            self._unpin()

    def _is_log_foreign(self, main: tuple[int, int], written: tuple[int, int]) -> bool:
        """Whether the log beside `main` is that of the file before.

        A file moved into place beside the log of the one before: SQLite would
        read that log as the new file's own. Only one that was there under a
        held connection, or is pinned since, is surely not.
        """
        wal = _identity(self._wal_path)
        if wal is None or wal != self._wal or (self._held is None and self._pin is None):
            return False
        # A file that was away and is back, unwritten, is the one that it was.
        is_same = main == self._main and (self._held is not None or written == self._written)
        return self._database.has_foreign_wal if is_same else True

    def _has_own_log_now(self) -> bool:
        """Whether a log has come in the place of the one that was not the file's own."""
        return self._database.has_foreign_wal and _identity(self._wal_path) != self._wal

    def _pin_log(self) -> None:
        """Keep the log's inode: its number would be given to the next log, as like as not."""
        if self._pin is None:
            with suppress(OSError):
                self._pin = os.open(self._wal_path, os.O_RDONLY | os.O_CLOEXEC)

    def _unpin(self) -> None:
        pin, self._pin = self._pin, None
        if pin is not None:
            os.close(pin)

    def _files_now(self) -> tuple[tuple[tuple[int, int], ...], tuple[int, int]]:
        """Which files they are, and when and how long the first was last written."""
        try:
            found = os.stat(self._path)
        except OSError as error:
            if self._held is not None:
                self._pin_log()
            self._drop()
            self._database.let_go()
            # What comes back may be another file, even under the same number.
            self._files = ()
            raise BackendUnavailable("the database is not there", reason="no_database") from error
        main = (found.st_dev, found.st_ino)
        written = (found.st_mtime_ns, found.st_size)
        meta = None if self._meta_path is None else _identity(self._meta_path)
        return ((main,) if meta is None else (main, meta)), written

    def __repr__(self) -> str:
        return f"<Commits {self._database.path.name} held={self._held is not None}>"


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino)
