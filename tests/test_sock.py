"""sock_recv and its relatives: coroutines on plain sockets; cancelling them leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys

import pytest


def test_data_goes_there_and_back(run, loop, pair):
    left, right = pair

    async def main():
        got = b""
        task = asyncio.create_task(loop.sock_recv(left, 100))
        await asyncio.sleep(0)
        await loop.sock_sendall(right, b"hello")
        while (got := got + await task) != b"hello":
            assert b"hello".startswith(got)
            task = asyncio.create_task(loop.sock_recv(left, 100))
        buffer, count = memoryview(bytearray(10)), 0
        task = asyncio.create_task(loop.sock_recv_into(left, buffer))
        await asyncio.sleep(0)
        await loop.sock_sendall(right, b"world")
        while (count := count + await task) < 5:
            task = asyncio.create_task(loop.sock_recv_into(left, buffer[count:]))
        assert (bytes(buffer), count) == (b"world" + bytes(5), 5)

    run(main)


def test_large_data_is_sent_whole(run, loop, pair):
    left, right = pair
    data = bytes(range(256)) * 20_000

    async def main():
        async def receive():
            got = bytearray()
            while len(got) < len(data):
                got += await loop.sock_recv(left, 1 << 16)
            return bytes(got)

        got, _ = await asyncio.gather(receive(), loop.sock_sendall(right, data))
        assert got == data

    run(main)


def test_connect_and_accept(run, loop):
    async def main():
        with socket.socket() as listener, socket.socket() as client:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            listener.setblocking(False)
            client.setblocking(False)
            accepting = asyncio.create_task(loop.sock_accept(listener))
            await loop.sock_connect(client, listener.getsockname())
            conn, address = await accepting
            with conn:
                assert address == client.getsockname()
                assert conn.gettimeout() == 0

    run(main)


def test_a_refused_connect_raises(run, loop):
    async def main():
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = unused.getsockname()
        with socket.socket() as client:
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError):
                await loop.sock_connect(client, address)

    run(main)


def test_the_error_of_a_failed_connect_names_the_address(run, loop):
    async def main():
        with socket.socket() as unused, socket.socket() as client:
            unused.bind(("127.0.0.1", 0))
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError) as raised:
                await loop.sock_connect(client, unused.getsockname())
            assert raised.value.errno == errno.ECONNREFUSED
            assert raised.value.strerror == f"Connect call failed {unused.getsockname()}"

    run(main)


def test_who_connects_in_vain_again_and_again_lets_others_run(run, loop):
    async def main():
        async def listen():
            for _ in range(5):
                await asyncio.sleep(0)
            server.listen()

        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            listening = asyncio.create_task(listen())
            for _ in range(1000):
                with socket.socket() as client:
                    client.setblocking(False)
                    with contextlib.suppress(ConnectionRefusedError):
                        await loop.sock_connect(client, server.getsockname())
                        assert client.getpeername() == server.getsockname()
                        break
            await listening
            assert client.fileno() == -1

    run(main)


@pytest.mark.slow
def test_a_connect_that_takes_a_while_succeeds(run, loop):
    async def main():
        with full_listener() as listener, socket.socket() as client:
            client.setblocking(False)
            connecting = asyncio.create_task(loop.sock_connect(client, listener.getsockname()))
            for _ in range(5):
                await asyncio.sleep(0)
            assert not connecting.done()
            listener.listen(10)
            await connecting
            assert client.getpeername() == listener.getsockname()

    run(main)


@pytest.mark.parametrize("address", [None, "text", (1, 2), ("127.0.0.1", "no such service"), ("127.0.0.1", 1 << 16)])
def test_an_address_that_is_none_is_refused_as_by_cpython(run, loop, address):
    async def failure(loop):
        with socket.socket() as sock:
            sock.setblocking(False)
            try:
                await loop.sock_connect(sock, address)
            except Exception as error:
                return type(error), str(error)

    theirs = asyncio.SelectorEventLoop()
    try:
        expected = theirs.run_until_complete(failure(theirs))
    finally:
        theirs.close()
    assert expected is not None
    assert run(lambda: failure(loop)) == expected


def test_a_unix_socket_connects_or_says_why_not(run, loop, tmp_path):
    async def main():
        path = str(tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            with pytest.raises(FileNotFoundError):
                await loop.sock_connect(client, path)
            for none in (5, path * 20):
                with pytest.raises((TypeError, OSError)) as raised:
                    await loop.sock_connect(client, none)
                assert "connect_ex" not in str(raised.value)
            server.bind(path)
            server.listen()
            await loop.sock_connect(client, path)
            assert client.getpeername() == path

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
def test_datagrams(run, loop):
    async def main():
        with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
            for sock in (one, two):
                sock.bind(("127.0.0.1", 0))
                sock.setblocking(False)
            task = asyncio.create_task(loop.sock_recvfrom(one, 100))
            await asyncio.sleep(0)
            assert await loop.sock_sendto(two, b"hello", one.getsockname()) == 5
            assert await task == (b"hello", two.getsockname())
            buffer = bytearray(100)
            task = asyncio.create_task(loop.sock_recvfrom_into(one, buffer))
            await asyncio.sleep(0)
            await loop.sock_sendto(two, b"world", one.getsockname())
            assert await task == (5, two.getsockname())

    run(main)


def test_a_cancelled_receive_takes_nothing_and_frees_the_descriptor(run, loop, pair):
    left, right = pair

    async def main():
        task = asyncio.create_task(loop.sock_recv(left, 100))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        right.send(b"kept")
        assert await loop.sock_recv(left, 100) == b"kept"
        assert loop.remove_reader(left) is False

    run(main)


def test_a_cancelled_accept_leaves_the_connection_to_the_next_one(run, loop):
    async def main():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            listener.setblocking(False)
            task = asyncio.create_task(loop.sock_accept(listener))
            await asyncio.sleep(0)
            task.cancel()
            with socket.create_connection(listener.getsockname()) as client:
                with pytest.raises(asyncio.CancelledError):
                    await task
                conn, address = await loop.sock_accept(listener)
                assert address == client.getsockname()
                conn.close()

    run(main)


@pytest.fixture
def careful(loop_name):
    if loop_name == "asyncio":
        pytest.skip("CPython's loop loses what comes as the call is cancelled")


@pytest.mark.usefixtures("careful")
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_connection_that_comes_as_an_accept_is_cancelled_is_not_lost(run, loop, turns):
    """Either the one that was cancelled has it, or the next one gets it."""

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            task = asyncio.create_task(loop.sock_accept(listener))
            await asyncio.sleep(0)
            with socket.create_connection(listener.getsockname()) as client:
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                conn, address = await (loop.sock_accept(listener) if task.cancelled() else task)
                assert address == client.getsockname()
                conn.close()

    run(main)


@pytest.mark.usefixtures("careful")
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("into", [False, True])
def test_data_that_comes_as_a_receive_is_cancelled_is_not_lost(run, loop, pair, turns, into):
    left, right = pair
    buffer = bytearray(10)

    async def receive():
        if into:
            return bytes(buffer[: await loop.sock_recv_into(left, buffer)])
        return await loop.sock_recv(left, 10)

    async def main():
        task = asyncio.create_task(receive())
        await asyncio.sleep(0)
        right.send(b"kept")
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        got = b"" if task.cancelled() else task.result()
        while len(got) < 4:
            got += await receive()
        assert got == b"kept"

    run(main)


def test_a_cancelled_connect_frees_the_number_at_once(run, loop, reports):
    """The socket can be closed, and the number of another one watched, as soon as the cancellation is seen."""

    async def main():
        with full_listener() as listener:
            for turns in range(4):
                sock = socket.socket()
                sock.setblocking(False)
                number = sock.fileno()
                task = asyncio.create_task(loop.sock_connect(sock, listener.getsockname()))
                for _ in range(turns):
                    await asyncio.sleep(0)
                assert not task.done()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert loop.remove_writer(sock) is False
                sock.close()
                left, right = socket.socketpair()
                with left, right:
                    left.setblocking(False)
                    assert number in (left.fileno(), right.fileno())
                    writable = loop.create_future()
                    loop.add_writer(number, lambda writable=writable: writable.done() or writable.set_result(None))
                    await writable
                    assert loop.remove_writer(number) is True

    run(main)
    assert reports == []


@contextlib.contextmanager
def full_listener():
    """A listening socket whose backlog is full: connecting to it takes a second at least (tcp_syn_retries, tcp(7))."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        yield listener


