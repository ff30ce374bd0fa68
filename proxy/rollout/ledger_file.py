"""LedgerFile: the ledger in the proxy's own SQLite file, for processes of one machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import apsw
import structlog

from proxy.rollout.ledger import (
    MOST_DAYS,
    MOST_SAMPLE_BYTES,
    MOST_SAMPLES,
    Batch,
    Sample,
    SampleHead,
)
from proxy.rollout.own_file import OwnFile
from proxy.rollout.sample_codec import NewerSampleError, head_from_json, head_to_json
from proxy.rollout.tallies import MOST_NAMES, Tally, bounded

log = structlog.get_logger(__name__)

_MOST_WRITERS = 1000
"""Processes whose last batch is remembered; one that has not written for so long is gone."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger_counts (
    day TEXT NOT NULL, name TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (day, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger_maxima (
    day TEXT NOT NULL, name TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (day, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger_writers (
    writer TEXT PRIMARY KEY, number INTEGER NOT NULL, turn INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS ledger_samples (
    id TEXT PRIMARY KEY, at REAL NOT NULL, is_mismatched INTEGER NOT NULL, bytes INTEGER NOT NULL,
    head BLOB NOT NULL, control BLOB NOT NULL, candidate BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS ledger_samples_by_age ON ledger_samples (is_mismatched, at, id);
"""
_ADD_COUNT = """
INSERT INTO ledger_counts VALUES (?, ?, ?)
ON CONFLICT (day, name) DO UPDATE SET count = count + excluded.count
"""
_ADD_MAXIMUM = """
INSERT INTO ledger_maxima VALUES (?, ?, ?)
ON CONFLICT (day, name) DO UPDATE SET value = max(value, excluded.value)
"""
_ADD_WRITER = """
REPLACE INTO ledger_writers
VALUES (?, ?, (SELECT ifnull(max(turn), 0) + 1 FROM ledger_writers))
"""
_FORGET_WRITERS = """
DELETE FROM ledger_writers WHERE turn <= (
    SELECT turn FROM ledger_writers ORDER BY turn DESC LIMIT 1 OFFSET ?
)
"""
_FIRST_DAY_KEPT = """
SELECT day FROM (SELECT DISTINCT day FROM ledger_counts) ORDER BY day DESC LIMIT 1 OFFSET ?
"""
_FORGET_SAMPLES = """
DELETE FROM ledger_samples WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER ages AS place, sum(bytes) OVER ages AS held
        FROM ledger_samples WHERE is_mismatched = ?
        WINDOW ages AS (ORDER BY at DESC, id DESC ROWS UNBOUNDED PRECEDING)
    ) WHERE place > 1 AND (place > ? OR held > ?)
)
"""


class LedgerFile:
    """Each change is one transaction. Where nothing was ever compared nothing is written.

    A power cut may lose what was added in the last moments, never leave half of it.
    """

    def __init__(self, path: Path) -> None:
        self._file = OwnFile(path, _SCHEMA, is_durable=False)

    async def add(self, batch: Batch) -> None:
        await self._file.write(lambda db: _add(db, batch))

    async def keep(self, sample: Sample) -> None:
        await self._file.write(lambda db: _keep(db, sample))

    async def tallies(self, since: str | None = None) -> Mapping[str, Tally]:
        return await self._file.read(lambda db: _tallies(db, since or "")) or {}

    async def heads(self) -> Sequence[SampleHead]:
        found = await self._file.read(
            lambda db: list(db.execute("SELECT head FROM ledger_samples ORDER BY at DESC, id DESC"))
        )
        heads = [_head(bytes(data)) for (data,) in found or ()]
        return [head for head in heads if head is not None]

    async def sample(self, sample_id: str) -> Sample | None:
        sql = "SELECT head, control, candidate FROM ledger_samples WHERE id = ?"
        row = await self._file.read(lambda db: db.execute(sql, (sample_id,)).fetchone())
        head = None if row is None else _head(bytes(row[0]))
        return None if row is None or head is None else Sample(head, bytes(row[1]), bytes(row[2]))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._file.__aexit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"<LedgerFile {self._file!r}>"


def _add(db: apsw.Connection, batch: Batch) -> None:
    sql = "SELECT number FROM ledger_writers WHERE writer = ?"
    last = db.execute(sql, (batch.writer,)).fetchone()
    if last is not None and last[0] >= batch.number:
        return
    db.execute(_ADD_WRITER, (batch.writer, batch.number))
    db.execute(_FORGET_WRITERS, (_MOST_WRITERS,))
    for day, added in batch.tallies.items():
        known = {
            name for (name,) in db.execute("SELECT name FROM ledger_counts WHERE day = ?", (day,))
        }
        tally = bounded(added, known, MOST_NAMES)
        db.executemany(_ADD_COUNT, [(day, *item) for item in tally.counts.items()])
        db.executemany(_ADD_MAXIMUM, [(day, *item) for item in tally.maxima.items()])
    if (oldest := db.execute(_FIRST_DAY_KEPT, (MOST_DAYS - 1,)).fetchone()) is not None:
        db.execute("DELETE FROM ledger_counts WHERE day < ?", oldest)
        db.execute("DELETE FROM ledger_maxima WHERE day < ?", oldest)


def _keep(db: apsw.Connection, sample: Sample) -> None:
    head = head_to_json(sample.head)
    held = len(head) + len(sample.control) + len(sample.candidate)
    is_mismatched = sample.head.is_mismatched
    row = (sample.head.id, sample.head.at, is_mismatched, held, head)
    db.execute(
        "REPLACE INTO ledger_samples VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*row, sample.control, sample.candidate),
    )
    db.execute(_FORGET_SAMPLES, (is_mismatched, MOST_SAMPLES, MOST_SAMPLE_BYTES))


def _tallies(db: apsw.Connection, since: str) -> dict[str, Tally]:
    counts: dict[str, dict[str, int]] = {}
    maxima: dict[str, dict[str, float]] = {}
    for day, name, count in db.execute("SELECT * FROM ledger_counts WHERE day >= ?", (since,)):
        counts.setdefault(day, {})[name] = count
    for day, name, value in db.execute("SELECT * FROM ledger_maxima WHERE day >= ?", (since,)):
        maxima.setdefault(day, {})[name] = value
    return {day: Tally(counts[day], maxima.get(day, {})) for day in sorted(counts)}


def _head(data: bytes) -> SampleHead | None:
    try:
        return head_from_json(data)
    except NewerSampleError:
        return None
    except ValueError as error:
        log.warning("sample_is_rubbish", where="file", error=str(error))
        return None
