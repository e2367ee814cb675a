"""An exception in every callback of a protocol over TLS: it is reported, the connection ends, the loop lives."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.protocols import Echo, Paused, Recorder, close_all
from tests.support.user_errors import Boom, FailingBuffer, FailingFlowControl, failing, flow_control_is_reported
from tests.tls.peers import connect, connected_pair, serve


async def next_client_is_served(tls, server):
    protocol = await connect(tls, server)
    await close_all(protocol)


@pytest.mark.parametrize(
    ("method", "message"),
    [("data_received", "Fatal error on SSL protocol"), ("eof_received", "Error calling eof_received()")],
)
def test_a_failing_callback_ends_the_connection(run, tls, reports, method, message, modern):
    async def main():
        client, peer, server = await connected_pair(tls, Recorder, failing(method))
        client.transport.write(b"hello")
        client.transport.close()
        error = await peer.lost
        assert isinstance(error, Boom)
        (report,) = reports
        assert report["message"] == message
        assert report["exception"] is error
        assert "transport" in report
        assert "protocol" in report
        assert peer.events[-1] == "lost"
        await asyncio.wait([client.lost])
        await next_client_is_served(tls, server)
        await close_all(server)

    run(main)


def test_a_failing_connection_made_of_a_server_ends_the_connection(run, tls, reports, modern):
    async def main():
        served = []

        def factory():
            served.append(failing("connection_made")() if not served else Echo())
            return served[-1]

        server, made = await serve(tls, factory)
        client = await connect(tls, server)
        peer = await made.get()
        assert isinstance(await peer.lost, Boom)
        assert peer.events == ["made", "lost"]
        (report,) = reports
        assert isinstance(report["exception"], Boom)
        assert "transport" in report
        await asyncio.wait([client.lost])
        await next_client_is_served(tls, server)
        await close_all(server)

    run(main)


def test_a_failing_connection_made_of_a_client_raises_to_the_caller(run, tls, reports, modern):
    async def main():
        protocols = []

        def factory():
            protocols.append(failing("connection_made")())
            return protocols[-1]

        server, _ = await serve(tls)
        with pytest.raises(Boom):
            await connect(tls, server, factory)
        assert isinstance(await protocols[0].lost, Boom)
        assert [type(report["exception"]) for report in reports] == [Boom]
        await next_client_is_served(tls, server)
        await close_all(server)

    run(main)


def test_a_failing_connection_lost_is_reported(run, tls, reports):
    async def main():
        client, peer, server = await connected_pair(tls, Recorder, failing("connection_lost"))
        sock = peer.transport.get_extra_info("socket")
        client.transport.close()
        await peer.lost
        await asyncio.sleep(0.001)
        assert [type(report["exception"]) for report in reports] == [Boom]
        assert reports[0]["message"].startswith("Exception in callback")
        assert sock.fileno() == -1
        await asyncio.wait([client.lost])
        await next_client_is_served(tls, server)
        await close_all(server)

    run(main)


def test_failing_flow_control_is_reported_and_changes_nothing(run, tls, reports, modern):
    async def main():
        client, peer, server = await connected_pair(tls, FailingFlowControl, Paused)
        data = b"x" * 1_000_000
        for _ in range(8):
            client.transport.write(data)
        peer.transport.resume_reading()
        assert await peer.received(8_000_000) == data * 8
        await flow_control_is_reported(reports, client.transport)
        await close_all(client, peer, server)

    run(main)


@pytest.mark.parametrize("method", ["get_buffer", "buffer_updated"])
def test_a_failing_buffered_protocol_ends_the_connection(run, tls, reports, method, modern):
    async def main():
        server, made = await serve(tls, lambda: FailingBuffer(method))
        client = await connect(tls, server)
        client.transport.write(b"x")
        peer = await made.get()
        error = await peer.lost
        await asyncio.wait([client.lost])
        (report,) = reports
        assert isinstance(error, Boom)
        assert report["exception"] is error
        assert report["message"] == "Fatal error on SSL protocol"
        await close_all(server)

    run(main)


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # which CPython's create_connection forgets
def test_a_failing_protocol_factory_of_a_client_raises_to_the_caller(run, tls):
    def factory():
        raise Boom("factory")

    async def main():
        server, made = await serve(tls)
        with pytest.raises(Boom):
            await connect(tls, server, factory)
        await made.get()
        await next_client_is_served(tls, server)
        await close_all(server)

    run(main)


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_failing_protocol_factory_of_a_server_costs_one_client(run, tls, reports, better):
    """CPython's loop reports it in debug mode only, and leaves the connection to the collector."""
    served = []

    def factory():
        served.append(1)
        if len(served) == 1:
            raise Boom("factory")
        return Echo()

    async def main():
        server, _ = await serve(tls, factory)
        with pytest.raises(OSError, match=r".*"):
            await connect(tls, server)
        client = await connect(tls, server)
        client.transport.write(b"served")
        assert await client.received(6) == b"served"
        await close_all(client, server)

    run(main)
    (report,) = reports
    assert report["message"] == "Error on transport creation for incoming connection"
    assert isinstance(report["exception"], Boom)


@pytest.mark.parametrize("method", ["connection_made", "data_received", "connection_lost"])
@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_exits_in_callbacks_leave_the_run_and_the_loop_goes_on(loop, tls, method, exception, modern):
    peers = []

    def factory():
        peers.append(failing(method, exception)() if not peers else Echo())
        return peers[-1]

    async def start():
        server, _ = await serve(tls, factory)
        return server

    async def talk():
        client = await connect(tls, server)
        client.transport.write(b"hello")
        if method != "data_received":
            client.transport.close()
        await asyncio.wait([client.lost])

    server = loop.run_until_complete(start())
    task = loop.create_task(talk())
    with pytest.raises(exception):
        loop.run_until_complete(task)

    async def end():
        for peer in peers:
            if peer.transport is not None:
                peer.transport.abort()
        await asyncio.wait([task])
        client = await connect(tls, server)
        client.transport.write(b"hello")
        assert await client.received(5) == b"hello"
        await close_all(client, server)
        await asyncio.wait([peers[-1].lost])

    loop.run_until_complete(end())
    assert task.done()
    assert peers[0].events[-1] == "lost"
