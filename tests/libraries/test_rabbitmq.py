"""aio-pika against a real RabbitMQ."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.peers.programs import package


@pytest.fixture
def channel(rabbitmq):
    """`channel()` is a channel of a connection of its own, for a block."""
    aio_pika = package("aio_pika")

    @contextlib.asynccontextmanager
    async def connect():
        connection = await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{rabbitmq}/")
        async with connection, connection.channel() as channel:
            yield channel

    return connect


def test_confirmed_messages_arrive_in_order(run, channel):
    aio_pika = package("aio_pika")
    bodies = [b"%d" % number for number in range(300)] + [bytes(range(256)) * (1 << 12)]

    async def main():
        async with channel() as sending, channel() as receiving:
            queue = await receiving.declare_queue(exclusive=False, auto_delete=True)
            await receiving.set_qos(prefetch_count=10)
            for body in bodies:
                await sending.default_exchange.publish(aio_pika.Message(body), queue.name)
            received = []
            async with queue.iterator() as messages:
                async for message in messages:
                    async with message.process():
                        received.append(message.body)
                    if len(received) == len(bodies):
                        break
            assert received == bodies

    run(main)


def test_everyone_bound_to_an_exchange_gets_a_copy(run, channel):
    aio_pika = package("aio_pika")

    async def listen(listening, exchange, heard):
        queue = await listening.declare_queue(exclusive=True)
        await queue.bind(exchange)
        await queue.consume(heard.put, no_ack=True)

    async def main():
        async with channel() as sending, channel() as one, channel() as other:
            await sending.declare_exchange("news", aio_pika.ExchangeType.FANOUT, auto_delete=True)
            ears = [asyncio.Queue(), asyncio.Queue()]
            for listening, heard in ((one, ears[0]), (other, ears[1])):
                await listen(listening, await listening.get_exchange("news"), heard)
            exchange = await sending.get_exchange("news")
            await asyncio.gather(*(exchange.publish(aio_pika.Message(b"%d" % n), "") for n in range(100)))
            for heard in ears:
                assert {(await heard.get()).body for _ in range(100)} == {b"%d" % number for number in range(100)}

    run(main)


def test_remote_calls_and_their_errors(run, channel):
    patterns = package("aio_pika.patterns")

    async def divide(*, dividend, divisor):
        return dividend / divisor

    async def main():
        async with channel() as serving, channel() as calling:
            server = await patterns.JsonRPC.create(serving)
            await server.register("divide", divide, auto_delete=True)
            client = await patterns.JsonRPC.create(calling)
            calls = (client.call("divide", kwargs={"dividend": n, "divisor": 4}) for n in range(100))
            assert await asyncio.gather(*calls) == [n / 4 for n in range(100)]
            with pytest.raises(patterns.rpc.JsonRPCError):
                await client.call("divide", kwargs={"dividend": 1, "divisor": 0})
            await client.close()
            await server.close()

    run(main)


def test_a_message_whose_receiver_is_cancelled_goes_to_another(run, channel):
    aio_pika = package("aio_pika")

    async def main():
        async with channel() as sending, channel() as receiving:
            queue = await sending.declare_queue(exclusive=False, auto_delete=True)
            begun = asyncio.Event()

            async def work(message):
                async with message.process(requeue=True):
                    begun.set()
                    await asyncio.sleep(3600)

            async def take_and_work():
                await work(await (await receiving.get_queue(queue.name)).get())

            await sending.default_exchange.publish(aio_pika.Message(b"job"), queue.name)
            working = asyncio.ensure_future(take_and_work())
            await begun.wait()
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
            # Its rejection and this are on two connections.
            while (again := await queue.get(no_ack=True, fail=False)) is None:
                pass
            assert (again.body, again.redelivered) == (b"job", True)
            with pytest.raises(aio_pika.exceptions.QueueEmpty):
                await queue.get()

    run(main)
