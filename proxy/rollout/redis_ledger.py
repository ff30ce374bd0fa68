"""RedisLedger: the ledger in Redis, for processes on many machines. Each change is one script."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import orjson
import structlog

from proxy.cache.redis_connection import RedisConnection, WrongTypeError
from proxy.rollout.ledger import (
    MOST_DAYS,
    MOST_SAMPLE_BYTES,
    MOST_SAMPLES,
    Batch,
    Sample,
    SampleHead,
)
from proxy.rollout.sample_codec import DAMAGED, NewerSampleError, head_from_json, head_to_json
from proxy.rollout.tallies import MOST_NAMES, Tally, folded

N = TypeVar("N", int, float)
log = structlog.get_logger(__name__)

_DAY_S = 86_400
_KEPT_S = (MOST_DAYS + 1) * _DAY_S
_WRITER_S = 7 * _DAY_S
"""How long a process may wait before it sends a batch again whose answer was lost."""
_DAYS_AT_ONCE = 8
"""Read in one call: a day may have thousands of names."""
_LENGTH = struct.Struct(">I")

_OWN = """
local function own(name, kind)
  local found = redis.call('TYPE', name).ok
  if found ~= 'none' and found ~= kind then redis.call('DEL', name) end
end
"""

# The number first: a server that is full refuses that, and then nothing has
# happened. From there on nothing may fail, for a script is not undone.
_ADD = (
    _OWN
    + """
local base, number, writer_s, kept_s, most_days, most_names, days = unpack(ARGV)
own(KEYS[1], 'string')
local last = tonumber(redis.call('GET', KEYS[1]) or '')
if last and last >= tonumber(number) then return 0 end
redis.call('SET', KEYS[1], number, 'EX', writer_s)
own(KEYS[2], 'zset')
for _, added in ipairs(cjson.decode(days)) do
  local counts, maxima = base .. 'counts:' .. added.day, base .. 'maxima:' .. added.day
  own(counts, 'hash')
  own(maxima, 'hash')
  local size = redis.call('HLEN', counts)
  for _, one in ipairs(added.counts) do
    local name, fold, by = one[1], one[2], one[3]
    if redis.call('HEXISTS', counts, name) == 0 then
      if size < tonumber(most_names) then size = size + 1 else name = fold end
    end
    local done = redis.pcall('HINCRBY', counts, name, by)
    if type(done) == 'table' and done.err then redis.call('HSET', counts, name, by) end
  end
  for _, one in ipairs(added.maxima) do
    local name, value = one[1], one[3]
    if redis.call('HEXISTS', counts, name) == 0 then name = one[2] end
    local held = tonumber(redis.call('HGET', maxima, name) or '')
    if not held or held < tonumber(value) then redis.call('HSET', maxima, name, value) end
  end
  redis.call('EXPIRE', counts, kept_s)
  redis.call('EXPIRE', maxima, kept_s)
  redis.call('ZADD', KEYS[2], 0, added.day)
end
for _, day in ipairs(redis.call('ZRANGE', KEYS[2], 0, -(tonumber(most_days) + 1))) do
  redis.call('DEL', base .. 'counts:' .. day, base .. 'maxima:' .. day)
  redis.call('ZREM', KEYS[2], day)
end
redis.call('EXPIRE', KEYS[2], kept_s)
return 1
"""
)

# A server that is full may evict the lists of ids and leave what they list:
# then nobody would let go of that, so all begins anew.
_KEEP = (
    _OWN
    + """
local heads, bodies, mine, others = unpack(KEYS)
local id, at, head, body, most, most_bytes, kept_s = unpack(ARGV)
own(heads, 'hash')
own(bodies, 'hash')
own(mine, 'zset')
own(others, 'zset')
local listed = redis.call('ZCARD', mine) + redis.call('ZCARD', others)
if redis.call('HLEN', heads) > listed or redis.call('HLEN', bodies) > listed then
  redis.call('DEL', heads, bodies, mine, others)
end
redis.call('HSET', heads, id, head)
redis.call('HSET', bodies, id, body)
redis.call('ZADD', mine, at, id)
local held = 0
for place, one in ipairs(redis.call('ZREVRANGE', mine, 0, -1)) do
  held = held + redis.call('HSTRLEN', heads, one) + redis.call('HSTRLEN', bodies, one)
  if place > 1 and (place > tonumber(most) or held > tonumber(most_bytes)) then
    redis.call('HDEL', heads, one)
    redis.call('HDEL', bodies, one)
    redis.call('ZREM', mine, one)
  end
