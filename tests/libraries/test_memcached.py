"""aiomcache against a real memcached."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.peers.programs import package


@pytest.fixture
def client(memcached):
    aiomcache = package("aiomcache")

    @contextlib.asynccontextmanager
    async def connect():
        client = aiomcache.Client("127.0.0.1", memcached, pool_size=4)
        try:
            await client.flush_all()
            yield client
        finally:
            await client.close()

    return connect


def test_values_come_back(run, client):
    async def main():
        async with client() as cache:
            for size in (0, 1, 4096, 1 << 19):
                value = b"x" * size
                assert await cache.set(b"key", value)
                assert await cache.get(b"key") == value
            assert await cache.get(b"nothing") is None
            assert await cache.delete(b"key")
            assert not await cache.delete(b"key")

    run(main)


def test_many_tasks_share_the_connections(run, client):
    async def main():
        async with client() as cache:
            await cache.set(b"counter", b"0")
            await asyncio.gather(*(cache.incr(b"counter") for _ in range(500)))
            assert await cache.get(b"counter") == b"500"
            await asyncio.gather(*(cache.set(b"k%d" % number, b"%d" % number) for number in range(100)))
            assert await cache.multi_get(*(b"k%d" % number for number in range(100))) == tuple(
                b"%d" % number for number in range(100)
            )

    run(main)
