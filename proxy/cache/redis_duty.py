"""RedisDuty: a duty that processes agree on through a key in Redis."""

import uuid

from proxy.cache.redis_connection import RedisConnection

FORM = 1
"""The first word of a token. Whatever else stands under the name is somebody else's duty: versions
may change what they write there, as long as it expires by itself."""

# One that nobody will ever end is given an end.
_TAKE = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' or (kind == 'string' and redis.call('GET', KEYS[1]) == ARGV[1]) then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 1
end
if redis.call('PTTL', KEYS[1]) == -1 then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""
_OWN = """
if redis.call('TYPE', KEYS[1]).ok ~= 'string' or redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
"""
_RENEW = _OWN + "return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
_GIVE_BACK = _OWN + "return redis.call('DEL', KEYS[1])"


class RedisDuty:
    """A key that expires by itself when its holder dies."""

    def __init__(self, connection: RedisConnection, what: str, *, ttl_s: float = 60.0) -> None:
        self._connection = connection
        self._name = connection.duty_name(what)
        self._token = f"{FORM} {uuid.uuid4().hex}"
        self.ttl_s = ttl_s

    async def take(self) -> bool:
        # One whose answer was lost may have been granted: then it is granted again.
        return bool(await self._run(_TAKE, self._token, str(self._ttl_ms)))

    async def renew(self) -> bool:
        return bool(await self._run(_RENEW, self._token, str(self._ttl_ms)))

    async def give_back(self) -> None:
        await self._run(_GIVE_BACK, self._token)

    @property
    def _ttl_ms(self) -> int:
        return int(self.ttl_s * 1000)

    async def _run(self, script: str, *arguments: str) -> object:
        client = self._connection.client
        return await self._connection.ask(
            "EVAL", lambda: client.eval(script, 1, self._name, *arguments)
        )

    def __repr__(self) -> str:
        return f"<RedisDuty {self._name} ttl={self.ttl_s:g} s>"
