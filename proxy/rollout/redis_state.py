"""RedisState: the state of the migration in Redis, for processes on many machines."""

from collections.abc import Collection, Mapping
from contextlib import suppress

import structlog

from proxy.cache.redis_connection import RedisConnection, WrongTypeError
from proxy.errors import StoreError
from proxy.rollout.shared_state import NewerStateError, merged_into
from proxy.rollout.state import MigrationState
from proxy.rollout.state_codec import NewerFormError, from_json, tag_of, to_json

log = structlog.get_logger(__name__)

_MOST_TRIES = 20
_ALIVE_S = 3
WHAT_TO_DO = (
    "Start that version again, or use another database number in PROXY_REDIS_URL: "
    "there is no split and no rollback of before there"
)

# Whatever else stands under the name is no state and counts as nothing.
_KEPT = """
local function kept(field)
  if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return false end
  return redis.call('HGET', KEYS[1], field)
end
"""
_READ = _KEPT + "return kept('body')"
_BOTH = _KEPT + "return {kept('tag'), kept('body')}"
_SWAP = (
    _KEPT
    + """
if (kept('tag') or '') ~= ARGV[1] then return 0 end
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'tag', ARGV[2], 'body', ARGV[3])
return 1
"""
)
# At most one write a second. A server that is full refuses it, and is still listened to.
_FOLLOW = (
    _KEPT
    + """
if redis.call('TYPE', KEYS[2]).ok ~= 'hash' then redis.pcall('DEL', KEYS[2]) end
local tag, version = kept('tag'), '0'
if tag and tag == ARGV[2] then version = string.match(tag, '^%d+') or '0' end
local said = version .. ' ' .. redis.call('TIME')[1]
if redis.call('HGET', KEYS[2], ARGV[1]) ~= said then
  redis.pcall('HSET', KEYS[2], ARGV[1], said)
  redis.pcall('EXPIRE', KEYS[2], 60)
end
return tag
"""
)
_FOLLOWERS = """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return {} end
local now = tonumber(redis.call('TIME')[1])
local all = redis.call('HGETALL', KEYS[1])
local alive = {}
for i = 1, #all, 2 do
  -- A later version may have more to say behind it.
  local version, at = string.match(all[i + 1], '^(%d+) (%d+)')
  if at and now - tonumber(at) <= tonumber(ARGV[1]) then
    table.insert(alive, all[i])
    table.insert(alive, version)
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return alive
"""


class RedisState:
    """Compare and set: two who write at once both get in, one after the other.

    A process counts as following for three seconds after it last said so.
    """

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._name = connection.migration_name("state")
        self._followers = connection.migration_name("followers")
        client = connection.client
        self._read = client.register_script(_READ)
        self._both = client.register_script(_BOTH)
        self._swap = client.register_script(_SWAP)
        self._follow = client.register_script(_FOLLOW)
        self._listed = client.register_script(_FOLLOWERS)

    async def read(self) -> MigrationState | None:
        body = await self._connection.ask("read", lambda: self._read(keys=[self._name]))
        return None if body is None else self._state(bytes(body))

    async def write(self, state: MigrationState) -> MigrationState:
        for _ in range(_MOST_TRIES):
            tag, kept = await self._tagged()
            merged = merged_into(kept, state)
            if merged == kept:
                return merged
            arguments = (tag, tag_of(merged), to_json(merged))
            if await self._connection.ask("swap", lambda: self._swap([self._name], arguments)):  # noqa: B023
                return merged
        raise StoreError("redis: the state of the migration changes all the time")

    async def follow(self, process: str, tag: str | None) -> str | None:
        keys, arguments = [self._name, self._followers], (process, tag or "")
        found = await self._connection.ask("follow", lambda: self._follow(keys, arguments))
        return None if found is None else bytes(found).decode(errors="replace")

    async def followers(self) -> Mapping[str, int]:
        keys, arguments = [self._followers], (_ALIVE_S,)
        found = await self._connection.ask("followers", lambda: self._listed(keys, arguments))
        pairs = zip(found[::2], found[1::2], strict=True)
        return {bytes(name).decode(errors="replace"): int(version) for name, version in pairs}

    async def forget(self, processes: Collection[str]) -> None:
        client = self._connection.client
        with suppress(WrongTypeError):
            await self._connection.ask("forget", lambda: client.hdel(self._followers, *processes))

    async def _tagged(self) -> tuple[str, MigrationState | None]:
        """What is there under which tag. The tag is the one that `_SWAP` compares with."""
        tag, body = await self._connection.ask("read", lambda: self._both(keys=[self._name]))
        state = self._state(bytes(body)) if body else None
        return bytes(tag or b"").decode(errors="replace"), state

    def _state(self, body: bytes) -> MigrationState | None:
        try:
            return from_json(body)
        except NewerFormError as error:
            # Its processes are newer than this one: what they agreed on is not overwritten.
            raise NewerStateError(
                "the state of the migration in Redis was written by a newer version "
                f"({error}). {WHAT_TO_DO}"
            ) from error
        except ValueError as error:
            log.warning("state_is_rubbish", where="redis", error=str(error))
            return None

    def __repr__(self) -> str:
        return f"<RedisState {self._name}>"
