"""sock_* of plain sockets: who waits, who else uses the descriptor, and what is left when somebody gives up."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
import weakref

import pytest

from tests.support.sendfile import receive


@pytest.fixture
def connection():
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = socket.create_connection(listener.getsockname())
        right, _ = listener.accept()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


async def soon(coroutine):
    """A task that has begun to wait."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


def test_short_full_and_last_reads(run, loop, connection):
    left, right = connection

    async def main():
        for size in (1, 4, 5, 6, 65_536, 65_537, 1 << 20):
            task = await soon(loop.sock_recv(left, size))
            right.send(b"hello")
            got = await task
            while len(got) < 5:
                got += await loop.sock_recv(left, size)
            assert got == b"hello"
        task = await soon(loop.sock_recv(left, 100))
        right.send(b"last")
        right.shutdown(socket.SHUT_WR)
        assert await task == b"last"
        assert await loop.sock_recv(left, 100) == b""
        assert await loop.sock_recv(left, 100) == b""

    run(main)


def test_large_messages_are_not_cut(run, loop):
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        for sock in (left, right):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

        async def main():
            for size in (100, 70_000):
                task = await soon(loop.sock_recv(left, 100_000))
                right.send(b"x" * size)
                right.send(b"second")
                assert await task == b"x" * size
                assert await loop.sock_recv(left, 100_000) == b"second"

        run(main)


def test_small_and_large_messages_come_whole_whatever_is_asked_for(run, loop, connection):
    left, right = connection

    async def main():
        for size in (5, 5, 300_000, 5, 65_536, 65_537, 40_000, *[5] * 6, 300_000):
            message = bytes(index % 251 for index in range(size))
            task = await soon(loop.sock_recv(left, 1 << 20))
            sender = asyncio.ensure_future(loop.sock_sendall(right, message))
            got = await task
            while len(got) < size:
                got += await loop.sock_recv(left, 1 << 20)
            assert got == message
            await sender

    run(main)


def test_odd_sizes_and_buffers_are_refused_or_answered(run, loop, pair):
    left, right = pair
    right.send(b"data")

    async def main():
        assert await loop.sock_recv(left, 0) == b""
        with pytest.raises(ValueError, match="negative buffersize"):
            await loop.sock_recv(left, -1)
        with pytest.raises(TypeError):
            await loop.sock_recv(left, "many")
        with pytest.raises(TypeError):
            await loop.sock_recv_into(left, b"immutable")
        assert await loop.sock_recv_into(left, bytearray()) == 0
        with pytest.raises(TypeError):
            await loop.sock_sendall(left, "text")
        await loop.sock_sendall(left, memoryview(b"xx"))
        assert right.recv(10) == b"xx"
        assert await receive(left, 4) == b"data"

    run(main)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_data_that_does_not_fit_is_sent_when_there_is_room(run, loop, connection, make):
    left, right = connection
    data = bytes(range(256)) * 40_000

    async def main():
        task = await soon(loop.sock_sendall(left, make(data)))
        got = bytearray()
        while len(got) < len(data):
            got += await loop.sock_recv(right, 1 << 18)
        assert got == data
        assert await task is None

    run(main)


def test_a_buffer_keeps_its_size_while_it_is_sent(run, loop, connection):
    left, _ = connection
    data = bytearray(10_000_000)

    async def main():
        task = await soon(loop.sock_sendall(left, data))
        with pytest.raises(BufferError):
            data.clear()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gc.collect()
        data.clear()

    run(main)


def test_errors_of_the_connection_are_raised(run, loop, connection):
    left, right = connection

    async def main():
        task = await soon(loop.sock_recv(left, 100))
        right.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        right.close()
        with pytest.raises(ConnectionResetError) as raised:
            await task
        assert raised.value.args == (104, "Connection reset by peer")
        with pytest.raises(BrokenPipeError):
            await loop.sock_sendall(left, b"x")

    run(main)


