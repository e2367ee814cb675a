"""Errors of the network and exceptions of the protocol: told once, and the transport goes on."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from tests.support.builds import whole_calls
from tests.support.datagrams import Boom, Endpoint, close, deaf, drained, emptied, fill, opened, plain, turns


class FailingOnError(Endpoint):
    def error_received(self, exc):
        super().error_received(exc)
        raise Boom("error_received")


@whole_calls
def test_a_refusal_is_reported_by_the_next_send_and_the_transport_goes_on(run):
    async def main():
        with deaf() as peer:
            client = await opened(remote_addr=peer.getsockname())
            for _ in range(10_000):
                client.transport.sendto(b"x")
                if client.errors:
                    break
            assert [type(error) for error in client.errors] == [ConnectionRefusedError]
            peer.connect(client.address)
            client.transport.sendto(b"hello")
            assert await drained(peer, 1) == [b"hello"]
            peer.send(b"world")
            assert await client.received(1) == [b"world"]
            assert not client.transport.is_closing()
            await close(client)

    run(main)


def test_a_refusal_is_reported_without_another_send_and_the_transport_goes_on(run):
    async def main():
        with deaf() as peer:
            client = await opened(remote_addr=peer.getsockname())
            for number in range(1, 4):
                client.transport.sendto(b"x")
                await client.seen("error", number)
            assert [type(error) for error in client.errors] == [ConnectionRefusedError] * 3
            peer.connect(client.address)
            client.transport.sendto(b"hello")
            assert await drained(peer, 1) == [b"hello"]
            peer.send(b"world")
            assert await client.received(1) == [b"world"]
            assert client.events == ["made"] + ["error"] * 3 + ["datagram"]
            await close(client)

    run(main)


@pytest.mark.parametrize("connected", [True, False])
def test_a_datagram_that_is_too_long_is_an_error_and_the_transport_goes_on(run, connected):
    async def main():
        server = await opened()
        client = await opened(remote_addr=server.address) if connected else await opened()
        client.transport.sendto(bytes(70_000), server.address)
        await emptied(client.transport)
        assert [error.errno for error in client.errors] == [errno.EMSGSIZE]
        client.transport.sendto(b"hello", server.address)
        assert await server.received(1) == [b"hello"]
        await close(client, server)

    run(main)


@whole_calls
def test_an_endpoint_without_an_address_sends_until_it_is_gone(run):
    """A protocol that closes in `error_received` hears of each datagram that it sends in the same callback."""

    class Closing(Endpoint):
        def error_received(self, exc):
            super().error_received(exc)
            self.transport.close()

    async def main():
        server = await opened()
        client = await opened(Closing)
        client.transport.sendto(bytes(70_000), server.address)
        client.transport.sendto(bytes(70_000), server.address)
        client.transport.sendto(b"goodbye", server.address)
        assert [error.errno for error in client.errors] == [errno.EMSGSIZE, errno.EMSGSIZE]
        assert await server.received(1) == [b"goodbye"]
        assert await client.lost is None
        await close(server)

    run(main)


def test_an_endpoint_with_an_address_sends_nothing_once_it_is_closed(run):
    async def main():
        server = await opened()
        client = await opened(remote_addr=server.address)
        client.transport.close()
        client.transport.sendto(bytes(70_000))
        client.transport.sendto(b"dropped")
        await client.lost
        assert client.errors == []
        await close(server)
        assert server.datagrams == []

    run(main)


def test_a_lack_of_buffers_is_an_error_and_the_transport_goes_on(run):
    """The second fragment of a datagram that is longer than lo's packets finds no room in the send buffer."""

    async def main():
        server = await opened(Endpoint, ("::1", 0))
        sock = plain(("::1", 0), socket.AF_INET6)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        client = await opened(sock=sock)
        client.transport.sendto(bytes(65527), server.address)
        await emptied(client.transport)
        assert [error.errno for error in client.errors] == [errno.ENOBUFS]
        client.transport.sendto(b"hello", server.address)
        assert await server.received(1) == [b"hello"]
        await close(client, server)

    run(main)


def test_a_missing_receiver_is_an_error_and_the_transport_goes_on(run, path):
    async def main():
        with plain(path + "-gone", socket.AF_UNIX):
            pass
        client = await opened(family=socket.AF_UNIX)
        client.transport.sendto(b"x", path)
        client.transport.sendto(b"x", path + "-gone")
        await emptied(client.transport)
        assert [type(error) for error in client.errors] == [FileNotFoundError, ConnectionRefusedError]
        with plain(path, socket.AF_UNIX) as peer:
            client.transport.sendto(b"hello", path)
            assert await drained(peer, 1) == [b"hello"]
        await close(client)

    run(main)


