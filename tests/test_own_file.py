"""OwnFile: one small file, whatever becomes of it while it is open."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import pytest

from proxy.errors import StoreError
from proxy.rollout.own_file import NewerFileError, OwnFile

SCHEMA = "CREATE TABLE IF NOT EXISTS notes (text TEXT);"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "own.db"


@pytest.fixture
async def file(path: Path) -> AsyncIterator[OwnFile]:
    async with OwnFile(path, SCHEMA, is_durable=True) as file:
        yield file


def add(db: apsw.Connection) -> None:
    db.execute("INSERT INTO notes VALUES ('kept')")


def count(db: apsw.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM notes").get)


def rubbish(db: apsw.Connection) -> int:
    raise apsw.CorruptError("the page makes no sense")


async def test_there_is_no_file_before_the_first_write(file: OwnFile, path: Path) -> None:
    assert await file.read(count) is None
    assert os.listdir(path.parent) == []
    await file.write(add)
    assert await file.read(count) == 1


async def test_another_ones_tables_are_not_ours(file: OwnFile, path: Path) -> None:
    other = "CREATE TABLE IF NOT EXISTS others (text TEXT);"
    async with OwnFile(path, other, is_durable=False) as beside:
        await beside.write(lambda db: None)
        assert await file.read(count) is None
        await file.write(add)
        assert await file.read(count) == 1


async def test_work_that_fails_leaves_nothing(file: OwnFile) -> None:
    def half(db: apsw.Connection) -> None:
        add(db)
        raise apsw.FullError("the disk is full")

    await file.write(add)
    with pytest.raises(StoreError, match="disk is full"):
        await file.write(half)
    assert await file.read(count) == 1


async def test_what_is_found_damaged_is_moved_aside_and_a_new_one_begun(
    file: OwnFile, path: Path
) -> None:
    await file.write(add)
    assert await file.read(rubbish) is None
    assert file.was_damaged
    assert f"{path.name}.damaged" in os.listdir(path.parent)
    await file.write(add)
    assert await file.read(count) == 1


async def test_a_new_file_of_another_process_is_not_moved_aside(file: OwnFile, path: Path) -> None:
    await file.write(add)
    async with OwnFile(path.with_name("new.db"), SCHEMA, is_durable=True) as other:
        await other.write(add)
        await other.write(add)

    def replaced(db: apsw.Connection) -> int:
        if not path.with_name("old.db").exists():
            # The other one has met the damage first.
            for ending in ("-wal", "-shm"):
                Path(f"{path}{ending}").unlink()
            path.rename(path.with_name("old.db"))
            path.with_name("new.db").rename(path)
            return rubbish(db)
        return count(db)

    assert await file.read(replaced) == 2
    assert not file.was_damaged


def block(path: Path) -> None:
    """Have SQLite find no place for its notes beside the file, as on a read-only disk."""
    notes = Path(f"{path}-shm")
    notes.symlink_to(notes)


def free(path: Path) -> None:
    Path(f"{path}-shm").unlink()


def leave_work(path: Path) -> None:
    """As a process does that is killed."""
    Path(f"{path}-wal").write_bytes(b"a change")


async def keep(path: Path) -> None:
    async with OwnFile(path, SCHEMA, is_durable=True) as file:
        await file.write(add)


async def test_a_file_beside_which_nothing_can_be_written_can_be_looked_at(path: Path) -> None:
    await keep(path)
    block(path)
    async with OwnFile(path, SCHEMA, is_durable=True) as file:
        with pytest.raises(StoreError):
            await file.read(count)
        assert await file.look(count) == 1
        with pytest.raises(StoreError):
            await file.write(add)
        # What it says now, not what it said when it was looked at first.
        free(path)
        await keep(path)
        block(path)
        assert await file.look(count) == 2


async def test_what_waits_beside_a_file_is_not_overlooked(path: Path) -> None:
    await keep(path)
    block(path)
    leave_work(path)
    async with OwnFile(path, SCHEMA, is_durable=True) as file:
        with pytest.raises(StoreError, match="CantOpen"):
            await file.look(count)


async def test_who_looks_waits_for_a_writer_like_everybody(path: Path) -> None:
    await keep(path)

    def is_locked(db: apsw.Connection) -> int:
        raise apsw.BusyError("database is locked")

    async with OwnFile(path, SCHEMA, is_durable=True) as file:
        with pytest.raises(StoreError, match="locked"):
            await file.look(is_locked)


async def test_a_newer_file_that_can_only_be_looked_at_is_refused(path: Path) -> None:
    await keep(path)
    with apsw.Connection(str(path)) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    block(path)
    async with OwnFile(path, SCHEMA, is_durable=True) as file:
        with pytest.raises(NewerFileError):
            await file.look(count)


def lead_nowhere(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("spoil", [lead_nowhere, Path.mkdir])
async def test_a_path_that_cannot_be_followed_is_an_error_not_nothing(
    path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(path)
    async with OwnFile(path, SCHEMA, is_durable=True) as file:
        for way in (file.read, file.look):
            with pytest.raises(StoreError, match=r"own\.db"):
                await way(count)


async def test_a_file_that_is_closed_says_so(path: Path) -> None:
    async with OwnFile(path, SCHEMA, is_durable=True) as file:
        await file.write(add)
    with pytest.raises(StoreError, match="closed"):
        await file.write(add)