def test_a_closed_socket_is_refused(run, loop, pair):
    left, _ = pair
    left.close()

    async def main():
        for call in (loop.sock_recv(left, 1), loop.sock_recv_into(left, bytearray(1)), loop.sock_sendall(left, b"x")):
            with pytest.raises(OSError, match="Bad file descriptor"):
                await call

    run(main)


def test_reading_and_writing_wait_side_by_side(run, loop, connection):
    left, right = connection
    data = b"x" * 10_000_000

    async def main():
        reading = await soon(receive(left, 6))
        writing = await soon(loop.sock_sendall(left, data))
        view = await soon(loop.sock_sendall(right, memoryview(b"answer")))
        assert await reading == b"answer"
        await view
        got = 0
        while got < len(data):
            got += len(await loop.sock_recv(right, 1 << 20))
        await writing

    run(main)


def test_a_reader_waits_on_while_somebody_watches_for_writing(run, loop, connection):
    left, right = connection

    async def main():
        reading = await soon(loop.sock_recv(left, 100))
        writable = loop.create_future()
        loop.add_writer(left, lambda: writable.done() or writable.set_result(None))
        await writable
        right.send(b"hello")
        assert await reading == b"hello"
        assert loop.remove_writer(left) is True
        again = await soon(loop.sock_recv(left, 100))
        right.send(b"again")
        assert await again == b"again"

    run(main)


def test_a_transport_can_take_a_socket_over(run, loop, connection):
    left, right = connection

    async def main():
        task = await soon(loop.sock_recv(left, 100))
        right.send(b"before")
        assert await task == b"before"
        reader = asyncio.StreamReader(loop=loop)
        transport, _ = await loop.create_connection(lambda: asyncio.StreamReaderProtocol(reader, loop=loop), sock=left)
        right.send(b"after")
        assert await reader.readexactly(5) == b"after"
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(left, 100)
        transport.close()
        await asyncio.sleep(0.001)

    run(main)


def test_the_loop_does_not_hold_a_socket(run, loop):
    async def main():
        left, right = socket.socketpair()
        with right:
            left.setblocking(False)
            task = await soon(loop.sock_recv(left, 100))
            right.send(b"x")
            assert await task == b"x"
            gone = weakref.ref(left)
            left.close()
            del task, left
            gc.collect()
            assert gone() is None
            assert right.recv(1) == b""

    run(main)


def test_events_that_nobody_waits_for_are_no_trouble(run, loop, connection):
    left, right = connection

    async def main():
        task = await soon(loop.sock_recv(left, 100))
        right.send(b"first")
        assert await task == b"first"
        for number in range(10):
            right.send(b"%d" % number)
            await asyncio.sleep(0.001)
        assert await loop.sock_recv(left, 100) == b"0123456789"
        task = await soon(loop.sock_recv(left, 100))
        right.send(b"late")
        assert await task == b"late"

    run(main)


def test_an_accept_that_is_cancelled_late_loses_no_connection(run, loop):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            task = await soon(loop.sock_accept(listener))
            with socket.create_connection(listener.getsockname()) as client:
                # As if the connection were noticed in the very turn in which the task is cancelled.
                task._fut_waiter.set_result(None)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                conn, address = await loop.sock_accept(listener)
                conn.close()
                assert address == client.getsockname()

    run(main)


def test_a_receive_that_is_cancelled_late_loses_no_data(run, loop, pair):
    left, right = pair

    async def main():
        task = await soon(loop.sock_recv(left, 100))
        right.send(b"kept")
        task._fut_waiter.set_result(None)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await loop.sock_recv(left, 100) == b"kept"

    run(main)


def test_two_wait_for_the_same_socket(loop_name, run, loop, pair):
    if loop_name == "asyncio":
        pytest.skip("CPython's loop forgets the first one")
    left, right = pair

    async def main():
        tasks = [await soon(loop.sock_recv(left, 1)) for _ in range(3)]
        right.send(b"abc")
        assert await asyncio.gather(*tasks) == [b"a", b"b", b"c"]

    run(main)