def test_a_reused_descriptor_number_gets_its_own_data(run, loop):
    async def main():
        for _ in range(20):
            left, right = socket.socketpair()
            left.setblocking(False)
            task = asyncio.create_task(loop.sock_recv(left, 10))
            await asyncio.sleep(0)
            right.send(b"o")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            left.close()
            right.close()
            left, right = socket.socketpair()
            with left, right:
                left.setblocking(False)
                task = asyncio.create_task(loop.sock_recv(left, 10))
                await asyncio.sleep(0)
                right.send(b"n")
                assert await task == b"n"

    run(main)


def test_debug_mode_insists_on_sockets_that_do_not_block(run, loop):
    async def main():
        loop.set_debug(True)
        with socket.socket() as sock:
            for call in (loop.sock_recv(sock, 1), loop.sock_sendall(sock, b"x"), loop.sock_accept(sock)):
                with pytest.raises(ValueError, match="the socket must be non-blocking"):
                    await call

    run(main)


def test_sendfile_of_a_socket(run, loop, pair, tmp_path):
    left, right = pair
    (tmp_path / "file").write_bytes(bytes(range(256)) * 1000)

    async def main():
        with (tmp_path / "file").open("rb") as file:

            async def receive(size):
                got = bytearray()
                while len(got) < size:
                    got += await loop.sock_recv(left, 1 << 16)
                return bytes(got)

            task = asyncio.create_task(receive(1000))
            assert await loop.sock_sendfile(right, file, 256, 1000) == 1000
            assert await task == (bytes(range(256)) * 5)[:1000]
            assert file.tell() == 1256

    run(main)
