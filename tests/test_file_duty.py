"""A duty by a lock on a file: one has it, nobody waits for a dead one."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from proxy.cache.file_duty import FileDuty
from proxy.errors import StoreError

HOLDER = """
import asyncio, sys
from pathlib import Path
from proxy.cache.file_duty import FileDuty
duty = FileDuty(Path(sys.argv[1]))
print(asyncio.run(duty.take()), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db.guard"


@pytest.fixture
def ours(path: Path) -> FileDuty:
    return FileDuty(path)


@pytest.fixture
def theirs(path: Path) -> FileDuty:
    return FileDuty(path)


async def test_only_one_has_it_until_it_is_given_back(ours: FileDuty, theirs: FileDuty) -> None:
    assert await ours.take()
    assert not await theirs.take()
    assert not await theirs.renew()
    await ours.give_back()
    assert await theirs.take()
    assert not await ours.renew()


async def test_who_has_it_may_take_it_again(ours: FileDuty, theirs: FileDuty) -> None:
    assert await ours.take()
    assert await ours.take()
    await ours.give_back()
    assert await theirs.take()


async def test_who_never_had_it_gives_nothing_back(ours: FileDuty, theirs: FileDuty) -> None:
    assert await ours.take()
    await theirs.give_back()
    assert await ours.renew()
    assert not await theirs.take()


async def test_it_is_free_when_its_holder_is_killed(path: Path, ours: FileDuty) -> None:
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(path),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"True\n"
    assert not await ours.take()
    holder.kill()
    await holder.wait()
    assert await ours.take()


async def test_it_is_lost_with_its_file(path: Path, ours: FileDuty, theirs: FileDuty) -> None:
    await ours.take()
    os.unlink(path)
    assert await theirs.take()
    assert not await ours.renew()
    await ours.give_back()
    assert await theirs.renew()


async def test_a_replaced_file_is_another_duty(
    path: Path, ours: FileDuty, theirs: FileDuty
) -> None:
    await ours.take()
    other = path.with_name("other")
    other.touch()
    other.replace(path)
    assert not await ours.renew()
    assert await theirs.take()
    assert not await ours.take()


async def test_where_nothing_can_be_kept_everybody_may_decide() -> None:
    # Not even root makes files there.
    nowhere = Path("/sys/dashboard-proxy.guard")
    assert await FileDuty(nowhere).take()
    assert await FileDuty(nowhere).take()
    assert nowhere.name not in os.listdir(nowhere.parent)


async def test_a_place_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        await FileDuty(tmp_path / "none" / "guard").take()
