"""What is in force in several workers when nothing can be kept on the disk, as real processes."""

import os
import signal
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest

from proxy.workers.folders import MEMORY, discard, own_folder, shared_folder, state_path
from tests.public_port import ask, make_database, post
from tests.test_workers import QUESTION, Workers, connections_of
from tests.waiting import until

ASK_SPLIT = post("/analytics/data", orjson.dumps(QUESTION))
LEGACY = "http://127.0.0.1:9"
WHY = {"reason": "a test"}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("workers") / "daily.db")


def in_memory(state: Path) -> list[Path]:
    """The directories in which workers with that PROXY_STATE have something in common."""
    found = MEMORY.glob(f"dashboard-proxy-*/{state_path(Path(), state).name}")
    return [path.parent for path in found]


async def sides(proxy: Workers, times: int = 20) -> set[str]:
    """Who answers on connections of their own."""
    return {(await ask(proxy.url, ASK_SPLIT)).headers["x-dashboard-variant"] for _ in range(times)}


async def sides_of_each(proxy: Workers) -> set[str]:
    """Who answers at each of the workers there are."""
    async with AsyncExitStack() as stack:
        connections = await connections_of(stack, proxy, 1)
        replies = [await caller.ask(ASK_SPLIT) for [caller, *_] in connections.values()]
    return {reply.headers["x-dashboard-variant"] for reply in replies}


async def test_a_rollback_that_the_disk_does_not_take_is_in_force_in_every_worker_to_come(
    database: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state.db"
    async with Workers(database, tmp_path, legacy_url=LEGACY) as proxy:
        assert await sides_of_each(proxy) == {"optimized"}
        # Nothing can be written there, not even by root.
        state.mkdir()
        told = await proxy.admin("/admin/rollback", WHY)
        assert (told["rolled_back"], told["is_kept"]) == (True, False)
        assert await sides(proxy) == {"legacy"}
        for pid in await proxy.workers():
            os.kill(pid, signal.SIGKILL)
            await proxy.has_replaced(pid)
        assert await sides_of_each(proxy) == {"legacy"}
        proxy.hang_up()
        await proxy.said_so("rolled")
        assert await sides_of_each(proxy) == {"legacy"}
        told = await proxy.admin("/admin/split")
        assert (told["rolled_back"], told["is_kept"]) == (True, False)
        # Not what a file that cannot be read stands for: the first one was asked for.
        assert told["reason"] == WHY["reason"]
        state.rmdir()
        while not (await proxy.admin("/admin/split"))["is_kept"]:
            pass
        [folder] = in_memory(state)
        assert await proxy.end() == 0
    assert folder.name not in os.listdir(MEMORY)
    async with Workers(database, tmp_path, legacy_url=LEGACY) as proxy:
        assert await sides_of_each(proxy) == {"legacy"}


async def test_a_state_that_cannot_be_read_starts_rolled_back_and_says_why(
    database: Path, tmp_path: Path
) -> None:
    (tmp_path / "state.db").mkdir()
    async with Workers(database, tmp_path, legacy_url=LEGACY) as proxy:
        told = (await proxy.admin("/admin/status"))["split"]
        assert (told["rolled_back"], told["is_kept"]) == (True, False)
        assert told["reason"] == "the state file cannot be read: what it held is not known"
        assert await sides_of_each(proxy) == {"legacy"}
        assert proxy.events("state_not_known")[0]["is_rolled_back"] is True


async def test_where_a_supervisor_is_killed_its_workers_leave_nothing_in_memory(
    database: Path, tmp_path: Path
) -> None:
    async with Workers(database, tmp_path, legacy_url=LEGACY) as proxy:
        await proxy.admin("/admin/rollback", WHY)
        [folder] = in_memory(tmp_path / "state.db")
        proxy.kill()
        await until(lambda: not list(MEMORY.glob(f"{folder.name}*")))


def test_what_workers_share_lies_in_memory_in_a_place_of_its_own_and_is_removed(
    tmp_path: Path,
) -> None:
    with shared_folder(tmp_path, tmp_path) as one, shared_folder(tmp_path, tmp_path) as two:
        assert len({one, two, tmp_path}) == 3
        assert {path.stat().st_mode & 0o777 for path in (one, two)} == {0o700}
        (one / "state.db").touch()
    assert list(tmp_path.iterdir()) == []


def test_a_socket_finds_room_however_many_bytes_the_letters_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 59 letters, and 107 bytes with the name of the directory.
    with tempfile.TemporaryDirectory(prefix="é" * 48, dir="/tmp") as long:
        monkeypatch.setattr(tempfile, "tempdir", long)
        with own_folder() as own:
            assert len(os.fsencode(own)) < 80


def test_without_a_place_in_memory_it_lies_with_the_sockets(tmp_path: Path) -> None:
    with own_folder() as own:
        with shared_folder(own, tmp_path / "not there") as shared:
            assert shared == own
        assert own.is_dir()
    assert not own.exists()


def test_workers_with_another_state_file_do_not_meet(tmp_path: Path) -> None:
    one, two = (state_path(tmp_path, Path(name)) for name in ("one.db", "two.db"))
    assert one != two
    assert one == state_path(tmp_path, Path("one.db").absolute())


def test_nobody_finds_what_is_discarded(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with (folder / "held").open("w"):
        discard(folder)
        discard(folder)
    assert list(tmp_path.iterdir()) == []
