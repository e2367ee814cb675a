"""An exception in every callback of the user's: it is reported, the connection ends, the loop lives."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.protocols import Echo, Paused, Recorder, close_all, connected_pair
from tests.support.user_errors import Boom, FailingBuffer, FailingFlowControl, failing, flow_control_is_reported


async def next_client_is_served(loop, server):
    _, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
    await close_all(protocol)


@pytest.mark.parametrize("method", ["data_received", "eof_received"])
def test_a_failing_callback_ends_the_connection(run, loop, reports, method):
    async def main():
        client, peer, server = await connected_pair(Recorder, failing(method))
        client.transport.write(b"hello")
        client.transport.write_eof()
        error = await peer.lost
        assert isinstance(error, Boom)
        (report,) = reports
        assert report["message"] == f"Fatal error: protocol.{method}() call failed."
        assert report["exception"] is error
        assert report["transport"] is peer.transport
        assert report["protocol"] is peer
        assert peer.transport.get_extra_info("socket").fileno() == -1
        await asyncio.wait([client.lost])
        await next_client_is_served(loop, server)
        await close_all(server)

    run(main)


def test_a_failing_connection_made_is_reported_and_the_connection_goes_on(run, loop, reports):
    async def main():
        client, peer, server = await connected_pair(Recorder, failing("connection_made"))
        client.transport.write(b"hello")
        assert await peer.received(5) == b"hello"
        (report,) = reports
        assert report["message"].startswith("Exception in callback")
        assert isinstance(report["exception"], Boom)
        await close_all(client, peer, server)

    run(main)


def test_a_failing_connection_lost_is_reported_and_the_socket_is_closed(run, loop, reports):
    async def main():
        client, peer, server = await connected_pair(Recorder, failing("connection_lost"))
        client.transport.close()
        await peer.lost
        await asyncio.sleep(0.001)
        assert [type(report["exception"]) for report in reports] == [Boom]
        assert peer.transport.get_extra_info("socket").fileno() == -1
        await next_client_is_served(loop, server)
        await close_all(server)

    run(main)


def test_failing_flow_control_is_reported_and_changes_nothing(run, loop, reports):
    async def main():
        client, peer, server = await connected_pair(FailingFlowControl, Paused)
        data = b"x" * 8_000_000
        client.transport.write(data)
        peer.transport.resume_reading()
        assert await peer.received(len(data)) == data
        await flow_control_is_reported(reports, client.transport)
        await close_all(client, peer, server)

    run(main)


def test_a_failing_protocol_factory_of_a_client_raises_to_the_caller(run, loop):
    def factory():
        raise Boom("factory")

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        with pytest.raises(Boom):
            await loop.create_connection(factory, *server.sockets[0].getsockname())
        await asyncio.sleep(0.01)
        await close_all(server)

    import warnings

    with warnings.catch_warnings():
        # CPython's own create_connection forgets the socket, and the collector warns of it.
        warnings.simplefilter("ignore", ResourceWarning)
        run(main)


def test_a_failing_protocol_factory_of_a_server_costs_one_client(run, loop, reports, loop_name):
    if loop_name == "asyncio":
        pytest.skip("CPython's loop reports it in debug mode only, and leaves the connection to the collector")
    served = []

    def factory():
        served.append(1)
        if len(served) == 1:
            raise Boom("factory")
        return Echo()

    async def main():
        server = await loop.create_server(factory, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        transport.write(b"served")
        assert await protocol.received(6) == b"served"
        await close_all(protocol, server)

    run(main)
    (report,) = reports
    assert report["message"] == "Error on transport creation for incoming connection"
    assert isinstance(report["exception"], Boom)


@pytest.mark.parametrize("method", ["get_buffer", "buffer_updated", "empty"])
def test_a_failing_buffered_protocol_ends_the_connection(run, loop, reports, method):
    async def main():
        peers = []

        def factory():
            peers.append(FailingBuffer(method))
            return peers[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        transport.write(b"x")
        await asyncio.wait([protocol.lost])
        error = await peers[0].lost
        (report,) = reports
        assert report["exception"] is error
        assert isinstance(error, RuntimeError if method == "empty" else Boom)
        name = "get_buffer" if method == "empty" else method
        assert report["message"] == f"Fatal error: protocol.{name}() call failed."
        await close_all(server)

    run(main)


@pytest.mark.parametrize("method", ["connection_made", "data_received", "eof_received", "connection_lost"])
@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_exits_in_callbacks_leave_the_run_and_the_loop_goes_on(loop, method, exception):
    peers = []

    def factory():
        peers.append(failing(method, exception)())
        return peers[-1]

    async def start():
        return await loop.create_server(factory, "127.0.0.1", 0)

    async def talk():
        _, client = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        client.transport.write(b"hello")
        client.transport.write_eof()
        await client.lost

    server = loop.run_until_complete(start())
    task = loop.create_task(talk())
    with pytest.raises(exception):
        loop.run_until_complete(task)

    async def end():
        for peer in peers:
            if peer.transport is not None:
                peer.transport.abort()
        await asyncio.wait([task])
        server.close()
        await asyncio.sleep(0.001)

    loop.run_until_complete(end())
    assert task.done()
    assert peers[0].events[-1] == "lost"
