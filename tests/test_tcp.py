"""create_connection and create_server: all their parameters, and the life of a server."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import inspect
import socket
import sys

import pytest

from tests.support.protocols import Echo, Recorder, close_all


def listening(backlog=5, family=socket.AF_INET):
    sock = socket.socket(family)
    sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    sock.listen(backlog)
    return sock


def test_a_connection_may_bring_its_own_socket(run, loop):
    async def main():
        with listening() as server_sock:
            sock = socket.socket()
            sock.setblocking(False)
            await loop.sock_connect(sock, server_sock.getsockname())
            transport, protocol = await loop.create_connection(Recorder, sock=sock)
            assert transport.get_extra_info("socket").fileno() == sock.fileno()
            await close_all(protocol)
            assert sock.fileno() == -1

    run(main)


def test_the_local_address_can_be_chosen(run, loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), local_addr=("127.0.0.2", 0)
        )
        assert transport.get_extra_info("sockname")[0] == "127.0.0.2"
        await close_all(protocol, server)

    run(main)


def test_a_bad_local_address_is_named_in_the_error(run, loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        with pytest.raises(OSError, match="error while attempting to bind on address"):
            await loop.create_connection(Recorder, *server.sockets[0].getsockname(), local_addr=("203.0.113.1", 0))
        await close_all(server)

    run(main)


@pytest.mark.parametrize("delay", [None, 0.01])
def test_addresses_are_tried_until_one_answers(run, loop, delay):
    """Nobody listens on ::1, so the connection goes to 127.0.0.1."""

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        async def both(*_arguments, **_keywords):
            return [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
            ]

        loop.getaddrinfo = both
        transport, protocol = await loop.create_connection(
            Recorder, "some.host", port, happy_eyeballs_delay=delay, interleave=1
        )
        assert transport.get_extra_info("peername") == ("127.0.0.1", port)
        await close_all(protocol, server)

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")
def test_all_errors_can_be_asked_for(run, loop):
    async def main():
        with listening() as sock:
            port = sock.getsockname()[1]
        with pytest.raises(ExceptionGroup) as raised:  # noqa: F821
            await loop.create_connection(Recorder, "127.0.0.1", port, all_errors=True)
        assert isinstance(raised.value.exceptions[0], ConnectionRefusedError)

    run(main)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"host": "127.0.0.1", "port": 1, "sock": True},
        {"host": "127.0.0.1", "port": 1, "server_hostname": "x"},
        {"host": "127.0.0.1", "port": 1, "ssl_handshake_timeout": 1},
    ],
)
def test_arguments_that_make_no_sense_are_refused(run, loop, arguments):
    async def main():
        with socket.socket() as sock:
            if "sock" in arguments:
                arguments["sock"] = sock
            with pytest.raises(ValueError, match=r".+"):
                await loop.create_connection(Recorder, **arguments)

    run(main)


def test_a_datagram_socket_is_refused(run, loop):
    async def main():
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            with pytest.raises(ValueError, match="A Stream Socket was expected"):
                await loop.create_connection(Recorder, sock=sock)
            with pytest.raises(ValueError, match="A Stream Socket was expected"):
                await loop.create_server(Recorder, sock=sock)

    run(main)


def test_a_cancelled_connect_leaves_nothing_behind(run, loop):
    async def main():
        with listening(0) as sock:
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    filler.connect(sock.getsockname())
            task = asyncio.ensure_future(loop.create_connection(Recorder, *sock.getsockname()))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for filler in fillers:
                filler.close()

    run(main)


def test_a_cancelled_connect_with_a_socket_of_its_own_closes_that_one_only(run, loop):
    async def main():
        with listening() as server_sock, open("/dev/null") as other:
            sock = socket.create_connection(server_sock.getsockname())
            sock.setblocking(False)
            task = asyncio.ensure_future(loop.create_connection(Recorder, sock=sock))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for _ in range(3):
                await asyncio.sleep(0.001)
            assert sock.fileno() == -1
            assert other.read() == ""

    run(main)


async def serving_on(loop, hosts):
    """A server on a port that is free on all of them: somebody else may be quicker."""
    for _ in range(20):
        with listening() as sock:
            port = sock.getsockname()[1]
        try:
            return await loop.create_server(Echo, hosts, port), port
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise AssertionError("no port was free")


def test_a_server_listens_on_several_hosts_once_each(run, loop):
    async def main():
        server, port = await serving_on(loop, ["127.0.0.1", "127.0.0.2", "127.0.0.1"])
        assert sorted(s.getsockname()[0] for s in server.sockets) == ["127.0.0.1", "127.0.0.2"]
        for host in ("127.0.0.1", "127.0.0.2"):
            transport, protocol = await loop.create_connection(Recorder, host, port)
            transport.write(b"x")
            await protocol.received(1)
            await close_all(protocol)
        await close_all(server)

    run(main)


@pytest.mark.parametrize("host", [None, "", "localhost"])
def test_a_server_may_listen_everywhere(run, loop, host):
    async def main():
        server = await loop.create_server(Echo, host, 0)
        assert server.sockets
        address = next(s.getsockname() for s in server.sockets if s.family == socket.AF_INET)
        transport, protocol = await loop.create_connection(Recorder, "127.0.0.1", address[1])
        transport.write(b"x")
        await protocol.received(1)
        await close_all(protocol, server)

    run(main)


def test_ipv6_addresses_are_as_the_socket_module_writes_them(run, loop):
    async def main():
        server = await loop.create_server(Echo, "::1", 0)
        transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname()[:2])
        sock = transport.get_extra_info("socket")
        assert transport.get_extra_info("peername") == sock.getpeername() == server.sockets[0].getsockname()
        assert transport.get_extra_info("sockname") == sock.getsockname()
        await close_all(protocol, server)

    run(main)


def test_an_address_in_use_says_so(run, loop):
    async def main():
        with listening() as sock:
            with pytest.raises(OSError, match="error while attempting to bind on address") as raised:
                await loop.create_server(Echo, *sock.getsockname())
            assert raised.value.errno == errno.EADDRINUSE

    run(main)


def test_a_port_can_be_shared(run, loop):
    async def main():
        first = await loop.create_server(Echo, "127.0.0.1", 0, reuse_port=True)
        second = await loop.create_server(Echo, *first.sockets[0].getsockname(), reuse_port=True)
        await close_all(first, second)

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in Python 3.13")
def test_connections_can_be_kept_alive(run, loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, keep_alive=True)
        assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        await close_all(server)

    run(main)


def test_a_server_can_start_later(run, loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
        address = server.sockets[0].getsockname()
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Recorder, *address)
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving()
        _, protocol = await loop.create_connection(Recorder, *address)
        await close_all(protocol, server)
        assert server.sockets == ()
        assert server.get_loop() is loop

    run(main)


def test_a_closed_server_refuses_and_its_connections_live_on(run, loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        assert isinstance(server, asyncio.AbstractServer)
        address = server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(Recorder, *address)
        transport.write(b"1")
        await protocol.received(1)
        server.close()
        assert not server.is_serving()
        transport.write(b"2")
        assert await protocol.received(2) == b"12"
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Recorder, *address)
        await close_all(protocol)
        await server.wait_closed()

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 12, 1), reason="wait_closed() did not wait before")
def test_wait_closed_waits_for_the_connections(run, loop):
    async def main():
        peers = []

        def factory():
            peers.append(Echo())
            return peers[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        _, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        while not peers:
            await asyncio.sleep(0)
        await peers[0].made
        server.close()
        waiting = asyncio.ensure_future(server.wait_closed())
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert not waiting.done()
        protocol.transport.close()
        await waiting

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in Python 3.13")
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
def test_a_server_can_end_its_connections(run, loop, method):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        transport.write(b"1")
        await protocol.received(1)
        getattr(server, method)()
        await protocol.lost
        await close_all(server)

    run(main)


def test_serve_forever_serves_until_it_is_cancelled(run, loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
        task = asyncio.ensure_future(server.serve_forever())
        await asyncio.sleep(0)
        assert server.is_serving()
        _, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        await close_all(protocol)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not server.is_serving()

    run(main)


def test_serve_forever_that_is_cancelled_returns_although_clients_are_connected(run, loop):
    """Up to Python 3.12.0 the clients stay; since gh-123720 they are closed; between the two it waits for them."""
    closes = "close_clients" in inspect.getsource(asyncio.Server.serve_forever)
    if not closes and sys.version_info >= (3, 12, 1):
        pytest.skip("serve_forever() of this version waits for the clients")

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
        task = asyncio.ensure_future(server.serve_forever())
        await asyncio.sleep(0)
        address = server.sockets[0].getsockname()
        clients = [(await loop.create_connection(Recorder, *address))[1] for _ in range(3)]
        for client in clients:
            client.transport.write(b"1")
            await client.received(1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Recorder, *address)
        for client in clients:
            if closes:
                assert await client.lost is None
            else:
                client.transport.write(b"2")
                assert await client.received(2) == b"12"
                await close_all(client)

    run(main)


def test_a_server_is_a_context_manager(run, loop):
    async def main():
        async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
            assert server.is_serving()
        assert not server.is_serving()

    run(main)


def test_a_burst_of_connections_is_accepted(run, loop):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=512)
        address = server.sockets[0].getsockname()
        made = await asyncio.gather(*(loop.create_connection(Recorder, *address) for _ in range(300)))
        for transport, _ in made:
            transport.write(b"hello")
        for _, protocol in made:
            assert await protocol.received(5) == b"hello"
        await close_all(*(protocol for _, protocol in made), server)

    run(main)


def test_accepting_does_not_keep_callbacks_waiting(run, loop, loop_name):
    """A backlog full of connections is taken in portions, with other callbacks in between."""
    if loop_name == "asyncio":
        pytest.skip("CPython's loop accepts the whole backlog in one turn")

    async def main():
        made = []

        class Counting(asyncio.Protocol):
            def connection_made(self, transport):
                made.append(transport)

        server = await loop.create_server(Counting, "127.0.0.1", 0, backlog=200)
        clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(150)]
        portions = []
        while len(made) < 150:
            before = len(made)
            await asyncio.sleep(0)
            portions.append(len(made) - before)
        assert max(portions) <= 64
        for client in clients:
            client.close()
        for transport in made:
            transport.abort()
        await close_all(server)
        await asyncio.sleep(0.001)

    run(main)


def test_an_accepted_socket_can_be_handed_over(run, loop):
    async def main():
        for blocking in (True, False):
            with listening() as sock:
                client = socket.create_connection(sock.getsockname())
                accepted, _ = sock.accept()
                accepted.setblocking(blocking)
                transport, protocol = await loop.connect_accepted_socket(Echo, accepted)
                client.sendall(b"hello")
                await protocol.received(5)
                transport.close()
                await protocol.lost
                assert client.recv(10) == b"hello"
                client.close()

    run(main)
