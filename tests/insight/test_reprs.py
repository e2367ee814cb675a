"""What transports, servers and handles print as: state, peer and sizes of buffers.

CPython's loop is the judge of the words; ours adds who the peer is. A class has another name.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys

import ironloop
import pytest

from tests.support.certificate import client_context, server_context
from tests.support.datagrams import Endpoint
from tests.support.pipes import close_pipes, connected_pipe, files_of_a_pipe, turns
from tests.support.protocols import Echo, Recorder, close_all, connected_pair

MORE_THAN_A_SOCKET_HOLDS = 64 << 20


def shape(transport):
    """The repr without what differs from loop to loop: names of classes, descriptors, addresses, sizes."""
    text = re.sub(
        r"<_?(Selector|Unix|Stream|Datagram)?(Socket|Datagram|ReadPipe|WritePipe)?Transport", "<T", repr(transport)
    )
    text = re.sub(r" (peer|local)=(\(.*?\)|'.*?'|b'.*?')", "", text)
    text = re.sub(r"bufsize=[1-9][0-9]*", "bufsize=N", text)
    return re.sub(r"fd=[0-9]+", "fd=N", text)


def test_a_stream_transport_says_what_cpythons_does(run):
    async def main():
        client, peer, server = await connected_pair()
        transport = client.transport
        assert shape(transport) == "<T fd=N read=polling write=<idle, bufsize=0>>"
        transport.pause_reading()
        assert shape(transport) == "<T fd=N read=idle write=<idle, bufsize=0>>"
        peer.transport.pause_reading()
        transport.write(bytes(MORE_THAN_A_SOCKET_HOLDS))
        assert shape(transport) == "<T fd=N read=idle write=<polling, bufsize=N>>"
        transport.close()
        assert shape(transport) == "<T closing fd=N read=idle write=<polling, bufsize=N>>"
        transport.abort()
        await client.lost
        await turns()
        assert shape(transport) == "<T closed fd=N>"
        await close_all(peer, server)

    run(main)


def test_a_pipe_transport_says_what_cpythons_does(run):
    async def main():
        read, write = files_of_a_pipe()
        reader, writer = await connected_pipe(read, write)
        assert shape(reader.transport) == "<T fd=N polling>"
        assert shape(writer.transport) == "<T fd=N idle bufsize=0>"
        reader.transport.pause_reading()
        writer.transport.write(bytes(MORE_THAN_A_SOCKET_HOLDS))
        assert shape(reader.transport) == "<T fd=N idle>"
        assert shape(writer.transport) == "<T fd=N polling bufsize=N>"
        writer.transport.abort()
        await close_pipes(reader, writer)
        assert "closed" in repr(reader.transport)
        assert "closed" in repr(writer.transport)

    run(main)


def test_a_datagram_transport_says_what_cpythons_does(run, loop):
    async def main():
        transport, protocol = await loop.create_datagram_endpoint(Endpoint, ("127.0.0.1", 0))
        assert shape(transport) == "<T fd=N read=polling write=<idle, bufsize=0>>"
        transport.close()
        await protocol.lost

    run(main)


class Loop(ironloop.Loop):
    """Remembers the TLS transport that it made last: the program gets it after the handshake."""

    def _make_ssl_transport(self, *arguments, **options):
        self.made = super()._make_ssl_transport(*arguments, **options)
        return self.made


@pytest.fixture
def own():
    loop = Loop()
    yield loop
    loop.close()


def test_a_connection_says_who_the_peer_is(own):
    async def main():
        client, peer, server = await connected_pair()
        there, here = (client.transport.get_extra_info(name) for name in ("peername", "sockname"))
        assert f" peer={there!r} " in repr(client.transport)
        assert f" peer={here!r} " in repr(peer.transport)
        await close_all(client, peer, server)
        await turns()
        assert repr(client.transport).endswith(f" peer={there!r}>"), (
            "whom it was connected to is of interest afterwards"
        )

    own.run_until_complete(main())


def test_a_unix_connection_says_the_path_at_either_end(own, tmp_path):
    path = str(tmp_path / "socket")

    async def main():
        accepted = own.create_future()

        class Accepted(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                accepted.set_result(self)

        server = await own.create_unix_server(Accepted, path)
        transport, client = await own.create_unix_connection(Recorder, path)
        peer = await accepted
        assert f" peer={path!r} " in repr(transport)
        assert f" local={path!r} " in repr(peer.transport), "the client has no name"
        await close_all(client, peer, server)

    own.run_until_complete(main())


def test_a_pair_without_names_says_neither(own):
    async def main():
        left, right = socket.socketpair()
        with right:
            transport, client = await own.create_connection(Recorder, sock=left)
            assert "peer" not in repr(transport)
            assert "local" not in repr(transport)
            await close_all(client)

    own.run_until_complete(main())


def test_a_datagram_transport_says_its_peer_or_where_it_listens(own):
    async def main():
        server, received = await own.create_datagram_endpoint(Endpoint, ("127.0.0.1", 0))
        address = server.get_extra_info("sockname")
        client, sent = await own.create_datagram_endpoint(Endpoint, remote_addr=address)
        assert f" local={address!r} " in repr(server)
        assert f" peer={address!r} " in repr(client)
        for transport, protocol in ((server, received), (client, sent)):
            transport.close()
            await protocol.lost

    own.run_until_complete(main())


def test_a_tls_transport_says_its_state_version_sizes_and_what_it_goes_over(own):
    async def main():
        server = await own.create_server(Echo, "127.0.0.1", 0, ssl=server_context())
        address = server.sockets[0].getsockname()
        transport, client = await own.create_connection(
            Recorder, *address, ssl=client_context(), server_hostname="localhost"
        )
        version = transport.get_extra_info("ssl_object").version()
        over = f"over <StreamTransport fd=[0-9]+ peer={re.escape(repr(address))} read=polling write=<idle, bufsize=0>>>"
        assert re.fullmatch(
            f"<TlsTransport {version} read=<reading, bufsize=0> write=<bufsize=0> {over}", repr(transport)
        )
        transport.pause_reading()
        assert "read=<paused, " in repr(transport)
        transport.write(bytes(MORE_THAN_A_SOCKET_HOLDS))
        (size,) = re.findall(r" write=<bufsize=([0-9]+)> over ", repr(transport))
        assert int(size) == transport.get_write_buffer_size()
        transport.close()
        assert repr(transport).startswith(f"<TlsTransport closing {version} ")
        transport.abort()
        await client.lost
        assert repr(transport).startswith(f"<TlsTransport closed {version} ")
        await close_all(server)
        await turns()

    own.run_until_complete(main())


def test_a_tls_transport_in_its_handshake_says_so(own):
    async def main():
        listener = socket.create_server(("127.0.0.1", 0))
        with listener:
            connecting = own.create_task(
                own.create_connection(
                    Recorder, *listener.getsockname(), ssl=client_context(), server_hostname="localhost"
                )
            )
            peer, _ = await own.run_in_executor(None, listener.accept)
            with peer:
                assert await own.run_in_executor(None, peer.recv, 1)
                assert repr(own.made).startswith(
                    "<TlsTransport handshake read=<reading, bufsize=0> write=<bufsize=0> over"
                )
            with pytest.raises(OSError):
                await connecting

    own.run_until_complete(main())


def test_a_server_says_where_it_listens(run):
    async def main():
        server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
        assert repr(server.sockets[0].getsockname()) in repr(server)
        server.close()
        assert repr(server) == "<Server sockets=()>"

    run(main)


def test_a_listener_says_where_it_listens_and_whether_it_does(own):
    sock = socket.create_server(("127.0.0.1", 0))
    with sock:
        sock.setblocking(False)
        listener = ironloop._native.Listener(own, sock, Recorder, None, 10, None, None, None)
        assert repr(listener) == f"<Listener listening fd={sock.fileno()} local={sock.getsockname()!r}>"
        fd = sock.fileno()
        own._stop_serving(sock)
    assert repr(listener) == f"<Listener closed fd={fd}>"


def test_a_child_says_its_state_and_its_pipes(own):
    async def main():
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        text = repr(child._transport)
        assert f" pid={child.pid} running stdin=<WritePipeTransport fd=" in text
        assert " idle bufsize=0> stdout=<ReadPipeTransport fd=" in text
        await child.communicate(b"\n")
        assert "returncode=0" in repr(child._transport)

    own.run_until_complete(main())


def named(number):
    pass


def test_handles_say_their_callback_arguments_and_state(loop):
    handle, timer = loop.call_soon(named, 5), loop.call_later(1000, named, 7)
    source = rf"{re.escape(__file__)}:[0-9]+"
    assert re.fullmatch(rf"<Handle named\((5)?\) at {source}>", repr(handle))
    assert re.fullmatch(rf"<TimerHandle when=[0-9.]+ named\((7)?\) at {source}>", repr(timer))
    for one, name in ((handle, "Handle"), (timer, "TimerHandle")):
        one.cancel()
        assert repr(one).startswith(f"<{name} cancelled")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_transport_whose_loop_is_closed_can_be_printed():
    loop = ironloop.new_event_loop()
    client, peer, server = loop.run_until_complete(connected_pair())
    server.close()
    loop.run_until_complete(turns())
    loop.close()
    for protocol in (client, peer):
        assert re.fullmatch(r"<StreamTransport fd=[0-9]+ peer=\('127.0.0.1', [0-9]+\)>", repr(protocol.transport))
