"""What other versions of the proxy have kept: read, left alone or refused, and never misread.

Files in tests/formats hold what each form looks like, byte for byte.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import apsw
import orjson
import pytest
import zstandard
from redis.asyncio import Redis

from proxy.cache import codec
from proxy.cache.codec import VERSION, CodecError, decode, encode, peek
from proxy.cache.entry import Entry
from proxy.cache.lease import Lease, Taken
from proxy.cache.redis import RedisStore
from proxy.cache.redis_connection import LEDGER_FORM, RedisConnection
from proxy.cache.redis_duty import RedisDuty
from proxy.cache.redis_leases import RedisLeases
from proxy.errors import StoreError
from proxy.rollout import own_file, state_codec
from proxy.rollout.ledger import Batch, Sample
from proxy.rollout.ledger_file import LedgerFile
from proxy.rollout.own_file import FORM, NewerFileError
from proxy.rollout.redis_ledger import RedisLedger
from proxy.rollout.redis_state import RedisState
from proxy.rollout.registers import Register
from proxy.rollout.sample_codec import head_from_json, head_to_json, unpacked
from proxy.rollout.shared_state import NewerStateError
from proxy.rollout.state import (
    Cause,
    MigrationState,
    lifted,
    merge,
    rolled_back,
    with_percent,
)
from proxy.rollout.state_codec import from_json, tag_of, to_json
from proxy.rollout.state_file import StateFile
from proxy.telemetry import Telemetry
from tests.formats.make import (
    BODIES,
    DAY,
    ENTRY,
    HEAD,
    HERE,
    KEY,
    STATE,
    TALLY,
    dumped,
    fill_redis,
    make_file,
    restore,
)
from tests.proxies import ProxyProcess
from tests.public_port import END, echo_legacy, make_database
from tests.redis_server import RedisServer
from tests.writer import Writer

ENTRY_BYTES = (HERE / "entry-2.bin").read_bytes()
STATE_BYTES = (HERE / "state-1.json").read_bytes()
REDIS: dict[str, Any] = json.loads((HERE / "redis-1.json").read_text())
WHY = Cause("bob", "on purpose", 1_706_800_000.0)


@pytest.fixture
def connection(store: RedisStore) -> RedisConnection:
    return store.connection


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    """A PROXY_STATE of form 1, as it was written."""
    path = tmp_path / "kept.db"
    frame = (HERE / "state-file-1.db.zst").read_bytes()
    path.write_bytes(zstandard.ZstdDecompressor().decompress(frame))
    return path


def known(entry: Entry) -> Entry:
    """Without the codings it came in: what of it was asked for."""
    return replace(entry, payload=replace(entry.payload, encodings={}))


def held(path: Path) -> bytes:
    return path.read_bytes()


def with_form(path: Path, form: int) -> bytes:
    """The bytes of the file at `path` once it says that form."""
    db = apsw.Connection(str(path))
    db.execute(f"PRAGMA user_version = {form}")
    db.close()
    return path.read_bytes()


# What this version writes is what it always wrote


def test_an_entry_is_read_and_laid_out_as_ever() -> None:
    assert known(decode(ENTRY_BYTES)) == known(ENTRY)
    assert peek(ENTRY_BYTES).query == ENTRY.query
    # Behind the checksum; the frame is zstd's own matter.
    head = slice(13, ENTRY_BYTES.index(b"\x28\xb5\x2f\xfd"))
    assert encode(ENTRY)[:5] == ENTRY_BYTES[:5]
    assert encode(ENTRY)[head] == ENTRY_BYTES[head]


def test_a_state_is_read_and_written_as_ever_and_its_tag_is_the_same() -> None:
    assert from_json(STATE_BYTES) == STATE
    assert to_json(STATE) == STATE_BYTES
    # Versions that made other tags of one state would never agree that they have the same.
    assert tag_of(STATE) == "7:0b2d3cf9a4e9b2bde49e8620"


async def test_all_that_is_in_redis_is_found_and_written_as_ever(
    server: RedisServer, connection: RedisConnection, raw: Redis
) -> None:
    await fill_redis(connection)
    now = await dumped(raw)
    duty = "dashboard-proxy:duty:guard"
    assert now[duty][1].startswith("1 ")
    bodies = f"dashboard-proxy:ledger:{LEDGER_FORM}:bodies"
    assert now.keys() == REDIS.keys()
    assert [name for name in REDIS if now[name] != REDIS[name] and name not in (duty, bodies)] == []

    await raw.flushall()
    await restore(raw, REDIS)
    assert await RedisState(connection).read() == STATE
    assert await RedisState(connection).follow("p", None) == tag_of(STATE)
    ledger = RedisLedger(connection)
    assert await ledger.tallies() == {DAY: TALLY}
    sample = await ledger.sample(HEAD.id)
    assert sample is not None
    assert sample.head == HEAD
    assert (unpacked(sample.control), unpacked(sample.candidate)) == BODIES
    # A batch that was written before is not written again.
    await ledger.add(Batch("writer", 4, {DAY: TALLY}))
    assert await ledger.tallies() == {DAY: TALLY}
    assert not await RedisDuty(connection, "guard").take()
    leases = RedisLeases(connection, entry_ttl_s=60, lease_ttl_s=60)
    token = ENTRY.watermark.token
    assert await leases.take(Lease(KEY, token, "another")) is Taken.HELD
    assert await leases.put(Lease(KEY, token, "holder"), ENTRY)


async def test_a_file_is_read_and_laid_out_as_ever(old_file: Path, tmp_path: Path) -> None:
    async with StateFile(old_file) as file, LedgerFile(old_file) as ledger:
        assert await file.read() == STATE
        assert await ledger.tallies() == {DAY: TALLY}
        sample = await ledger.sample(HEAD.id)
        assert sample is not None
        assert sample.head == HEAD
        assert (unpacked(sample.control), unpacked(sample.candidate)) == BODIES
        assert await file.write(with_percent(lifted(STATE, WHY), 40, WHY))
        await ledger.add(Batch("writer", 5, {DAY: TALLY}))
        assert (await ledger.tallies())[DAY]["total|compared"] == 6
        assert not file.was_damaged
    await make_file(tmp_path / "new.db")
    assert laid_out(tmp_path / "new.db") == laid_out(old_file)


def laid_out(path: Path) -> tuple[int, list[Any]]:
    """The form of a file, and its tables and indexes."""
    db = apsw.Connection(str(path))
    try:
        tables = list(db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name"))
        return db.execute("PRAGMA user_version").get, tables
    finally:
        db.close()


# What another version wrote


@pytest.mark.parametrize("version", [0, 1, VERSION + 1, 255])
async def test_an_entry_of_another_version_is_a_miss(
    store: RedisStore, raw: Redis, telemetry: Telemetry, version: int
) -> None:
    altered = ENTRY_BYTES[:4] + bytes([version]) + ENTRY_BYTES[5:]
    for read in (decode, peek):
        with pytest.raises(CodecError, match="version"):
            read(altered)
    await raw.set(store.connection.entry_name(KEY), altered)
    assert await store.get(KEY) is None
    assert telemetry.registry.get_sample_value(
        "proxy_store_rubbish_total", {"tier": "redis"}
    ) == 1  # fmt: skip
    await store.put(KEY, ENTRY)
    found = await store.get(KEY)
    assert found is not None
    assert known(found.entry) == known(ENTRY)


async def test_versions_keep_entries_leases_and_ledgers_apart(
    store: RedisStore, raw: Redis, connection: RedisConnection
) -> None:
    """Whatever the other one has under its names, it stays; and nothing of it counts here."""
    token = ENTRY.watermark.token
    ledger = RedisLedger(connection)
    theirs = {
        connection.entry_name(KEY),
        connection.lease_name(KEY, token),
        connection.fence_name(KEY),
        *map(connection.ledger_name, ("days", "heads", f"counts:{DAY}", "writer:writer")),
    }
    theirs = {
        name.replace(f":{VERSION}:", f":{VERSION + 1}:", 1)
        if ":ledger:" not in name
        else name.replace(f":ledger:{LEDGER_FORM}:", f":ledger:{LEDGER_FORM + 1}:")
        for name in theirs
    }
    for name in theirs:
        await raw.set(name, b"in a way of its own")
    before = await dumped(raw)

    assert await store.get(KEY) is None
    leases = RedisLeases(connection, entry_ttl_s=60, lease_ttl_s=60)
    assert await leases.take(Lease(KEY, token, "holder")) is Taken.GRANTED
    assert await leases.put(Lease(KEY, token, "holder"), ENTRY)
    await ledger.add(Batch("writer", 1, {DAY: TALLY}))
    await ledger.keep(Sample(HEAD))
    assert await ledger.tallies() == {DAY: TALLY}
    assert [list(batch) async for batch in store.heads()] == [[KEY]]
    assert await store.delete([KEY]) == 1
    await store.refuse_fills()
    after = await dumped(raw)
    assert {name: after.get(name) for name in theirs} == before


@pytest.mark.parametrize("form", [2, 99, 1.5])
async def test_a_state_of_a_later_form_in_redis_is_refused_and_left_alone(
    connection: RedisConnection, raw: Redis, form: float
) -> None:
    place = RedisState(connection)
    name = connection.migration_name("state")
    body = STATE_BYTES.replace(b'"form":1', b'"form":%s' % orjson.dumps(form))
    await raw.hset(name, mapping={"tag": b"9:x", "body": body})
    before = await dumped(raw)
    for call in (place.read, lambda: place.write(STATE)):
        with pytest.raises(NewerStateError, match=r"newer version.*PROXY_REDIS_URL"):
            await call()
    assert await dumped(raw) == before


@pytest.mark.parametrize("form", [0, -1, "1", None])
def test_a_state_of_no_form_is_no_state(form: object) -> None:
    body = STATE_BYTES.replace(b'"form":1', b'"form":' + orjson.dumps(form))
    with pytest.raises(ValueError, match="form"):
        from_json(body)


@pytest.mark.parametrize("form", [0, 2, 99])
async def test_a_sample_of_another_form_is_left_out_and_stays(
    connection: RedisConnection, raw: Redis, tmp_path: Path, form: int
) -> None:
    head = head_to_json(HEAD).replace(b'"form":1', b'"form":%d' % form)
    with pytest.raises(ValueError, match="form"):
        head_from_json(head)
    name = connection.ledger_name("heads")
    await RedisLedger(connection).keep(Sample(HEAD))
    await raw.hset(name, HEAD.id, head)
    path = tmp_path / "state.db"
    async with LedgerFile(path) as file:
        await file.keep(Sample(HEAD))
        db = apsw.Connection(str(path))
        db.execute("UPDATE ledger_samples SET head = ?", (head,))
        for ledger in (RedisLedger(connection), file):
            assert list(await ledger.heads()) == []
            assert await ledger.sample(HEAD.id) is None
            await ledger.keep(Sample(replace(HEAD, id="another")))
            assert [found.id for found in await ledger.heads()] == ["another"]
        assert db.execute("SELECT head FROM ledger_samples WHERE id = ?", (HEAD.id,)).get == head
        db.close()
    assert await raw.hget(name, HEAD.id) == head


def test_a_sample_from_before_it_had_a_form_is_of_the_first() -> None:
    assert head_from_json(head_to_json(HEAD).replace(b'"form":1,', b"")) == HEAD


@pytest.mark.parametrize("form", [FORM + 1, 99])
async def test_a_file_of_a_later_form_is_refused_and_not_touched(old_file: Path, form: int) -> None:
    before = with_form(old_file, form)
    async with StateFile(old_file) as file, LedgerFile(old_file) as ledger:
        calls: list[Callable[[], Awaitable[object]]] = [
            file.read,
            lambda: file.write(STATE),
            lambda: file.follow("p", None),
            ledger.tallies,
            ledger.heads,
            lambda: ledger.keep(Sample(HEAD)),
        ]
        for call in calls:
            with pytest.raises(NewerFileError, match=f"form {form}.*PROXY_STATE"):
                await call()
        assert not file.was_damaged
    assert held(old_file) == before
    assert [path.name for path in old_file.parent.iterdir()] == [old_file.name]


async def test_a_file_that_a_later_version_takes_over_is_let_go_of(old_file: Path) -> None:
    async with StateFile(old_file) as file, LedgerFile(old_file) as ledger:
        assert await file.follow("p", None) == tag_of(STATE)
        await ledger.add(Batch("writer", 5, {DAY: TALLY}))
        with_form(old_file, FORM + 1)
        with pytest.raises(NewerFileError):
            await file.read()
        with pytest.raises(NewerFileError):
            await file.write(lifted(STATE, WHY))
        with pytest.raises(NewerFileError):
            await ledger.add(Batch("writer", 6, {DAY: TALLY}))
        # And gone back to.
        with_form(old_file, FORM)
        assert await file.read() == STATE


async def test_a_body_of_a_later_form_in_a_file_is_refused_and_left_alone(old_file: Path) -> None:
    body = STATE_BYTES.replace(b'"form":1', b'"form":2')
    db = apsw.Connection(str(old_file))
    db.execute("UPDATE migration SET body = ?", (body,))
    async with StateFile(old_file) as file:
        for call in (file.read, lambda: file.write(STATE)):
            with pytest.raises(NewerStateError, match=r"newer version.*PROXY_STATE"):
                await call()
        assert not file.was_damaged
    assert db.execute("SELECT body FROM migration").get == body
    db.close()


async def test_a_file_of_an_older_form_is_brought_up_all_at_once(
    old_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ("ALTER TABLE followers ADD COLUMN since REAL; CREATE TABLE more (x)",)
    monkeypatch.setattr(own_file, "STEPS", steps)
    monkeypatch.setattr(own_file, "FORM", 2)
    async with StateFile(old_file) as file, LedgerFile(old_file) as ledger:
        assert await file.read() == STATE
        assert await ledger.tallies() == {DAY: TALLY}
    form, tables = laid_out(old_file)
    assert form == 2
    assert "more" in [name for _, name, _ in tables]


async def test_a_step_that_fails_leaves_a_file_as_it_was(
    old_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_file, "STEPS", ("CREATE TABLE more (x); CREATE TABLE migration (x)",))
    monkeypatch.setattr(own_file, "FORM", 2)
    before = laid_out(old_file)
    async with StateFile(old_file) as file:
        with pytest.raises(StoreError, match="migration"):
            await file.read()
    assert laid_out(old_file) == before


# Duties


@pytest.mark.parametrize("kind", ["string", "hash"])
async def test_a_duty_in_whatever_form_is_somebody_elses_until_it_expires(
    connection: RedisConnection, raw: Redis, kind: str
) -> None:
    duty, name = RedisDuty(connection, "guard"), connection.duty_name("guard")
    if kind == "string":
        await raw.set(name, b"2 of a later form", px=60_000)
    else:
        await raw.hset(name, "holder", "of a later form")
        await raw.pexpire(name, 60_000)
    before = await dumped(raw)
    assert not await duty.take()
    assert not await duty.renew()
    await duty.give_back()
    assert await dumped(raw) == before
    await raw.delete(name)
    assert await duty.take()


@pytest.mark.parametrize("kind", ["string", "list"])
async def test_a_duty_that_nobody_would_ever_end_gets_an_end(
    connection: RedisConnection, raw: Redis, kind: str
) -> None:
    duty, name = RedisDuty(connection, "guard", ttl_s=30), connection.duty_name("guard")
    await (raw.set(name, b"rubbish") if kind == "string" else raw.rpush(name, b"rubbish"))
    assert not await duty.take()
    assert 0 < await raw.pttl(name) <= 30_000


async def test_a_follower_may_say_more_than_is_understood(
    connection: RedisConnection, raw: Redis
) -> None:
    place = RedisState(connection)
    seconds, _ = await raw.time()
    said = f"7 {seconds} of a later form"
    await raw.hset(connection.migration_name("followers"), "theirs", said)
    await place.follow("ours", None)
    assert dict(await place.followers()) == {"ours": 0, "theirs": 7}


# Registers of later versions


def register(version: int, value: str = "x", at: float = 1.0) -> Register:
    return Register(version, at, "ann", "", orjson.dumps(value))


def with_more(**more: Register) -> MigrationState:
    return replace(STATE, more=more)


def test_what_a_later_version_added_survives_every_change_made_here() -> None:
    state = from_json(to_json(with_more(a=register(3))))
    for changed in (
        lifted(state, WHY),
        with_percent(lifted(state, WHY), 12, WHY),
        rolled_back(state, WHY),
        merge(MigrationState(), state),
        merge(state, rolled_back(MigrationState(), WHY)),
    ):
        assert from_json(to_json(changed)).more == {"a": register(3)}


def test_registers_are_merged_by_who_set_them_last_in_any_order() -> None:
    one = with_more(a=register(3, "old"), b=register(9), c=register(5, "p"))
    other = with_more(a=register(4, "new"), c=register(5, "q"), d=register(1))
    wanted = {"a": register(4, "new"), "b": register(9), "c": register(5, "q"), "d": register(1)}
    assert merge(one, other).more == merge(other, one).more == wanted
    assert merge(merge(one, other), one).more == wanted
    later = with_more(a=register(4, "new", at=2.0))
    assert merge(later, other).more["a"] == later.more["a"]


def test_equal_registers_give_equal_tags_however_they_were_written() -> None:
    text = to_json(with_more(a=register(3), b=register(4))).decode()
    raw = orjson.loads(text)
    raw["more"] = {
        "b": raw["more"]["b"],
        "a": [[3, 1.0, "ann", ""], {"y": 1, "x": 2}],
    }
    shuffled = from_json(orjson.dumps(raw))
    raw["more"] = {"a": [[3, 1, "ann", ""], {"x": 2, "y": 1}], "b": raw["more"]["b"]}
    assert tag_of(from_json(orjson.dumps(raw))) == tag_of(shuffled)


@pytest.mark.parametrize(
    "more",
    [1, [], "x", {"a": 1}, {"a": [1, 2]}, {"a": [[1, 2, "x", "y"]]}, {"a": [["1", 2, "", ""], 1]}],
)
def test_registers_of_no_form_make_it_no_state(more: object) -> None:
    raw = {**orjson.loads(STATE_BYTES), "more": more}
    with pytest.raises(ValueError, match=r"."):
        from_json(orjson.dumps(raw))


def test_registers_have_a_bound() -> None:
    raw = {**orjson.loads(STATE_BYTES), "more": {"a": [[1, 1.0, "", ""], "x" * 70_000]}}
    with pytest.raises(ValueError, match="more than any"):
        from_json(orjson.dumps(raw))


# Whole processes


async def refused(database: Path, **settings: object) -> str:
    """What a proxy says that does not start."""
    proxy = ProxyProcess(database, **settings)
    with pytest.raises(ChildProcessError) as caught:
        await proxy.start()
    return str(caught.value)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return make_database(tmp_path / "tables.db")


async def test_a_state_file_of_a_later_form_stops_the_start_and_says_what_to_do(
    database: Path, old_file: Path
) -> None:
    before = with_form(old_file, FORM + 1)
    said = await refused(database, state=old_file)
    assert f"PROXY_STATE: {old_file} was written by a newer version" in said
    assert "Start that version again, or name another file in PROXY_STATE" in said
    assert held(old_file) == before


async def test_a_state_of_a_later_form_in_redis_stops_the_start_and_says_what_to_do(
    database: Path, server: RedisServer, raw: Redis
) -> None:
    body = STATE_BYTES.replace(b'"form":1', b'"form":2')
    await raw.hset("dashboard-proxy:migration:state", mapping={"tag": b"9:x", "body": body})
    said = await refused(database, redis_url=server.url)
    assert "PROXY_REDIS_URL: the state of the migration in Redis was written by a newer" in said
    assert "another database number in PROXY_REDIS_URL" in said


async def test_a_database_of_the_pipeline_is_no_place_for_the_state(database: Path) -> None:
    before = held(database)
    said = await refused(database, state=database)
    assert "PROXY_STATE is" in said
    assert "the file of PROXY_DATABASE" in said
    assert held(database) == before


async def test_a_state_file_of_the_first_form_is_obeyed(database: Path, old_file: Path) -> None:
    async with echo_legacy() as legacy:
        proxy = ProxyProcess(database, state=old_file, legacy_url=str(legacy.url))
        async with proxy, aiohttp.ClientSession() as session:
            told = await admin(session, proxy, "GET", "/split")
            assert (told["rolled_back"], told["percent"]) == (True, 0)
            assert told["reason"] == "wrong numbers"


async def test_garbage_in_the_place_of_a_state_file_is_moved_aside_and_all_rolled_back(
    database: Path, tmp_path: Path
) -> None:
    path = tmp_path / "garbage.db"
    path.write_bytes(b"garbage" * 1000)
    async with echo_legacy() as legacy:
        proxy = ProxyProcess(database, state=path, legacy_url=str(legacy.url))
        async with proxy, aiohttp.ClientSession() as session:
            told = await admin(session, proxy, "GET", "/split")
            assert told["rolled_back"] is True
    assert held(path.with_name("garbage.db.damaged")) == b"garbage" * 1000


# Two versions side by side


class LaterProxy(ProxyProcess):
    program = "tests.later_version"


async def admin(
    session: aiohttp.ClientSession, proxy: ProxyProcess, method: str, path: str, **body: object
) -> Any:
    url = f"{str(proxy.admin_url).rstrip('/')}/admin{path}"
    async with session.request(method, url, json=body or None) as response:
        told = await response.json()
        assert response.status == 200, told
        return told


DAILY = "daily_mixpanel_metrics"
AN_EARLIER_DAY = "2024-06-25"
COMMITS = 60
QUESTIONS: list[dict[str, object]] = [
    {"start_date": str(END), "end_date": str(END)},
    {"start_date": str(END), "end_date": str(END), "depth": 1},
    {"start_date": AN_EARLIER_DAY, "end_date": AN_EARLIER_DAY, "hierarchy": "ad"},
]
ROWS = [("campaign", str(END)), ("ad", AN_EARLIER_DAY)]
"""Where the pipeline writes: each question sees one of them."""


@dataclass
class Pair:
    """A proxy of this version and one of a later, on one Redis, one database and one legacy."""

    now: ProxyProcess
    later: ProxyProcess
    session: aiohttp.ClientSession
    raw: Redis
    written: frozenset[str] = frozenset()
    """The ids of the rows that are written to."""
    committed: int = 0
    is_over: bool = False

    @property
    def both(self) -> tuple[ProxyProcess, ProxyProcess]:
        return self.now, self.later

    async def trials(self, proxy: ProxyProcess, asked: dict[str, object]) -> int:
        """What is told of the one row that is written to and that `asked` is about."""
        async with self.session.post(proxy.url.with_path("/data"), json=asked) as response:
            assert response.status == 200
            answer = await response.json()
        [row] = [row for row in answer["data"] if row["id"] in self.written]
        return int(row["trials"])

    async def keep_asking(self, proxy: ProxyProcess, number: int) -> None:
        while not self.is_over:
            committed = self.committed
            found = await self.trials(proxy, QUESTIONS[number % 3])
            assert committed <= found <= self.committed + 1
            number += 1

    async def variant(self, proxy: ProxyProcess) -> str:
        url = proxy.url.with_path("/api/dashboard/analytics/data")
        question = {"start_date": str(END), "end_date": str(END), "group_by": "campaign"}
        async with self.session.post(url, json=question) as response:
            await response.read()
            return response.headers["X-Dashboard-Variant"]

    async def until_both(self, **wanted: object) -> None:
        """Both tell of the split what is wanted. pytest's timeout ends a wait in vain."""
        for proxy in self.both:
            told: dict[str, object] = {}
            while not wanted.items() <= told.items():
                told = await admin(self.session, proxy, "GET", "/split")


