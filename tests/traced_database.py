"""A Database whose connections note each statement that SQLite runs, as SQLite sees it."""

from dataclasses import dataclass, field
from typing import Any

import apsw

from proxy.backends.database import Database


@dataclass(slots=True)
class TracedDatabase(Database):
    """`begun` and `ended` hold the SQL, `steps` what each ended one cost in SQLite's own steps."""

    begun: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    opened: int = 0

    def open(self) -> apsw.Connection:
        # Not super(): a slotted dataclass is another class than the one that was written down.
        connection = Database.open(self)
        connection.trace_v2(apsw.SQLITE_TRACE_STMT | apsw.SQLITE_TRACE_PROFILE, self._note)
        self.opened += 1
        return connection

    def forget(self) -> None:
        for noted in (self.begun, self.ended, self.steps):
            noted.clear()

    def _note(self, event: dict[str, Any]) -> None:
        if event["code"] == apsw.SQLITE_TRACE_STMT:
            self.begun.append(event["sql"])
        else:
            self.ended.append(event["sql"])
            self.steps.append(event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"])
