"""Leases kept in Redis. Each step is one script, so nothing comes between look and write."""

from redis.commands.core import AsyncScript

from proxy.cache.entry import Entry
from proxy.cache.lease import Lease, Taken
from proxy.cache.packing import pack
from proxy.cache.redis_connection import RedisConnection
from proxy.errors import StoreError

# A lease is a hash with the token of its holder and a time to live. The fence
# of a question counts the leases granted for it (`taken`), in whatever state
# of the data, and knows which of them put last (`written`), with which
# watermark. `era` is its birth: a fence that was lost, or deleted with the
# entry, does not know the leases from before, and lets none of them write.
_FENCE_MS = 600_000
"""A fence outlives any lease: it lasts so long from the last grant, renewal or write."""

_TAKE = """
local token, watermark, lease_ms, fence_ms, again = unpack(ARGV)
if again == '0' and redis.call('HGET', KEYS[2], 'watermark') == watermark
    and redis.call('EXISTS', KEYS[3]) == 1 then
  return 2
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 1
end
redis.call('HSETNX', KEYS[2], 'era', token)
local number = redis.call('HINCRBY', KEYS[2], 'taken', 1)
redis.call('PEXPIRE', KEYS[2], fence_ms)
local era = redis.call('HGET', KEYS[2], 'era')
redis.call('HSET', KEYS[1], 'token', token, 'number', number, 'era', era)
redis.call('PEXPIRE', KEYS[1], lease_ms)
return 0
"""

_RENEW = """
local token, lease_ms, fence_ms = unpack(ARGV)
if redis.call('HGET', KEYS[1], 'token') ~= token then
  return 0
end
redis.call('PEXPIRE', KEYS[1], lease_ms)
redis.call('PEXPIRE', KEYS[2], fence_ms)
return 1
"""

# The entry first: a server that is full refuses that, and then nothing has happened.
_PUT = """
local token, watermark, entry_ms, fence_ms, entry = unpack(ARGV)
local lease = redis.call('HMGET', KEYS[1], 'token', 'number', 'era')
if lease[1] ~= token then
  return 0
end
local fence = redis.call('HMGET', KEYS[2], 'era', 'written')
local is_late = fence[1] ~= lease[3] or tonumber(fence[2] or 0) > tonumber(lease[2])
if not is_late then
  redis.call('SET', KEYS[3], entry, 'PX', entry_ms)
  redis.call('HSET', KEYS[2], 'written', lease[2], 'watermark', watermark)
  redis.call('PEXPIRE', KEYS[2], fence_ms)
end
redis.call('DEL', KEYS[1])
return is_late and 0 or 1
"""

_GIVE_BACK = """
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 0
"""

_TAKEN = (Taken.GRANTED, Taken.HELD, Taken.ANSWERED)


class RedisLeases:
    """Leases that last `lease_ttl_s` seconds unless renewed; entries `entry_ttl_s`.

    They stand beside the entries of the RedisStore whose connection this is.
    A lease that Redis forgets (restart, flush, eviction) is lost.
    """

    def __init__(
        self, connection: RedisConnection, *, entry_ttl_s: float, lease_ttl_s: float
    ) -> None:
        self._connection = connection
        self._entry_ms = max(1, int(entry_ttl_s * 1000))
        self._lease_ms = max(1, int(lease_ttl_s * 1000))
        # EVALSHA; a server that does not know the script is sent it.
        self._take = connection.client.register_script(_TAKE)
        self._renew = connection.client.register_script(_RENEW)
        self._put = connection.client.register_script(_PUT)
        self._give_back = connection.client.register_script(_GIVE_BACK)

    async def take(self, lease: Lease, *, again: bool = False) -> Taken:
        rest = (lease.watermark, self._lease_ms, _FENCE_MS, int(again))
        return _TAKEN[await self._run("take", self._take, lease, *rest)]

    async def renew(self, lease: Lease) -> bool:
        return await self._run("renew", self._renew, lease, self._lease_ms, _FENCE_MS) == 1

    async def put(self, lease: Lease, entry: Entry) -> bool:
        # As with the store: a large value must not be what tries a sick server.
        if self._connection.circuit.is_open:
            raise StoreError("redis is down")
        rest = (lease.watermark, self._entry_ms, _FENCE_MS, await pack(entry))
        return await self._run("put", self._put, lease, *rest) == 1

    async def give_back(self, lease: Lease) -> None:
        await self._run("give back", self._give_back, lease)

    async def _run(
        self, step: str, script: AsyncScript, lease: Lease, *rest: str | bytes | int
    ) -> int:
        names = [
            self._connection.lease_name(lease.key, lease.watermark),
            self._connection.fence_name(lease.key),
            self._connection.entry_name(lease.key),
        ]
        arguments = (lease.token, *rest)
        answer = await self._connection.ask(step, lambda: script(keys=names, args=arguments))
        return int(answer)

    def __repr__(self) -> str:
        return f"<RedisLeases {self._lease_ms} ms {self._connection!r}>"
