"""One suite for every place where the state of the migration is kept."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import apsw
import pytest

from proxy.cache.redis import RedisStore
from proxy.errors import StoreError
from proxy.rollout.redis_state import RedisState
from proxy.rollout.shared_state import SharedState
from proxy.rollout.state import (
    Cause,
    MigrationState,
    merge,
    rolled_back,
    with_percent,
    with_shadow_rate,
)
from proxy.rollout.state_codec import tag_of, to_json
from proxy.rollout.state_file import StateFile
from proxy.telemetry import Telemetry
from tests.clocks import HandClock
from tests.redis_server import RedisServer
from tests.state_in_memory import StateInMemory

ROOT = Path(__file__).parent.parent


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


def patient(server: RedisServer) -> RedisStore:
    return RedisStore(
        server.url,
        telemetry=Telemetry(),
        clock=HandClock(),
        entry_ttl_s=600,
        timeout_s=20,
        connect_timeout_s=20,
    )


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[RedisStore]:
    async with patient(server) as store:
        yield store


@pytest.fixture(params=["file", "redis", "memory"])
async def places(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[SharedState, SharedState]]:
    """Two ways to one place, as two processes have them."""
    async with AsyncExitStack() as stack:
        if request.param == "file":
            path = tmp_path / "state.db"
            one = await stack.enter_async_context(StateFile(path))
            yield one, await stack.enter_async_context(StateFile(path))
        elif request.param == "memory":
            memory = StateInMemory()
            yield memory, memory
        else:
            server = await stack.enter_async_context(RedisServer())
            store = await stack.enter_async_context(patient(server))
            yield RedisState(store.connection), RedisState(store.connection)


def why(at: float = 1.0) -> Cause:
    return Cause("ann", "because", at)


async def test_nothing_is_there_at_first(places: tuple[SharedState, SharedState]) -> None:
    one, _ = places
    assert await one.read() is None
    assert await one.follow("p", None) is None


async def test_what_one_writes_the_other_reads(places: tuple[SharedState, SharedState]) -> None:
    one, other = places
    state = with_percent(MigrationState(), 25, why())
    assert await one.write(state) == state
    assert await other.read() == state
    assert await other.follow("other", None) == tag_of(state)


async def test_a_write_is_merged_with_what_is_there(
    places: tuple[SharedState, SharedState],
) -> None:
    one, other = places
    await one.write(rolled_back(MigrationState(), why(1)))
    met = await other.write(with_percent(MigrationState(), 30, why(2)))
    assert met.rolled_back
    assert met.percent == 30
    assert await one.read() == met


async def test_an_older_state_changes_nothing(places: tuple[SharedState, SharedState]) -> None:
    one, other = places
    old = with_percent(MigrationState(), 25, why())
    new = with_percent(old, 30, why(2))
    await one.write(new)
    assert await other.write(old) == new
    assert await one.follow("p", None) == tag_of(new)


async def test_of_many_who_write_at_once_nobody_is_lost(
    places: tuple[SharedState, SharedState],
) -> None:
    states = [with_shadow_rate(MigrationState(), n / 100, why(n)) for n in range(10)]
    states += [rolled_back(MigrationState(), why(n)) for n in range(10)]
    await asyncio.gather(*(places[n % 2].write(state) for n, state in enumerate(states)))
    wanted = MigrationState()
    for state in states:
        wanted = merge(wanted, state)
    found = await places[0].read()
    assert found is not None
    assert (found.raises, found.shadow_rate) == (wanted.raises, wanted.shadow_rate)


async def test_a_change_is_noticed_by_its_tag(places: tuple[SharedState, SharedState]) -> None:
    one, _ = places
    first = await one.write(with_percent(MigrationState(), 25, why()))
    for place in places:
        assert await place.follow("p", None) == tag_of(first)
    second = await one.write(with_percent(first, 26, why(2)))
    for place in places:
        assert await place.follow("p", tag_of(first)) == tag_of(second)
    third = await one.write(with_percent(second, 27, why(3)))
    assert await one.follow("p", tag_of(second)) == tag_of(third)


async def test_what_replaces_another_has_a_higher_version(
    places: tuple[SharedState, SharedState],
) -> None:
    one, other = places
    here, there = (with_percent(MigrationState(), number, why(number)) for number in (25, 30))
    assert here.version == there.version
    assert (await one.write(here)).version == 1
    assert (await other.write(there)).version == 2
    assert (await other.write(merge(here, there))).version == 2


async def test_followers_are_known_with_what_they_have_from_there(
    places: tuple[SharedState, SharedState],
) -> None:
    one, other = places
    state = await one.write(with_percent(MigrationState(), 25, why()))
    await one.follow("one", tag_of(state))
    await other.follow("other", None)
    assert await one.followers() == {"one": 1, "other": 0}
    await other.follow("other", tag_of(state))
    assert await one.followers() == {"one": 1, "other": 1}


async def test_the_same_number_made_elsewhere_does_not_count(
    places: tuple[SharedState, SharedState],
) -> None:
    one, other = places
    await one.write(with_percent(MigrationState(), 25, why()))
    await other.follow("other", tag_of(with_percent(MigrationState(), 30, why())))
    assert await one.followers() == {"other": 0}


async def test_who_is_forgotten_counts_again_with_a_newer_version(
    places: tuple[SharedState, SharedState],
) -> None:
    one, other = places
    await one.forget(["nobody"])
    first = await one.write(with_percent(MigrationState(), 25, why()))
    await one.follow("one", tag_of(first))
    await other.follow("other", tag_of(first))
    await one.forget(["other", "nobody"])
    assert await other.followers() == {"one": 1}
    second = await one.write(with_percent(first, 26, why(2)))
    await other.follow("other", tag_of(second))
    assert await one.followers() == {"one": 1, "other": 2}


async def test_who_forgets_itself_counts_again_as_soon_as_it_follows(
    places: tuple[SharedState, SharedState],
) -> None:
    one, _ = places
    state = await one.write(with_percent(MigrationState(), 25, why()))
    await one.follow("one", tag_of(state))
    await one.forget(["one"])
    assert await one.followers() == {}
    await one.follow("one", tag_of(state))
    assert await one.followers() == {"one": 1}


async def test_a_process_that_is_gone_follows_no_more(tmp_path: Path) -> None:
    async with StateFile(tmp_path / "state.db") as file:
        state = await file.write(with_percent(MigrationState(), 25, why()))
        await file.follow("here", tag_of(state))
        with apsw.Connection(str(file_path(tmp_path))) as db:
            # No process has this number: it is above what Linux gives out.
            db.execute("INSERT INTO followers VALUES ('gone', 5000000, 0)")
        assert await file.followers() == {"here": 1}


def file_path(folder: Path) -> Path:
    return folder / "state.db"


async def test_reading_makes_no_file(tmp_path: Path) -> None:
    async with StateFile(tmp_path / "state.db") as file:
        await file.read()
        await file.follow("p", None)
        await file.followers()
    assert os.listdir(tmp_path) == []


async def test_a_state_outlives_the_process(tmp_path: Path) -> None:
    state = rolled_back(MigrationState(), why())
    async with StateFile(tmp_path / "state.db") as file:
        await file.write(state)
    async with StateFile(tmp_path / "state.db") as file:
        assert await file.read() == state


async def test_a_deleted_file_is_made_anew(tmp_path: Path) -> None:
    state = with_percent(MigrationState(), 25, why())
    async with StateFile(tmp_path / "state.db") as file:
        await file.write(state)
        for name in os.listdir(tmp_path):
            os.unlink(tmp_path / name)
        assert await file.follow("p", tag_of(state)) is None
        assert await file.write(state) == state
    async with StateFile(tmp_path / "state.db") as file:
        assert await file.read() == state


async def test_a_file_that_is_made_anew_hears_again_who_follows(tmp_path: Path) -> None:
    state = with_percent(MigrationState(), 25, why())
    async with StateFile(tmp_path / "state.db") as one, StateFile(tmp_path / "state.db") as other:
        await one.write(state)
        await other.follow("other", tag_of(state))
        for name in os.listdir(tmp_path):
            os.unlink(tmp_path / name)
        await one.write(state)
        await other.follow("other", None)
        assert await one.followers() == {"other": 0}
        await other.follow("other", tag_of(state))
        assert await one.followers() == {"other": 1}


async def test_who_follows_is_written_once(tmp_path: Path) -> None:
    async with StateFile(tmp_path / "state.db") as one, StateFile(tmp_path / "state.db") as other:
        tag = tag_of(await one.write(with_percent(MigrationState(), 25, why())))
        await other.follow("other", tag)
        log = tmp_path / "state.db-wal"
        size = log.stat().st_size
        for _ in range(5):
            await other.follow("other", tag)
        assert log.stat().st_size == size


async def test_an_empty_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch()
    async with StateFile(path) as file:
        assert await file.read() is None
        assert await file.follow("p", None) is None
        assert not file.was_damaged
        state = await file.write(with_percent(MigrationState(), 25, why()))
        assert await file.read() == state


FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
from proxy.errors import StoreError
from proxy.rollout.state import MigrationState
from proxy.rollout.state_file import StateFile

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    async with StateFile(Path(sys.argv[1])) as file:
        before = await file.read()
        try:
            await file.write(MigrationState(version=9))
        except StoreError as error:
            print(before == await file.read(), None if before is None else before.percent)
        if before is None:
            print(await file.follow("p", None))

asyncio.run(main())
"""