@asynccontextmanager
async def pair(database: Path) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(RedisServer())
        legacy = await stack.enter_async_context(echo_legacy())
        settings = {"redis_url": redis.url, "legacy_url": str(legacy.url)}
        now, later = ProxyProcess(database, **settings), LaterProxy(database, **settings)
        for proxy in (now, later):
            await stack.enter_async_context(proxy)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        raw = await stack.enter_async_context(Redis.from_url(redis.url, protocol=2))
        yield Pair(now, later, session, raw)


async def test_two_versions_on_one_redis_answer_right_while_the_pipeline_writes(
    database: Path,
) -> None:
    with Writer(database) as writer:
        places, written = [], []
        for kind, day in ROWS:
            where = f"date = '{day}' AND entity_type = '{kind}'"
            [[one]] = writer.sql(f"SELECT MIN(entity_id) FROM {DAILY} WHERE {where}")
            places.append(f"({where} AND entity_id = '{one}')")
            written.append(f"{kind}_{one}")
        where = " OR ".join(places)
        writer.sql(f"UPDATE {DAILY} SET trial_users_count = 0 WHERE {where}")
        async with pair(database) as two:
            two.written = frozenset(written)

            async def keep_writing() -> None:
                for number in range(1, COMMITS + 1):
                    stamp = f"2024-07-01 09:{number // 60:02}:{number % 60:02}"
                    await asyncio.to_thread(
                        writer.sql,
                        f"UPDATE {DAILY} SET trial_users_count = {number},"
                        f" computed_at = '{stamp}' WHERE {where}",
                    )
                    two.committed = number
                two.is_over = True

            async with asyncio.TaskGroup() as group:
                group.create_task(keep_writing())
                for number in range(6):
                    proxy = two.both[number % 2]
                    group.create_task(two.keep_asking(proxy, number))

            # What each keeps stays, and is what it finds again: they do not fight over it.
            for proxy in two.both:
                assert await proxy.metric("proxy_store_rubbish_total") == 0
                assert await proxy.metric("proxy_store_errors_total") == 0
                computed = await proxy.metric("proxy_sql_seconds_count")
                for asked in QUESTIONS * 5:
                    await two.trials(proxy, asked)
                # The last commit may have come after the last question to it.
                assert await proxy.metric("proxy_sql_seconds_count") <= computed + len(QUESTIONS)
            kept = [
                {
                    str(name).rpartition(":")[2]
                    for name in await two.raw.keys(f"dashboard-proxy:{n}:*")
                }
                for n in (VERSION, VERSION + 1)
            ]
            assert min(map(len, kept)) >= len(QUESTIONS)
            # Also where the layout is the same, what another version computed is not ours.
            assert not kept[0] & kept[1]
            assert await two.raw.keys("dashboard-proxy:lease:*") == []

            # A purge is of one's own entries: the other's are not one's to judge.
            assert (await admin(two.session, two.now, "POST", "/purge", all=True))["purged"] > 0
            assert await two.raw.keys(f"dashboard-proxy:{VERSION}:*") == []
            assert len(await two.raw.keys(f"dashboard-proxy:{VERSION + 1}:*")) >= len(QUESTIONS)