def test_errors_do_no_harm_to_a_protocol_that_ignores_them(run, reports):
    class Silent(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport
            self.lost = asyncio.get_running_loop().create_future()

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def main():
        protocol = await opened(Silent)
        protocol.transport.sendto(bytes(70_000), ("127.0.0.1", 9))
        with plain() as sender:
            sender.sendto(b"x", protocol.transport.get_extra_info("sockname"))
        await turns(3)
        assert not protocol.transport.is_closing()
        protocol.transport.close()
        assert await protocol.lost is None
        assert protocol.transport.get_extra_info("socket").fileno() == -1

    run(main)
    assert reports == []


@pytest.mark.parametrize("address", [None, "text", 5, ("127.0.0.1",), ("127.0.0.1", "9"), ("127.0.0.1", 99999)])
def test_an_address_that_is_none_ends_the_transport(run, reports, address):
    async def main():
        client = await opened()
        client.transport.sendto(b"x", address)
        assert client.transport.is_closing()
        assert client.events == ["made"]
        error = await client.lost
        assert type(error) is (OverflowError if address == ("127.0.0.1", 99999) else TypeError)
        (report,) = reports
        assert report["message"] == "Fatal write error on datagram transport"
        assert report["exception"] is error
        assert report["transport"] is client.transport
        assert report["protocol"] is client

    run(main)


@pytest.mark.parametrize("exception", [Boom, asyncio.CancelledError])
def test_a_failing_datagram_received_is_reported_and_the_next_one_called(run, reports, exception):
    class Failing(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            raise exception(data)

    async def main():
        protocol = await opened(Failing)
        with plain() as sender:
            for number in range(5):
                sender.sendto(b"%d" % number, protocol.address)
            assert await protocol.received(5) == [b"0", b"1", b"2", b"3", b"4"]
        await turns(2)
        assert [report["exception"].args for report in reports] == [(data,) for data, _ in protocol.datagrams]
        assert all(type(report["exception"]) is exception for report in reports)
        assert all(report["message"].startswith("Exception in callback") for report in reports)
        assert not protocol.transport.is_closing()
        await close(protocol)

    run(main)


@whole_calls
def test_a_failing_error_received_raises_to_the_sender(run, reports):
    async def main():
        server = await opened()
        client = await opened(FailingOnError)
        with pytest.raises(Boom):
            client.transport.sendto(bytes(70_000), server.address)
        client.transport.sendto(b"hello", server.address)
        assert await server.received(1) == [b"hello"]
        await close(client, server)

    run(main)
    assert reports == []


def test_a_failing_error_received_is_reported_where_there_is_no_sender(run, reports, path, receiver):
    async def main():
        with deaf() as peer:
            client = await opened(FailingOnError, None, peer.getsockname())
            client.transport.sendto(b"x")
            await client.seen("error")
            await turns(1)
            assert not client.transport.is_closing()
            await close(client)
        client = await opened(FailingOnError, family=socket.AF_UNIX)
        sent = fill(client.transport, 1, path)
        client.transport.sendto(b"lost", path + "-missing")
        client.transport.sendto(b"sent", path)
        assert await drained(receiver, len(sent) + 1) == sent + [b"sent"]
        await close(client)

    run(main)
    assert [type(report["exception"]) for report in reports] == [Boom, Boom]
    assert all(report["message"].startswith("Exception in callback") for report in reports)


@pytest.mark.parametrize("method", ["connection_made", "connection_lost"])
def test_a_failing_callback_at_either_end_is_reported_and_changes_nothing(run, reports, method):
    class Failing(Endpoint):
        pass

    def fail(self, *arguments):
        getattr(Endpoint, method)(self, *arguments)
        raise Boom(method)

    setattr(Failing, method, fail)

    async def main():
        protocol = await opened(Failing)
        with plain() as sender:
            sender.sendto(b"hello", protocol.address)
            assert await protocol.received(1) == [b"hello"]
        await close(protocol)
        await turns(1)
        assert protocol.transport.get_extra_info("socket").fileno() == -1

    run(main)
    (report,) = reports
    assert report["message"].startswith("Exception in callback")
    assert isinstance(report["exception"], Boom)


def test_failing_flow_control_is_reported_and_changes_nothing(run, reports, path, receiver):
    class Failing(Endpoint):
        def pause_writing(self):
            raise Boom("pause")

        def resume_writing(self):
            raise Boom("resume")

    async def main():
        client = await opened(Failing, None, path, family=socket.AF_UNIX)
        client.transport.set_write_buffer_limits(high=1000, low=500)
        sent = fill(client.transport, 2000)
        assert [report["message"] for report in reports] == ["protocol.pause_writing() failed"]
        assert await drained(receiver, len(sent)) == sent
        while len(reports) < 2:
            await asyncio.sleep(0)
        assert reports[1]["message"] == "protocol.resume_writing() failed"
        for report in reports:
            assert isinstance(report["exception"], Boom)
            assert report["transport"] is client.transport
            assert report["protocol"] is client
        await close(client)

    run(main)


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_an_exit_in_a_callback_leaves_the_loop_and_the_transport_goes_on(run, loop, exception):
    class Exiting(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"exit":
                raise exception

    protocol = run(lambda: opened(Exiting))
    with plain() as sender:
        sender.sendto(b"exit", protocol.address)
        sender.sendto(b"stay", protocol.address)
        with pytest.raises(exception):
            loop.run_forever()
        assert run(lambda: protocol.received(2)) == [b"exit", b"stay"]
    run(lambda: close(protocol))