def on_a_full_disk(path: Path) -> str:
    """What a process says that reads the file, cannot write to it, and reads it again."""
    command = [sys.executable, "-c", FULL, str(path)]
    return subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


async def test_what_a_full_disk_leaves_behind_is_no_state(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    said = await asyncio.to_thread(on_a_full_disk, path)
    assert said == "True None\nNone"
    assert path.stat().st_size == 0
    async with StateFile(path) as file:
        assert await file.read() is None


async def test_a_state_is_read_from_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with StateFile(path) as file:
        await file.write(with_percent(MigrationState(), 25, why()))
    said = await asyncio.to_thread(on_a_full_disk, path)
    assert said == "True 25.0"


@pytest.mark.parametrize(
    "rubbish", [b"no database at all" * 100, b"SQLite format 3\0" + b"x" * 500]
)
async def test_a_damaged_file_is_moved_aside(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(rubbish)
    state = with_percent(MigrationState(), 25, why())
    async with StateFile(path) as file:
        assert await file.read() is None
        assert file.was_damaged
        await file.write(state)
        assert await file.read() == state
    assert (tmp_path / "state.db.damaged").read_bytes() == rubbish


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with apsw.Connection(str(path)) as db:
        db.execute("CREATE TABLE t (a); PRAGMA user_version = 99")
    async with StateFile(path) as file:
        with pytest.raises(StoreError, match="newer version"):
            await file.read()
        with pytest.raises(StoreError, match="newer version"):
            await file.write(MigrationState())
    assert not (tmp_path / "state.db.damaged").exists()


async def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    async with StateFile(tmp_path / "no folder" / "state.db") as file:
        with pytest.raises(StoreError, match="no folder"):
            await file.write(with_percent(MigrationState(), 25, why()))


async def test_a_locked_file_is_waited_for(tmp_path: Path) -> None:
    async with StateFile(tmp_path / "state.db") as file:
        await file.write(with_percent(MigrationState(), 25, why()))
        db = apsw.Connection(str(tmp_path / "state.db"))
        db.execute("BEGIN IMMEDIATE")
        writing = asyncio.ensure_future(file.write(with_percent(MigrationState(), 30, why(2))))
        await asyncio.to_thread(db.execute, "SELECT 1")
        assert not writing.done()
        db.execute("ROLLBACK")
        assert (await writing).percent == 30
        db.close()


@pytest.mark.parametrize("kind", ["string", "list", "rubbish"])
async def test_what_is_no_state_in_redis_is_overwritten(redis: RedisStore, kind: str) -> None:
    place = RedisState(redis.connection)
    client, name = redis.connection.client, redis.connection.migration_name("state")
    if kind == "string":
        await client.set(name, b"garbage")
    elif kind == "list":
        await client.rpush(name, b"garbage")
    else:
        await client.hset(name, mapping={"tag": b"7:x", "body": b"{"})
    state = with_percent(MigrationState(), 25, why())
    assert await place.read() is None
    assert await place.write(state) == state
    assert await place.read() == state


async def test_what_are_no_followers_in_redis_is_overwritten(redis: RedisStore) -> None:
    place = RedisState(redis.connection)
    await redis.connection.client.set(redis.connection.migration_name("followers"), b"garbage")
    assert await place.followers() == {}
    await place.forget(["p"])
    await place.follow("p", None)
    assert await place.followers() == {"p": 0}


async def test_a_full_redis_is_still_listened_to(redis: RedisStore) -> None:
    place = RedisState(redis.connection)
    state = await place.write(with_percent(MigrationState(), 25, why()))
    await redis.connection.client.config_set("maxmemory", 1)
    assert await place.follow("p", None) == tag_of(state)
    with pytest.raises(StoreError, match="maxmemory"):
        await place.write(with_percent(state, 26, why(2)))
    await redis.connection.client.config_set("maxmemory", 0)
    assert await place.read() == state


async def test_what_a_newer_version_agreed_on_in_redis_is_not_overwritten(
    redis: RedisStore,
) -> None:
    place = RedisState(redis.connection)
    client, name = redis.connection.client, redis.connection.migration_name("state")
    body = to_json(MigrationState()).replace(b'"form":1', b'"form":2')
    await client.hset(name, mapping={"tag": b"7:x", "body": body})
    with pytest.raises(StoreError, match="newer version"):
        await place.write(with_percent(MigrationState(), 25, why()))
    assert await client.hget(name, "body") == body


async def test_redis_that_is_down_is_an_error_not_nothing(
    server: RedisServer, redis: RedisStore
) -> None:
    place = RedisState(redis.connection)
    server.kill()
    with pytest.raises(StoreError):
        await place.read()
    with pytest.raises(StoreError):
        await place.follow("p", None)
