"""What every ledger promises, whatever it is kept in."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import date, timedelta
from math import nan
from pathlib import Path

import apsw
import pytest
from redis.asyncio import Redis

from proxy.cache.redis import RedisStore
from proxy.cache.redis_connection import RedisConnection
from proxy.errors import StoreError
from proxy.rollout import ledger as limits
from proxy.rollout.ledger import MOST_DAYS, MOST_SAMPLES, Batch, Ledger, Sample
from proxy.rollout.ledger_file import LedgerFile
from proxy.rollout.redis_ledger import RedisLedger
from proxy.rollout.sample_codec import DAMAGED, head_to_json, unpacked
from proxy.rollout.tallies import COMPARED, MOST_NAMES, Tally, tally_of
from proxy.telemetry import Telemetry
from tests.clocks import HandClock
from tests.comparisons import AT, a_comparison, a_difference, a_sample
from tests.redis_server import RedisServer

DAY, NEXT_DAY = "2024-01-01", "2024-01-02"
Open = Callable[[], Ledger]
"""Another ledger over the same data, as another process has it."""


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


def connected(server: RedisServer, clock: HandClock | None = None) -> RedisStore:
    return RedisStore(
        server.url,
        telemetry=Telemetry(),
        clock=HandClock() if clock is None else clock,
        entry_ttl_s=600,
        timeout_s=20,
        connect_timeout_s=20,
    )


@pytest.fixture(params=["file", "redis"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:
        if request.param == "file":
            files: list[LedgerFile] = []

            def open_file() -> Ledger:
                files.append(LedgerFile(tmp_path / "state.db"))
                return files[-1]

            yield open_file
            for file in files:
                await file.__aexit__(None, None, None)
            return
        server = await stack.enter_async_context(RedisServer())
        stores: list[RedisStore] = []

        def open_redis() -> Ledger:
            stores.append(connected(server))
            return RedisLedger(stores[-1].connection)

        yield open_redis
        for store in stores:
            await store.__aexit__(None, None, None)


@pytest.fixture
def ledger(opened: Open) -> Ledger:
    return opened()


def a_batch(number: int = 1, writer: str = "w", day: str = DAY, **counts: int) -> Batch:
    return Batch(writer, number, {day: Tally(counts)})


async def ids(ledger: Ledger) -> list[str]:
    return [head.id for head in await ledger.heads()]


async def test_an_empty_ledger_has_nothing(ledger: Ledger) -> None:
    assert dict(await ledger.tallies()) == {}
    assert list(await ledger.heads()) == []
    assert await ledger.sample("x") is None


async def test_what_is_added_adds_up_by_day(ledger: Ledger) -> None:
    await ledger.add(Batch("w", 1, {DAY: Tally({"a": 1, "b": 2}, {"e": 0.5})}))
    await ledger.add(
        Batch("w", 2, {DAY: Tally({"a": 10, "e": 1}, {"e": 0.25}), NEXT_DAY: Tally({"a": 100})})
    )
    found = await ledger.tallies()
    assert list(found) == [DAY, NEXT_DAY]
    assert found[DAY].counts == {"a": 11, "b": 2, "e": 1}
    assert found[NEXT_DAY] == Tally({"a": 100})


async def test_of_maxima_the_greatest_stays(ledger: Ledger) -> None:
    for number, value in enumerate((0.5, 1e-5, 0.75, 0.125), 1):
        await ledger.add(Batch("w", number, {DAY: Tally({"e": 1}, {"e": value})}))
    assert (await ledger.tallies())[DAY].maxima == {"e": 0.75}


async def test_a_day_may_be_asked_for_with_those_after_it(ledger: Ledger) -> None:
    await ledger.add(Batch("w", 1, {DAY: Tally({"a": 1}), NEXT_DAY: Tally({"a": 2})}))
    assert list(await ledger.tallies(NEXT_DAY)) == [NEXT_DAY]
    assert list(await ledger.tallies(DAY)) == [DAY, NEXT_DAY]
    assert list(await ledger.tallies("2024-01-03")) == []


async def test_a_batch_sent_again_counts_once(ledger: Ledger, opened: Open) -> None:
    batch = a_batch(a=1)
    await ledger.add(batch)
    await ledger.add(batch)
    await opened().add(batch)
    assert (await ledger.tallies())[DAY]["a"] == 1


async def test_a_batch_that_arrives_after_the_next_one_of_its_writer_is_left_out(
    ledger: Ledger,
) -> None:
    # It was sent again meanwhile: only its first copy was slow.
    await ledger.add(a_batch(1, a=1))
    await ledger.add(a_batch(2, a=10))
    await ledger.add(a_batch(1, a=1))
    assert (await ledger.tallies())[DAY]["a"] == 11


async def test_writers_have_numbers_of_their_own(ledger: Ledger) -> None:
    await ledger.add(a_batch(7, "one", a=1))
    await ledger.add(a_batch(1, "two", a=1))
    assert (await ledger.tallies())[DAY]["a"] == 2


async def test_many_who_add_at_once_lose_nothing(opened: Open) -> None:
    writers = {f"w{number}": opened() for number in range(3)}

    for name, ledger in writers.items():
        await ledger.add(Batch(name, 1, {DAY: Tally({"a": 1})}))

    async def write(name: str, ledger: Ledger) -> None:
        for number in range(2, 101):
            await ledger.add(Batch(name, number, {DAY: Tally({"a": 1}, {"a": number / 100})}))
            if number % 10 == 0:
                await ledger.keep(a_sample(sample_id=f"{name}-{number}", at=AT + number))

    await asyncio.gather(*(write(name, ledger) for name, ledger in writers.items()))
    for ledger in writers.values():
        assert (await ledger.tallies())[DAY] == Tally({"a": 300}, {"a": 1.0})
        assert len(await ledger.heads()) == 30


async def test_a_new_process_finds_all(ledger: Ledger, opened: Open) -> None:
    await ledger.add(a_batch(a=1))
    await ledger.keep(a_sample(a_difference(), sample_id="one"))
    later = opened()
    assert (await later.tallies())[DAY]["a"] == 1
    assert await later.sample("one") == await ledger.sample("one")


async def test_foreign_names_are_kept_as_they_are(ledger: Ledger) -> None:
    names = ["diff|ad|value|a'b\"c", "日本|\n\t\\", "x\0y", "", "[1]", "%s {0}"]
    await ledger.add(Batch("w", 1, {DAY: Tally(dict.fromkeys(names, 1))}))
    assert (await ledger.tallies())[DAY].counts == dict.fromkeys(names, 1)


async def test_counts_are_exact_however_great(ledger: Ledger) -> None:
    await ledger.add(a_batch(1, a=2**53))
    await ledger.add(a_batch(2, a=1))
    assert (await ledger.tallies())[DAY]["a"] == 2**53 + 1


async def test_a_day_has_a_bounded_number_of_names(ledger: Ledger) -> None:
    for number in range(1, 7):
        tally = Tally({COMPARED: 1})
        for field in range(500):
            tally = tally + tally_of(a_comparison(a_difference(f"field {number} {field}")))
        await ledger.add(Batch("w", number, {DAY: tally}))
    held = (await ledger.tallies())[DAY]
    assert len(held.counts) <= MOST_NAMES + 50
    assert held[COMPARED] == 6 * 501
    assert sum(n for name, n in held.counts.items() if name.startswith("diff|")) == 6 * 500
    assert set(held.maxima) <= set(held.counts)


async def test_old_days_are_let_go(ledger: Ledger) -> None:
    first = date(2024, 1, 1)
    days = [(first + timedelta(days=number)).isoformat() for number in range(MOST_DAYS + 3)]
    for number, day in enumerate(days, 1):
        await ledger.add(Batch("w", number, {day: Tally({"a": 1}, {"a": 0.5})}))
    found = await ledger.tallies()
    assert list(found) == days[3:]
    assert all(tally == Tally({"a": 1}, {"a": 0.5}) for tally in found.values())


async def test_a_sample_comes_back_with_its_bodies(ledger: Ledger) -> None:
    sample = a_sample(
        a_difference(control="x\0é", candidate=None, error=None),
        a_difference("profit", control=True, candidate=7, kind="type"),
        control={"data": [1]},
        candidate={"data": [2]},
    )
    await ledger.keep(sample)
    found = await ledger.sample(sample.head.id)
    assert found == sample
    assert found is not None
    assert (unpacked(found.control), unpacked(found.candidate)) == (
        b'{"data":[1]}',
        b'{"data":[2]}',
    )
    assert list(await ledger.heads()) == [sample.head]


async def test_a_sample_without_bodies_is_kept(ledger: Ledger) -> None:
    sample = replace(a_sample(), control=b"", candidate=b"")
    await ledger.keep(sample)
    assert await ledger.sample(sample.head.id) == sample


async def test_a_sample_kept_again_is_there_once(ledger: Ledger) -> None:
    for _ in range(2):
        await ledger.keep(a_sample(sample_id="one"))
    assert await ids(ledger) == ["one"]


async def test_samples_stand_newest_first(ledger: Ledger) -> None:
    for number in (3, 1, 2):
        is_odd = number % 2
        differences = [a_difference()] if is_odd else []
        await ledger.keep(a_sample(*differences, sample_id=str(number), at=AT + number))
    assert await ids(ledger) == ["3", "2", "1"]


async def test_thousands_of_matches_do_not_push_out_a_mismatch(ledger: Ledger) -> None:
    await ledger.keep(a_sample(a_difference(), sample_id="wrong", at=AT))
    for number in range(MOST_SAMPLES + 20):
        await ledger.keep(a_sample(sample_id=f"right {number}", at=AT + 1 + number))
    found = await ids(ledger)
    assert len(found) == MOST_SAMPLES + 1
    assert found[0] == f"right {MOST_SAMPLES + 19}"
    assert found[-2:] == ["right 20", "wrong"]
    assert await ledger.sample("right 0") is None
    assert await ledger.sample("wrong") is not None


async def test_mismatches_are_bounded_too(ledger: Ledger) -> None:
    for number in range(MOST_SAMPLES + 3):
        await ledger.keep(a_sample(a_difference(), sample_id=str(number), at=AT + number))
    assert len(await ids(ledger)) == MOST_SAMPLES
    assert "2" not in await ids(ledger)


async def test_samples_are_bounded_in_bytes_and_the_newest_stays(ledger: Ledger) -> None:
    third = bytes(limits.MOST_SAMPLE_BYTES // 3)
    for number in range(5):
        await ledger.keep(large(str(number), number, third))
    assert await ids(ledger) == ["4", "3"]
    await ledger.keep(large("5", 5, bytes(limits.MOST_SAMPLE_BYTES + 1)))
    assert await ids(ledger) == ["5"]


async def test_what_is_older_than_all_that_is_held_does_not_displace_it(ledger: Ledger) -> None:
    for number in range(MOST_SAMPLES):
        await ledger.keep(a_sample(sample_id=f"new {number}", at=AT + number))
    await ledger.keep(a_sample(sample_id="late", at=AT - 1))
    assert len(await ids(ledger)) == MOST_SAMPLES
    assert await ledger.sample("late") is None


def large(sample_id: str, number: int, body: bytes) -> Sample:
    return replace(a_sample(sample_id=sample_id, at=AT + number), control=body)


def files_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


# The file alone.


async def test_where_nothing_was_compared_no_file_is_made(tmp_path: Path) -> None:
    async with LedgerFile(tmp_path / "state.db") as ledger:
        await ledger.tallies()
        await ledger.heads()
        await ledger.sample("x")
    assert files_in(tmp_path) == set()


async def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    async with LedgerFile(tmp_path) as ledger:
        with pytest.raises(StoreError):
            await ledger.add(a_batch(a=1))
        with pytest.raises(StoreError):
            await ledger.tallies()


async def test_a_damaged_file_is_no_end(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"no database at all " * 1000)
    async with LedgerFile(path) as ledger:
        await ledger.add(a_batch(a=1))
        assert (await ledger.tallies())[DAY]["a"] == 1
    assert "state.db.damaged" in files_in(tmp_path)


async def test_other_tables_in_the_file_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with apsw.Connection(str(path)) as other:
        other.execute("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (7)")
    async with LedgerFile(path) as ledger:
        assert dict(await ledger.tallies()) == {}
        await ledger.add(a_batch(a=1))
        assert other.execute("SELECT x FROM theirs").get == 7
    other.close()


async def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    async with LedgerFile(tmp_path / "state.db") as ledger:
        await ledger.add(a_batch(1, a=1))
        with pytest.raises(StoreError):
            # No number, so refused after the counts have been written.
            await ledger.add(Batch("w", 2, {DAY: Tally({"a": 1}, {"a": nan})}))
        assert (await ledger.tallies())[DAY]["a"] == 1
        await ledger.add(a_batch(2, a=10))
        assert (await ledger.tallies())[DAY]["a"] == 11


async def test_the_writers_that_are_remembered_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with LedgerFile(path) as ledger:
        for number in range(1010):
            await ledger.add(a_batch(1, f"w{number}", a=1))
        with apsw.Connection(str(path)) as other:
            assert other.execute("SELECT count(*) FROM ledger_writers").get <= 1000
        other.close()


async def test_rubbish_in_a_sample_of_the_file_hides_only_that(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with LedgerFile(path) as ledger:
        await ledger.keep(a_sample(sample_id="good"))
        await ledger.keep(a_sample(sample_id="bad"))
        with apsw.Connection(str(path)) as other:
            other.execute("UPDATE ledger_samples SET head = x'7b' WHERE id = 'bad'")
        other.close()
        assert await ids(ledger) == ["good"]
        assert await ledger.sample("bad") is None


# Redis alone.


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    async with connected(server) as store:
        yield store


@pytest.fixture
def connection(store: RedisStore) -> RedisConnection:
    return store.connection


@pytest.fixture
async def raw(server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(server.url, protocol=2) as client:
        yield client


async def test_an_outage_is_told(server: RedisServer, connection: RedisConnection) -> None:
    ledger = RedisLedger(connection)
    server.kill()
    for call in (
        lambda: ledger.add(a_batch(a=1)),
        lambda: ledger.keep(a_sample()),
        ledger.tallies,
        ledger.heads,
        lambda: ledger.sample("x"),
    ):
        with pytest.raises(StoreError):
            await call()


async def test_after_a_flush_it_begins_anew(connection: RedisConnection, raw: Redis) -> None:
    ledger = RedisLedger(connection)
    await ledger.add(a_batch(1, a=1))
    await ledger.keep(a_sample())
    await raw.flushall()
    assert dict(await ledger.tallies()) == {}
    assert await ids(ledger) == []
    await ledger.add(a_batch(2, a=1))
    await ledger.keep(a_sample(sample_id="new"))
    assert (await ledger.tallies())[DAY]["a"] == 1
    assert await ids(ledger) == ["new"]


NAMES = ["days", f"counts:{DAY}", f"maxima:{DAY}", "writer:w", "heads", "bodies", "others"]


@pytest.mark.parametrize("what", NAMES)
async def test_what_is_no_ledger_under_its_names_is_overwritten(
    connection: RedisConnection, raw: Redis, what: str
) -> None:
    ledger = RedisLedger(connection)
    name = connection.ledger_name(what)
    for step in range(2):
        await raw.delete(name)
        await (raw.rpush(name, b"x") if step else raw.set(name, b"x"))
        await ledger.tallies()
        await ledger.heads()
        await ledger.sample("x")
        await ledger.add(Batch("w", step + 1, {DAY: Tally({"a": 1}, {"a": 0.5})}))
        await ledger.keep(a_sample(sample_id="one"))
        assert (await ledger.tallies())[DAY]["a"] >= 1
        assert (await ledger.sample("one")) is not None
        assert await ids(ledger) == ["one"]


async def test_rubbish_among_the_counts_is_left_out(
    connection: RedisConnection, raw: Redis
) -> None:
    ledger = RedisLedger(connection)
    await ledger.add(Batch("w", 1, {DAY: Tally({"a": 1, "b": 1}, {"a": 0.5})}))
    await raw.hset(connection.ledger_name(f"counts:{DAY}"), "a", "many")
    await raw.hset(connection.ledger_name(f"maxima:{DAY}"), "a", "much")
    await raw.hset(connection.ledger_name("heads"), "bad", "{")
    assert await ledger.tallies() == {DAY: Tally({"b": 1})}
    assert await ids(ledger) == []
    await ledger.add(Batch("w", 2, {DAY: Tally({"a": 3, "b": 1}, {"a": 0.25})}))
    assert await ledger.tallies() == {DAY: Tally({"a": 3, "b": 2}, {"a": 0.25})}


async def test_lists_that_a_full_server_evicted_leave_nothing_behind(
    connection: RedisConnection, raw: Redis
) -> None:
    ledger = RedisLedger(connection)
    for number in range(10):
        await ledger.keep(a_sample(sample_id=str(number)))
    await raw.delete(connection.ledger_name("others"))
    await ledger.keep(a_sample(sample_id="new"))
    assert await ids(ledger) == ["new"]
    assert await raw.hlen(connection.ledger_name("bodies")) == 1


async def test_a_sample_whose_bodies_were_evicted_says_so(
    connection: RedisConnection, raw: Redis
) -> None:
    ledger = RedisLedger(connection)
    sample = a_sample(sample_id="one")
    await ledger.keep(sample)
    await raw.delete(connection.ledger_name("bodies"))
    assert await ledger.sample("one") == Sample(replace(sample.head, note=DAMAGED))


async def test_a_full_server_refuses_the_whole_batch_and_takes_it_later(
    connection: RedisConnection, raw: Redis
) -> None:
    ledger = RedisLedger(connection)
    await raw.config_set("maxmemory", "1")
    with pytest.raises(StoreError):
        await ledger.add(a_batch(a=1))
    with pytest.raises(StoreError):
        await ledger.keep(a_sample())
    await raw.config_set("maxmemory", "0")
    await ledger.add(a_batch(a=1))
    assert (await ledger.tallies())[DAY]["a"] == 1


async def test_everything_expires_when_nothing_is_compared_any_more(
    connection: RedisConnection, raw: Redis
) -> None:
    ledger = RedisLedger(connection)
    await ledger.add(Batch("w", 1, {DAY: Tally({"a": 1}, {"a": 0.5})}))
    await ledger.keep(a_sample())
    names = await raw.keys("*")
    assert len(names) == 7
    for name in names:
        assert isinstance(name, bytes)
        assert name.startswith(connection.ledger_name("").encode())
        assert await raw.ttl(name) > 0


async def test_a_head_of_a_form_that_is_not_known_is_left_out(
    connection: RedisConnection, raw: Redis
) -> None:
    ledger = RedisLedger(connection)
    head = head_to_json(a_sample(a_difference()).head)
    newer = head.replace(b'"is_deciding"', b'"is_decisive"')
    await raw.hset(connection.ledger_name("heads"), "new", newer)
    assert await ids(ledger) == []
