"""Makes the files beside it: `python -m tests.formats.make`.

Each holds things of a known content in a form that was once at rest somewhere,
with the number of the form in its name. They are read by tests/test_upgrades.py
for ever, so none of them is ever made again: a form that changes gets a new
number and a new file, and the old one stays.

    entry-2.bin           a value under an entry's name in Redis (cache/codec.py)
    state-1.json          the state of the migration, in Redis and in the file
    state-file-1.db.zst   PROXY_STATE, with state, counts and samples, in one zstd frame
    redis-1.json          all that a proxy keeps in Redis beside entries: name -> Redis' own type
                          and what is there, bytes as Latin-1
"""

import asyncio
import json
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import apsw
import zstandard
from redis.asyncio import Redis

from proxy.cache.codec import VERSION, encode
from proxy.cache.entry import Entry
from proxy.cache.lease import Lease
from proxy.cache.redis import RedisStore
from proxy.cache.redis_connection import RedisConnection
from proxy.cache.redis_duty import RedisDuty
from proxy.cache.redis_leases import RedisLeases
from proxy.clock import SystemClock
from proxy.freshness import Watermark
from proxy.payload import Payload
from proxy.query import Key, Query
from proxy.rollout.ledger import Batch, Ledger, Sample, SampleHead
from proxy.rollout.ledger_file import LedgerFile
from proxy.rollout.own_file import FORM
from proxy.rollout.redis_ledger import RedisLedger
from proxy.rollout.redis_state import RedisState
from proxy.rollout.registers import Register
from proxy.rollout.result import Difference
from proxy.rollout.state import (
    Cause,
    MigrationState,
    Rollout,
    lifted,
    rolled_back,
    with_percent,
    with_rollout,
    with_shadow_rate,
)
from proxy.rollout.state_codec import FORM as STATE_FORM
from proxy.rollout.state_codec import to_json
from proxy.rollout.state_file import StateFile
from proxy.rollout.tallies import Tally
from proxy.telemetry import Telemetry
from tests.redis_server import RedisServer

HERE = Path(__file__).parent
DAY = "2024-01-31"
KEY = Key("00112233445566778899aabbccddeeff")
ENTRY = Entry(
    query=Query("analytics", date(2024, 1, 1), date(2024, 1, 31), "campaign", "country"),
    payload=Payload.of(b'{"success":true,"data":[{"id":"1","spend":3.5}]}'),
    watermark=Watermark("a1b2", "2024-02-01 06:00:00"),
    stored_at=1_706_767_200.5,
    cost_ms=12.5,
    warnings=("no_meta",),
)


def _state() -> MigrationState:
    def why(at: float, reason: str = "because") -> Cause:
        return Cause("ann", reason, 1_706_767_200.0 + at)

    state = with_percent(MigrationState(), 30, why(1))
    state = with_shadow_rate(state, 0.25, why(2))
    state = lifted(rolled_back(state, why(3, "too slow: 90 ms, größer")), why(4))
    state = with_percent(state, 10, why(5))
    running = Rollout("running", 1, 1_706_767_206.0, "pass", "so far", {"total|compared": 7.0})
    state = with_rollout(state, running, 50, why(6), action="step")
    state = rolled_back(state, why(7, "wrong numbers"))
    later = Register(9, 1_706_767_209.0, "ann", "later", b'{"a":[1,2.5,null]}')
    return MigrationState(**{name: getattr(state, name) for name in _NAMES}, more={"later": later})


_NAMES = [name for name in MigrationState.__dataclass_fields__ if name != "more"]
STATE = _state()
HEAD = SampleHead(
    id="5ca1ab1e0001",
    at=1_706_767_200.25,
    shape="analytics",
    query=MappingProxyType(
        {"start_date": "2024-01-01", "end_date": "2024-01-31", "group_by": "campaign", "depth": 1}
    ),
    outcome="mismatched",
    control_side="legacy",
    differences=(
        Difference("data.*.spend", "spend", "campaign", "value", 3.5, 4, 0.125, 2, True),
        Difference("data.*", "data", "campaign", "missing_row", "2", None, is_deciding=True),
    ),
    rows=3,
    note="",
)
BODIES = (b'{"data":[{"spend":3.5}]}', b'{"data":[{"spend":4}]}')
TALLY = Tally(
    {"total|compared": 3, "diff|campaign|value|spend": 1}, {"diff|campaign|value|spend": 0.125}
)


async def fill(ledger: Ledger) -> None:
    """What the ledgers of the files hold."""
    frames = [zstandard.ZstdCompressor().compress(body) for body in BODIES]
    await ledger.add(Batch("writer", 4, {DAY: TALLY}))
    await ledger.keep(Sample(HEAD, *frames))


async def make_file(path: Path) -> None:
    """A PROXY_STATE at `path`, all of it in the one file."""
    async with StateFile(path) as file, LedgerFile(path) as ledger:
        await file.write(STATE)
        await fill(ledger)
    db = apsw.Connection(str(path))
    db.execute("PRAGMA journal_mode = DELETE; VACUUM")
    db.close()


async def fill_redis(connection: RedisConnection) -> None:
    await RedisState(connection).write(STATE)
    await fill(RedisLedger(connection))
    assert await RedisDuty(connection, "guard").take()
    leases = RedisLeases(connection, entry_ttl_s=60, lease_ttl_s=60)
    await leases.take(Lease(KEY, ENTRY.watermark.token, "holder"))


async def dumped(client: Any) -> dict[str, Any]:
    """All that is in a Redis: name -> type and content, in an order of their own."""
    found: dict[str, Any] = {}
    for name in sorted(await client.keys("*")):
        kind = (await client.type(name)).decode()
        held: Any
        match kind:
            case "string":
                held = (await client.get(name)).decode("latin-1")
            case "hash":
                pairs = sorted((await client.hgetall(name)).items())
                held = [[part.decode("latin-1") for part in pair] for pair in pairs]
            case _:
                scored = await client.zrange(name, 0, -1, withscores=True)
                held = [[member.decode("latin-1"), score] for member, score in scored]
        found[name.decode()] = [kind, held]
    return found


async def restore(client: Redis, found: dict[str, Any]) -> None:
    for name, (kind, held) in found.items():
        match kind:
            case "string":
                await client.set(name, held.encode("latin-1"))
            case "hash":
                pairs = {a.encode("latin-1"): b.encode("latin-1") for a, b in held}
                await client.hset(name, mapping=pairs)
            case _:
                await client.zadd(name, {a.encode("latin-1"): score for a, score in held})


async def main() -> None:
    async def is_new(name: str) -> bool:
        return not await asyncio.to_thread((HERE / name).exists)

    def write(name: str, data: bytes) -> None:
        (HERE / name).write_bytes(data)

    if await is_new(name := f"entry-{VERSION}.bin"):
        write(name, encode(ENTRY))
    if await is_new(name := f"state-{STATE_FORM}.json"):
        write(name, to_json(STATE))
    if await is_new(name := f"state-file-{FORM}.db.zst"):
        path = HERE / "state.db"
        await make_file(path)
        write(name, zstandard.ZstdCompressor(level=19).compress(path.read_bytes()))
        path.unlink()
    if await is_new(name := "redis-1.json"):
        async with (
            RedisServer() as server,
            Redis.from_url(server.url, protocol=2) as client,
            RedisStore(
                server.url, telemetry=Telemetry(), clock=SystemClock(), entry_ttl_s=60, timeout_s=20
            ) as store,
        ):
            await fill_redis(store.connection)
            write(name, json.dumps(await dumped(client), indent=1).encode() + b"\n")


if __name__ == "__main__":
    asyncio.run(main())
