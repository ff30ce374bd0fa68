"""One process at a time is on duty, and nobody waits for a dead one for ever."""

import pytest
from redis.asyncio import Redis

from proxy.cache.duty import OwnDuty
from proxy.cache.redis import RedisStore
from proxy.cache.redis_duty import RedisDuty
from proxy.errors import StoreError
from tests.redis_server import RedisServer


@pytest.fixture
def ours(store: RedisStore) -> RedisDuty:
    return RedisDuty(store.connection, "warm")


@pytest.fixture
def theirs(store: RedisStore) -> RedisDuty:
    return RedisDuty(store.connection, "warm")


async def test_only_one_has_it_until_it_is_given_back(ours: RedisDuty, theirs: RedisDuty) -> None:
    assert await ours.take()
    assert not await theirs.take()
    await ours.give_back()
    assert await theirs.take()


async def test_who_has_it_may_take_it_again(ours: RedisDuty) -> None:
    assert await ours.take()
    assert await ours.take()


async def test_it_runs_out_by_itself_and_renewing_lengthens_it(
    store: RedisStore, ours: RedisDuty, raw: Redis
) -> None:
    await ours.take()
    name = store.connection.duty_name("warm")
    await raw.pexpire(name, 5)
    assert await ours.renew()
    assert await raw.pttl(name) > 1000


async def test_one_that_lost_it_can_neither_renew_it_nor_give_it_back(
    store: RedisStore, ours: RedisDuty, theirs: RedisDuty, raw: Redis
) -> None:
    await ours.take()
    await raw.delete(store.connection.duty_name("warm"))
    assert await theirs.take()
    assert not await ours.renew()
    await ours.give_back()
    assert not await ours.take()


async def test_duties_of_another_name_are_apart(store: RedisStore, ours: RedisDuty) -> None:
    await ours.take()
    assert await RedisDuty(store.connection, "other").take()


async def test_an_outage_is_told(server: RedisServer, ours: RedisDuty) -> None:
    server.kill()
    for call in (ours.take, ours.renew, ours.give_back):
        with pytest.raises(StoreError):
            await call()


async def test_who_is_alone_is_always_on_duty() -> None:
    duty = OwnDuty()
    assert await duty.take()
    assert await duty.renew()
    await duty.give_back()
    assert await duty.take()