async def test_a_split_and_a_rollback_reach_the_other_version_and_nothing_of_it_is_lost(
    database: Path,
) -> None:
    async with pair(database) as two:
        await admin(two.session, two.now, "POST", "/split", percent=30)
        await two.until_both(percent=30, rolled_back=False)
        await admin(two.session, two.later, "POST", "/rollback", reason="too slow")
        await two.until_both(rolled_back=True, reason="too slow")
        assert [await two.variant(proxy) for proxy in two.both] == ["legacy"] * 2
        await admin(two.session, two.now, "DELETE", "/rollback")
        await two.until_both(percent=0, rolled_back=False)
        await admin(two.session, two.now, "POST", "/split", percent=100)
        await two.until_both(percent=100)
        assert [await two.variant(proxy) for proxy in two.both] == ["optimized"] * 2
        await admin(two.session, two.now, "POST", "/rollback", reason="wrong")
        await two.until_both(rolled_back=True, reason="wrong")

        # What only the later one knows was carried along through all the changes of this one.
        body = await two.raw.hget("dashboard-proxy:migration:state", "body")
        assert isinstance(body, bytes)
        (stamp, value) = orjson.loads(body)["more"]["last"]
        assert value == {"did": "rollback"}
        assert stamp[3] == "too slow"
        # They agree that they have the same, and so wait for nobody.
        for proxy in two.both:
            assert proxy.events("followers_late") == []
            assert proxy.events("state_not_shared") == []
            assert proxy.events("state_is_rubbish") == []


