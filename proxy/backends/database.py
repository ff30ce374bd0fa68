"""The pipeline's file as all readers in this process see it: where, which schema, which opening."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import apsw

from proxy.backends.schema import Schema, read_schema
from proxy.errors import BackendError, BackendTimeout, BackendUnavailable

_BUSY_TIMEOUT_MS = 100
_CACHE_KIB = 65_536


@dataclass(slots=True)
class Database:
    """Shared by the readers of one file. Raising `opening` makes each of them open it anew.

    `replaced_at` is the opening since which the file is the one it is now.
    `has_foreign_wal`: the log beside it belongs to the file before.
    """

    path: Path
    meta_path: Path | None = None
    schema: Schema | None = None
    opening: int = 0
    replaced_at: int = 0
    has_foreign_wal: bool = False
    holders: list[Callable[[], None]] = field(default_factory=list)
    """Who holds a connection: called to let go of it when the file proves unreadable."""

    def open(self) -> apsw.Connection:
        """A read-only connection, the Meta database attached as `meta` where it is there.

        Raises apsw.Error.
        """
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_NOMUTEX
        # An immutable file is read without its log.
        more = "&immutable=1" if self.has_foreign_wal else ""
        connection = apsw.Connection(_uri(self.path) + more, flags=flags)
        try:
            connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
            connection.pragma("query_only", True)
            connection.pragma("cache_size", -_CACHE_KIB)
            connection.pragma("temp_store", 2)
            if self.meta_path is not None and self.meta_path.exists():
                connection.execute("ATTACH ? AS meta", (_uri(self.meta_path),))
        except BaseException:
            connection.close()
            raise
        return connection

    def read_schema(self, connection: apsw.Connection) -> Schema:
        """Look at the schema through `connection` and keep it for everybody."""
        self.schema = read_schema(connection)
        return self.schema

    def let_go(self) -> None:
        """Have every connection closed: the last one takes what SQLite remembers of the file."""
        for holder in self.holders:
            holder()

    def reopen(self, *, is_another: bool) -> None:
        self.schema = None
        self.opening += 1
        if is_another:
            self.replaced_at = self.opening


def translated(error: apsw.Error) -> BackendError:
    """What SQLite says, in the project's words."""
    if isinstance(error, apsw.InterruptError):
        return BackendTimeout("the statement took longer than its limit", reason="sql_timeout")
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return BackendUnavailable("the database is locked", reason="locked")
    if isinstance(error, apsw.CantOpenError):
        return BackendUnavailable("the database is not there", reason="no_database")
    return BackendError(f"SQLite: {error}", reason="sql_error")


def _uri(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}?mode=ro"
