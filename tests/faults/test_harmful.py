"""Each error at each call: whom it concerns is told once, with that error, and everything else goes on."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import ironloop
import pytest

from tests.support.certificate import client_context, server_context
from tests.support.protocols import Echo, Recorder, close_all

OUT_OF = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]


class Counting(Recorder):
    """Remembers every time that it was told of the end."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def connection_lost(self, exc):
        self.ends.append(exc)
        super().connection_lost(exc)


class Buffered(asyncio.BufferedProtocol):
    def __init__(self):
        self.memory, self.ends, self.lost = bytearray(100), [], asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint):
        return self.memory

    def connection_lost(self, exc):
        self.ends.append(exc)
        self.lost.set_result(exc)


async def talk(address, **options):
    reader, writer = await asyncio.open_connection(*address, **options)
    writer.write(b"hello")
    answer = await reader.readexactly(5)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.slow
@pytest.mark.parametrize("error", OUT_OF)
def test_a_listener_recovers_and_serves_everybody_who_waited(run, loop, reports, faults, error):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        faults("accept4", error)
        assert await asyncio.gather(*(talk(address) for _ in range(30))) == [b"hello"] * 30
        await close_all(server)

    run(main)
    assert [report["exception"].errno for report in reports] == [getattr(errno, error)]
    assert reports[0]["message"] == "socket.accept() out of system resource"


def test_a_client_that_was_gone_before_it_was_accepted_is_passed_over(run, loop, reports, faults):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        faults("accept4", "ECONNABORTED", most=7)
        assert await asyncio.gather(*(talk(server.sockets[0].getsockname()) for _ in range(30))) == [b"hello"] * 30
        await close_all(server)

    run(main)
    assert reports == []


@pytest.mark.parametrize("error", ["EPIPE", "ENOMEM", "ENOBUFS"])
@pytest.mark.parametrize(("call", "tls"), [("send", False), ("sendmsg", False), ("send", True)])
def test_who_cannot_send_is_lost_once_and_nobody_else(run, loop, reports, faults, call, error, tls):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context() if tls else None)
        address, context = server.sockets[0].getsockname(), client_context() if tls else None
        transport, protocol = await loop.create_connection(Counting, *address, ssl=context)
        faults(call, error)
        if call == "send":
            transport.write(b"x")
        else:
            transport.writelines([b"x", b"y"])
        exception = await protocol.lost
        assert exception.errno == getattr(errno, error)
        transport.write(b"dropped")
        assert await talk(address, ssl=context) == b"hello"
        assert protocol.ends == [exception]
        await close_all(server)

    run(main)


@pytest.mark.parametrize("error", ["ENOMEM", "ENOBUFS"])
@pytest.mark.parametrize("kind", [Counting, Buffered])
def test_who_cannot_receive_is_lost_once_and_nobody_else(run, loop, faults, kind, error):
    async def main():
        ours, peer = socket.socketpair()
        transport, protocol = await loop.create_connection(kind, sock=ours)
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        faults("recv", error)
        peer.send(b"x")
        exception = await protocol.lost
        assert exception.errno == getattr(errno, error)
        assert transport.is_closing()
        assert await talk(server.sockets[0].getsockname()) == b"hello"
        assert protocol.ends == [exception]
        peer.close()
        await close_all(server)

    run(main)


@pytest.mark.parametrize("error", ["EPIPE", "ENOMEM"])
def test_a_pipe_that_cannot_be_written_to_is_lost_once(run, loop, faults, error):
    async def main():
        fds = os.pipe()
        transport, protocol = await loop.connect_write_pipe(Counting, os.fdopen(fds[1], "wb", 0))
        faults("write", error)
        transport.write(b"x")
        exception = await protocol.lost
        assert exception.errno == getattr(errno, error)
        assert protocol.ends == [exception]
        os.close(fds[0])

    run(main)


@pytest.mark.parametrize(("call", "error"), [("sendto", "ENOBUFS"), ("sendto", "EPIPE"), ("recvmmsg", "ENOMEM")])
def test_a_datagram_that_fails_is_told_of_and_the_next_one_passes(run, loop, faults, call, error):
    class Endpoint(asyncio.DatagramProtocol):
        def __init__(self):
            self.errors, self.received = [], asyncio.Queue()

        def datagram_received(self, data, addr):
            self.received.put_nowait(data)

        def error_received(self, exc):
            self.errors.append(exc.errno)

    async def main():
        transport, protocol = await loop.create_datagram_endpoint(Endpoint, ("127.0.0.1", 0))
        own = transport.get_extra_info("sockname")
        faults(call, error)
        transport.sendto(b"first", own)
        transport.sendto(b"second", own)
        assert await protocol.received.get() == (b"second" if call == "sendto" else b"first")
        assert protocol.errors == [getattr(errno, error)]
        transport.close()
        await asyncio.sleep(0)

    run(main)


@pytest.mark.parametrize("call", ["epoll_create1", "eventfd"])
@pytest.mark.parametrize("error", ["EMFILE", "ENFILE", "ENOMEM"])
def test_a_loop_that_cannot_be_made_leaves_nothing_open(faults, call, error):
    faults(call, error)
    with pytest.raises(OSError) as raised:
        ironloop.new_event_loop()
    assert raised.value.errno == getattr(errno, error)
    ironloop.new_event_loop().close()


def test_a_mistake_of_ours_in_a_write_is_an_exception(run, loop, faults):
    """Not the process's end: PyO3 promises that of every method, and `write` is called without it."""

    async def main():
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        faults("send", "panic")
        with pytest.raises(BaseException, match="a mistake on request") as raised:
            transport.write(b"first")
        assert type(raised.value).__name__ == "PanicException"
        transport.write(b"second")
        theirs.setblocking(False)
        assert await loop.sock_recv(theirs, 100) == b"second"
        transport.abort()
        await protocol.lost
        theirs.close()

    run(main)