async def test_one_version_takes_over_from_the_other_where_it_left_off(
    database: Path, tmp_path: Path
) -> None:
    """Up and back again on one state file, without Redis."""
    state = tmp_path / "state.db"
    async with echo_legacy() as legacy, aiohttp.ClientSession() as session:
        settings = {"state": state, "legacy_url": str(legacy.url)}
        steps: list[tuple[type[ProxyProcess], str, str, dict[str, object]]] = [
            (ProxyProcess, "POST", "/split", {"percent": 30}),
            (LaterProxy, "POST", "/rollback", {"reason": "wrong"}),
            (ProxyProcess, "DELETE", "/rollback", {}),
            (LaterProxy, "POST", "/split", {"percent": 20}),
            (ProxyProcess, "POST", "/split", {"percent": 10}),
        ]
        before: list[object] = []
        for kind, method, path, body in steps:
            async with kind(database, **settings) as proxy:
                told = await admin(session, proxy, "GET", "/split")
                assert [told["percent"], told["rolled_back"]] == (before or [100, False])
                told = await admin(session, proxy, method, path, **body)
                before = [told["percent"], told["rolled_back"]]
                assert await proxy.end() == 0
        assert [line["action"] for line in told["history"]] == [
            "split", "split", "lift", "rollback", "split",
        ]  # fmt: skip


def test_forms_are_counted_from_what_is_committed() -> None:
    """Whoever raises one of them commits a file of the new form beside the old one."""
    assert {path.name for path in HERE.iterdir() if path.suffix not in (".py", "")} == {
        f"entry-{codec.VERSION}.bin",
        f"state-{state_codec.FORM}.json",
        f"state-file-{FORM}.db.zst",
        f"redis-{LEDGER_FORM}.json",
    }
