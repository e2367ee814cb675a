"""pyzmq's asyncio sockets, which watch a descriptor that is edge-triggered, and aiozmq's transports."""

from __future__ import annotations

import asyncio

import pytest

from tests.peers.programs import package


@pytest.fixture
def sockets():
    """`sockets(first, second)` are two sockets of these kinds that are connected."""
    zmq = package("zmq")
    zmq_asyncio = package("zmq.asyncio")
    context = zmq_asyncio.Context()

    def connected(first, second, transport="tcp"):
        server = context.socket(getattr(zmq, first))
        client = context.socket(getattr(zmq, second))
        for socket in (server, client):
            socket.linger = 0
        if transport == "tcp":
            client.connect(f"tcp://127.0.0.1:{server.bind_to_random_port('tcp://127.0.0.1')}")
        else:
            server.bind("inproc://pair")
            client.connect("inproc://pair")
        return server, client

    yield connected
    context.destroy()
    context.term()


@pytest.mark.parametrize("transport", ["tcp", "inproc"])
def test_messages_are_pushed_and_pulled(run, sockets, transport):
    async def main():
        pull, push = sockets("PULL", "PUSH", transport)

        async def send():
            for number in range(5000):
                await push.send_multipart([b"%d" % number, b"x" * (number % 1000)])

        sending = asyncio.ensure_future(send())
        for number in range(5000):
            assert await pull.recv_multipart() == [b"%d" % number, b"x" * (number % 1000)]
        await sending
        pull.close()
        push.close()

    run(main)


def test_requests_are_answered(run, sockets):
    async def main():
        server, client = sockets("REP", "REQ")

        async def serve():
            while (message := await server.recv()) != b"end":
                await server.send(message.upper())

        serving = asyncio.ensure_future(serve())
        for number in range(500):
            await client.send_string(f"word{number}")
            assert await client.recv_string() == f"WORD{number}"
        await client.send(b"end")
        await serving
        server.close()
        client.close()

    run(main)


def test_a_poll_and_a_receive_are_cancelled(run, sockets):
    async def main():
        pull, push = sockets("PULL", "PUSH")
        assert await pull.poll(10) == 0
        waiting = asyncio.ensure_future(pull.recv())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await push.send(b"message")
        assert await pull.recv() == b"message"
        pull.close()
        push.close()

    run(main)


def test_remote_calls_by_aiozmq(run):
    """Its own transport, over add_reader."""
    package("msgpack")
    rpc = package("aiozmq.rpc")

    class Handler(rpc.AttrHandler):
        @rpc.method
        def add(self, first: int, second: int) -> int:
            return first + second

        @rpc.method
        def fail(self):
            raise ValueError("as asked")

    async def main():
        server = await rpc.serve_rpc(Handler(), bind="tcp://127.0.0.1:*")
        address = next(iter(server.transport.bindings()))
        client = await rpc.connect_rpc(connect=address)
        assert await asyncio.gather(*(client.call.add(number, 1) for number in range(200))) == list(range(1, 201))
        with pytest.raises(ValueError, match="as asked"):
            await client.call.fail()
        for end in (client, server):
            end.close()
            await end.wait_closed()

    run(main)
    package("zmq").Context.instance().term()  # aiozmq's, which keeps descriptors