end
for _, name in ipairs(KEYS) do redis.call('EXPIRE', name, kept_s) end
return 1
"""
)


class RedisLedger:
    """Under names of its own beside the entries, with the form in them: what
    versions of another form count and keep is apart. Redis flushed: it begins anew.

    What stands under its names and is none of it is overwritten. Everything
    expires by itself when nothing is compared any more.
    """

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._client = connection.client
        self._days = connection.ledger_name("days")
        self._heads = connection.ledger_name("heads")
        self._bodies = connection.ledger_name("bodies")
        self._add = connection.client.register_script(_ADD)
        self._keep = connection.client.register_script(_KEEP)

    async def add(self, batch: Batch) -> None:
        keys = [self._connection.ledger_name(f"writer:{batch.writer}"), self._days]
        arguments: tuple[str | bytes | int, ...] = (
            self._connection.ledger_name(""),
            batch.number,
            _WRITER_S,
            _KEPT_S,
            MOST_DAYS,
            MOST_NAMES,
            orjson.dumps([_day(day, tally) for day, tally in batch.tallies.items()]),
        )
        await self._connection.ask("add", lambda: self._add(keys, arguments))

    async def keep(self, sample: Sample) -> None:
        head = sample.head
        keys = [self._heads, self._bodies, *self._listed(head.is_mismatched)]
        body = _LENGTH.pack(len(sample.control)) + sample.control + sample.candidate
        bounds = (MOST_SAMPLES, MOST_SAMPLE_BYTES, _KEPT_S)
        arguments = (head.id, repr(head.at), head_to_json(head), body, *bounds)
        await self._connection.ask("keep", lambda: self._keep(keys, arguments))

    async def tallies(self, since: str | None = None) -> Mapping[str, Tally]:
        try:
            names = await self._connection.ask(
                "ZRANGE", lambda: self._client.zrange(self._days, 0, -1)
            )
        except WrongTypeError:
            return {}
        known = [name.decode(errors="replace") for name in names if isinstance(name, bytes)]
        days = [day for day in known if day >= (since or "")]
        found: dict[str, Tally] = {}
        for first in range(0, len(days), _DAYS_AT_ONCE):
            found |= await self._tallies_of(days[first : first + _DAYS_AT_ONCE])
        return found

    async def heads(self) -> Sequence[SampleHead]:
        try:
            kept = await self._connection.ask("HVALS", lambda: self._client.hvals(self._heads))
        except WrongTypeError:
            return []
        heads = [_head(data) for data in kept if isinstance(data, bytes)]
        found = [head for head in heads if head is not None]
        return sorted(found, key=lambda head: (head.at, head.id), reverse=True)

    async def sample(self, sample_id: str) -> Sample | None:
        async def both() -> list[object]:
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.hget(self._heads, sample_id)
                pipeline.hget(self._bodies, sample_id)
                found: list[object] = await pipeline.execute(raise_on_error=False)
                return found

        kept, body = await self._connection.ask("HGET", both)
        head = _head(kept) if isinstance(kept, bytes) else None
        if head is None:
            return None
        if not isinstance(body, bytes) or len(body) < _LENGTH.size:
            return Sample(replace(head, note=DAMAGED))
        (length,) = _LENGTH.unpack_from(body)
        middle = _LENGTH.size + length
        return Sample(head, body[_LENGTH.size : middle], body[middle:])

    async def _tallies_of(self, days: Sequence[str]) -> dict[str, Tally]:
        async def all_of_them() -> list[object]:
            async with self._client.pipeline(transaction=False) as pipeline:
                for day in days:
                    pipeline.hgetall(self._connection.ledger_name(f"counts:{day}"))
                    pipeline.hgetall(self._connection.ledger_name(f"maxima:{day}"))
                found: list[object] = await pipeline.execute(raise_on_error=False)
                return found

        found = await self._connection.ask("HGETALL", all_of_them)
        tallies = {
            day: Tally(_numbers(counts, int), _numbers(maxima, float))
            for day, counts, maxima in zip(days, found[::2], found[1::2], strict=True)
        }
        return {day: tally for day, tally in tallies.items() if tally}

    def _listed(self, is_mismatched: bool) -> tuple[str, str]:
        """The ids of the samples of that kind, and of the others."""
        mismatched = self._connection.ledger_name("mismatched")
        others = self._connection.ledger_name("others")
        return (mismatched, others) if is_mismatched else (others, mismatched)

    def __repr__(self) -> str:
        return f"<RedisLedger {self._connection!r}>"


def _day(day: str, tally: Tally) -> dict[str, object]:
    """Numbers as texts: Lua's have no more than 53 bits."""
    return {
        "day": day,
        "counts": [(name, folded(name), str(count)) for name, count in tally.counts.items()],
        "maxima": [(name, folded(name), repr(value)) for name, value in tally.maxima.items()],
    }


def _numbers(found: object, kind: type[N]) -> dict[str, N]:
    """What a hash of Redis holds; what is no number is left out."""
    numbers: dict[str, N] = {}
    for name, text in found.items() if isinstance(found, dict) else ():
        try:
            numbers[name.decode(errors="replace")] = kind(text)
        except ValueError:
            log.warning("tally_is_rubbish", where="redis", name=name[:100])
    return numbers


def _head(data: bytes) -> SampleHead | None:
    try:
        return head_from_json(data)
    except NewerSampleError:
        return None
    except ValueError as error:
        log.warning("sample_is_rubbish", where="redis", error=str(error))
        return None
