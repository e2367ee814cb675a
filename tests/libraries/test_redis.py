"""redis-py's asyncio client against a real Redis."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.peers.programs import package


@pytest.fixture
def client(redis_server):
    """`client()` is a client for a block; nothing is in the database before."""
    redis = package("redis.asyncio")
    retry = package("redis.asyncio.retry")
    backoff = package("redis.backoff")

    @contextlib.asynccontextmanager
    async def connect(**options):
        async with redis.Redis(
            host="127.0.0.1", port=redis_server, retry=retry.Retry(backoff.NoBackoff(), 0), **options
        ) as client:
            await client.flushall()
            yield client

    return connect


def test_values_of_all_sizes_come_back(run, client):
    async def main():
        async with client() as redis:
            for size in (0, 1, 16_384, 1 << 20, 8 << 20):
                value = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
                await redis.set("key", value)
                assert await redis.get("key") == value

    run(main)


def test_a_pipeline_of_many_commands(run, client):
    async def main():
        async with client() as redis, redis.pipeline(transaction=True) as pipeline:
            for number in range(10_000):
                pipeline.rpush("list", number)
            assert await pipeline.execute() == list(range(1, 10_001))
            assert await redis.lrange("list", 0, -1) == [b"%d" % number for number in range(10_000)]

    run(main)


def test_many_tasks_share_a_pool(run, client):
    async def main():
        async with client(max_connections=20) as redis:
            await asyncio.gather(*(redis.incr("counter") for _ in range(20)))
            for _ in range(10):
                await asyncio.gather(*(redis.incr("counter") for _ in range(20)))
            assert await redis.get("counter") == b"220"

    run(main)


def test_messages_arrive_in_order(run, client):
    async def main():
        async with client() as redis, redis.pubsub() as listener:
            await listener.subscribe("news")
            heard = []

            async def listen():
                async for message in listener.listen():
                    if message["type"] == "message":
                        heard.append(int(message["data"]))
                    if len(heard) == 1000:
                        return

            listening = asyncio.ensure_future(listen())
            for number in range(1000):
                await redis.publish("news", number)
            await listening
            assert heard == list(range(1000))

    run(main)


def test_a_blocking_pop_is_cancelled_and_the_client_lives_on(run, client):
    async def main():
        async with client() as redis:
            waiting = asyncio.ensure_future(redis.blpop("nothing"))
            # Redis says how many wait, so that it is cancelled in the wait and not before.
            while (await redis.info("clients"))["blocked_clients"] != 1:
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await redis.ping()
            await redis.rpush("something", "value")
            assert await redis.blpop("something") == (b"something", b"value")

    run(main)


def test_a_wait_runs_into_its_timeout(run, client):
    async def main():
        redis_package = package("redis")
        async with client(socket_timeout=0.05) as redis:
            with pytest.raises(redis_package.TimeoutError):
                await redis.blpop("nothing")
            # A slow machine may need longer for an answer, too.
            answered = False
            while not answered:
                with contextlib.suppress(redis_package.TimeoutError):
                    answered = await redis.ping()

    run(main)


def test_a_connection_that_the_server_ends_is_an_error_and_made_anew(run, client):
    async def main():
        redis_package = package("redis")
        async with client() as redis, client() as other:
            waiting = asyncio.ensure_future(redis.blpop("nothing"))
            while not (blocked := [entry for entry in await other.client_list() if entry["cmd"] == "blpop"]):
                await asyncio.sleep(0)
            await other.client_kill(blocked[0]["addr"])
            with pytest.raises(redis_package.ConnectionError):
                await waiting
            assert await redis.ping()

    run(main)
