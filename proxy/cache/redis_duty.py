"""RedisDuty: a duty that processes agree on through a key in Redis."""

import uuid

from proxy.cache.redis_connection import RedisConnection

_RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""
_GIVE_BACK = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
    return redis.call('DEL', KEYS[1])
end
return 0
"""


class RedisDuty:
    """A key that expires by itself when its holder dies."""

    def __init__(self, connection: RedisConnection, what: str, *, ttl_s: float = 60.0) -> None:
        self._connection = connection
        self._name = connection.duty_name(what)
        self._token = uuid.uuid4().hex
        self.ttl_s = ttl_s

    async def take(self) -> bool:
        client = self._connection.client
        taken = await self._connection.ask(
            "SET", lambda: client.set(self._name, self._token, nx=True, px=self._ttl_ms)
        )
        # A SET whose answer was lost may have been ours.
        return bool(taken) or await self.renew()

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
