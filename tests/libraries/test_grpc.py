"""grpc.aio, whose own thread wakes the loop by a socket that it watches with `add_reader`."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.peers.programs import package


class Service:
    """What is called; payloads are bytes, so that no generated code is needed."""

    def __init__(self):
        self.cancelled = 0

    async def shout(self, request, _context):
        return request.upper()

    async def fail(self, _request, context):
        await context.abort(package("grpc").StatusCode.NOT_FOUND, "as asked")

    async def count(self, request, _context):
        for number in range(int(request)):
            yield b"%d" % number

    async def add(self, requests, _context):
        return b"%d" % sum([int(request) async for request in requests])

    async def stall(self, _request, _context):
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@contextlib.asynccontextmanager
async def serving(service):
    """A channel to a server of that service."""
    grpc = package("grpc")
    server = package("grpc.aio").server()
    handlers = {
        "shout": grpc.unary_unary_rpc_method_handler(service.shout),
        "fail": grpc.unary_unary_rpc_method_handler(service.fail),
        "count": grpc.unary_stream_rpc_method_handler(service.count),
        "add": grpc.stream_unary_rpc_method_handler(service.add),
        "stall": grpc.unary_unary_rpc_method_handler(service.stall),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Service", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


async def calls():
    grpc = package("grpc")
    service = Service()
    async with serving(service) as channel:
        shout = channel.unary_unary("/Service/shout")
        words = [b"word%d" % number for number in range(200)]
        assert await asyncio.gather(*(shout(word) for word in words)) == [word.upper() for word in words]
        assert await shout(b"x" * (1 << 20)) == b"X" * (1 << 20)
        counted = channel.unary_stream("/Service/count")(b"1000")
        assert [int(number) async for number in counted] == list(range(1000))
        assert await channel.stream_unary("/Service/add")(iter([b"%d" % number for number in range(100)])) == b"4950"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/Service/fail")(b"")
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        timeout = 0.1
        while not service.cancelled:  # a call that is over before it comes to the service is not cancelled there
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await channel.unary_unary("/Service/stall")(b"", timeout=timeout)
            assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            timeout *= 2


#: grpc.aio keeps its thread and descriptors as long as the process lives, so it gets one of its own.
PROGRAM = """
import asyncio, sys
from tests.libraries.test_grpc import calls
asyncio.run(calls())
asyncio.run(calls())  # a second loop after the first
print(type(asyncio.new_event_loop()).__module__, "done")
"""


def test_calls_of_all_kinds(program_output):
    package("grpc")
    assert program_output(PROGRAM).endswith("done\n")
