"""nats-py against a real NATS server."""

from __future__ import annotations

import asyncio

import pytest

from tests.peers.programs import package


def test_published_messages_arrive_in_order(run, nats_server):
    nats = package("nats")

    async def main():
        client = await nats.connect(f"nats://127.0.0.1:{nats_server}")
        heard = asyncio.Queue()
        await client.subscribe("news", cb=heard.put)
        for number in range(1000):
            await client.publish("news", b"%d" % number)
        await client.flush()
        assert [(await heard.get()).data for _ in range(1000)] == [b"%d" % number for number in range(1000)]
        await client.drain()

    run(main)


def test_requests_are_answered(run, nats_server):
    nats = package("nats")
    errors = package("nats.errors")

    async def main():
        server = await nats.connect(f"nats://127.0.0.1:{nats_server}")
        client = await nats.connect(f"nats://127.0.0.1:{nats_server}")

        async def answer(message):
            await message.respond(message.data.upper())

        await server.subscribe("shout", cb=answer)
        # What is flushed may overtake what another task of the client's sends; the second does not.
        await server.flush()
        await server.flush()
        words = [b"word%d" % number for number in range(100)]
        answers = await asyncio.gather(*(client.request("shout", word, timeout=30) for word in words))
        assert [answer.data for answer in answers] == [word.upper() for word in words]
        with pytest.raises(errors.NoRespondersError):
            await client.request("nobody", b"", timeout=30)
        await client.close()
        await server.close()

    run(main)