def test_a_loop_that_is_closed_lets_go_of_the_futures(loop_factory):
    loop = loop_factory()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        task = loop.create_task(loop.sock_recv(left, 1))
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
        waiter = weakref.ref(task._fut_waiter)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()
        del task
        gc.collect()
        assert waiter() is None


def test_methods_of_sockets_that_are_replaced_are_called(run, loop, pair, monkeypatch):
    left, right = pair
    calls = []

    async def main():
        right.send(b"first")
        assert await loop.sock_recv(left, 100) == b"first"
        for name in ("recv", "send"):
            original = getattr(socket.socket, name)
            spy = lambda self, *args, name=name, original=original: (calls.append(name), original(self, *args))[1]  # noqa: E731
            monkeypatch.setattr(socket.socket, name, spy, raising=False)
        await loop.sock_sendall(right, b"second")
        assert await loop.sock_recv(left, 100) == b"second"
        monkeypatch.undo()
        await loop.sock_sendall(right, b"third")
        assert await loop.sock_recv(left, 100) == b"third"

    run(main)
    assert calls == ["send", "recv"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
def test_datagrams_that_are_waited_for(run, loop):
    async def main():
        with socket.socket(type=socket.SOCK_DGRAM) as left, socket.socket(type=socket.SOCK_DGRAM) as right:
            for sock in (left, right):
                sock.bind(("127.0.0.1", 0))
                sock.setblocking(False)
            for _ in range(3):
                task = await soon(loop.sock_recvfrom(left, 100))
                assert await loop.sock_sendto(right, b"hello", left.getsockname()) == 5
                assert await task == (b"hello", right.getsockname())
                buffer = bytearray(100)
                task = await soon(loop.sock_recvfrom_into(left, buffer))
                right.sendto(b"world", left.getsockname())
                assert await task == (5, right.getsockname())
                task = await soon(loop.sock_recvfrom_into(left, buffer, 3))
                right.sendto(b"world", left.getsockname())
                assert await task == (3, right.getsockname())
            cancelled = await soon(loop.sock_recvfrom(left, 100))
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            right.sendto(b"kept", left.getsockname())
            assert (await loop.sock_recvfrom(left, 100))[0] == b"kept"
        with pytest.raises(OSError, match="Bad file descriptor"):
            await loop.sock_recvfrom(left, 100)

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
@pytest.mark.parametrize("connected", [False, True])
def test_datagrams_wait_for_room(run, loop, tmp_path, connected):
    async def main():
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as right,
        ):
            address = str(tmp_path / "socket")
            left.bind(address)
            left.setblocking(False)
            right.setblocking(False)
            if connected:
                right.connect(address)
            for _ in range(3):
                with contextlib.suppress(BlockingIOError):
                    while True:
                        right.sendto(b"fill", address)
                task = await soon(loop.sock_sendto(right, b"last", address))
                received = b""
                while received != b"last":
                    received = await loop.sock_recv(left, 100)
                assert await task == 4

    run(main)


def test_data_behind_urgent_data_is_received(run, loop, connection):
    left, right = connection

    async def main():
        for _ in range(2):
            task = await soon(loop.sock_recv(left, 100))
            right.send(b"before")
            right.send(b"!", socket.MSG_OOB)
            right.send(b"behind")
            got = await task
            while got != b"beforebehind":
                got += await loop.sock_recv(left, 100)

    run(main)


def test_data_behind_descriptors_is_received(run, loop, pair):
    left, right = pair

    async def main():
        for _ in range(2):
            task = await soon(loop.sock_recv(left, 100))
            socket.send_fds(right, [b"before"], [right.fileno()])
            right.send(b"behind")
            got = await task
            while got != b"beforebehind":
                got += await loop.sock_recv(left, 100)

    run(main)
