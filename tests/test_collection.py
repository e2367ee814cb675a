"""The cyclic collector may run at every allocation: nothing that it meets is half made."""

from __future__ import annotations

import asyncio
import gc
import pathlib
import re
import socket
import ssl
import threading
import warnings
import weakref

import ironloop
import pytest
from ironloop import _native

from tests.support.builds import has_native_streams
from tests.support.pipes import files_of_a_pipe
from tests.support.protocols import Echo, close_all
from tests.test_executor import fill_executor


@pytest.fixture
def eager_collector():
    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    yield
    gc.set_threshold(*thresholds)


def test_connections_while_every_allocation_collects(run, loop, eager_collector):
    ballast = []

    async def visit(address, number):
        # With a threshold of 1 every second allocation collects: shift which ones these are.
        ballast.extend([] for _ in range(number % 4))
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"x" * 1000)
        answer = await reader.readexactly(1000)
        writer.close()
        await writer.wait_closed()
        return answer

    class Server(Echo):
        def connection_made(self, transport):
            super().connection_made(transport)
            ballast.extend([] for _ in range(len(ballast) % 3))

    async def main():
        server = await loop.create_server(Server, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        answers = await asyncio.gather(*[visit(address, number) for number in range(40)])
        assert answers == [b"x" * 1000] * 40
        await close_all(server)

    run(main)


def test_handles_while_every_allocation_collects(run, loop, eager_collector):
    async def main():
        seen = []
        done = loop.create_future()
        for number in range(50):
            loop.call_soon(seen.append, number)
            loop.call_later(0, seen.append, number)
        loop.call_soon_threadsafe(seen.append, -1)
        loop.call_later(0.001, done.set_result, None)
        await done
        assert sorted(seen) == sorted([*range(50), *range(50), -1])

    run(main)


def test_the_collector_sees_the_jobs_that_wait():
    loop, release = ironloop.new_event_loop(), threading.Event()

    async def main():
        jobs = await fill_executor(loop, release)
        last = loop.run_in_executor(None, max, 1, 2)
        seen = gc.get_referents(loop._default_executor._work_queue)
        release.set()
        assert [object for object in (loop, last, max, (1, 2)) if object not in seen] == []
        await asyncio.gather(*jobs)
        assert await last == 2

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


class Witness(asyncio.Protocol, asyncio.DatagramProtocol):
    """Anything that a native object may refer to; refers to that object in turn."""

    def __call__(self, *arguments):
        self.given = arguments
        return self


def tls_connection(loop, witness):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _native.TlsConnection(loop, witness, context, None, False, None)


def listener(loop, witness):
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    return _native.Listener(loop, sock, witness, None, 5, None, None, None)


def transport_of_a_socket(cls, kind):
    def make(loop, witness):
        sock, witness.peer = socket.socketpair(type=kind)
        sock.setblocking(False)
        return cls(loop, sock, witness)

    return make


def transport_of_a_pipe(cls, end):
    def make(loop, witness):
        witness.files = files_of_a_pipe()
        return cls(loop, witness.files[end], witness)

    return make


def loop_itself(loop, witness):
    loop.set_task_factory(witness)
    return loop


def job_queue(_loop, witness):
    queue = _native.JobQueue(1)
    queue.put(witness)
    return queue


def protocol_of_a_stream(loop, witness):
    """A `StreamReaderProtocol` whose reader the loop has adopted, and the reader."""
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, witness, loop=loop)
    witness.transport = transport_of_a_socket(_native.StreamTransport, socket.SOCK_STREAM)(loop, protocol)
    return protocol, reader


def introduction(loop, witness):
    # Until the connection is made.
    return protocol_of_a_stream(loop, witness)[0]._client_connected_cb


def stream_coroutine(loop, witness):
    reader = protocol_of_a_stream(loop, witness)[1]
    reader.witness = witness
    coroutine = reader.readexactly(1)
    coroutine.close()
    return coroutine


#: For each class that refers to Python objects: what makes an instance that refers to the witness.
REFERRING = {
    "DatagramTransport": transport_of_a_socket(_native.DatagramTransport, socket.SOCK_DGRAM),
    "Handle": lambda loop, witness: loop.call_soon(witness),
    "Introduction": introduction,
    "JobQueue": job_queue,
    "Listener": listener,
    "LoopCore": loop_itself,
    "ReadPipeTransport": transport_of_a_pipe(_native.ReadPipeTransport, 0),
    "StreamCoroutine": stream_coroutine,
    "StreamTransport": transport_of_a_socket(_native.StreamTransport, socket.SOCK_STREAM),
    "TimerHandle": lambda loop, witness: loop.call_later(1000, witness),
    "TlsConnection": tls_connection,
    "TlsTransport": lambda loop, witness: tls_connection(loop, witness)._app_transport,
    "WritePipeTransport": transport_of_a_pipe(_native.WritePipeTransport, 1),
}
#: Those of streams with native methods.
OF_STREAMS = {"Introduction", "StreamCoroutine"}
#: Classes that do not, and are in no cycle.
NOT_REFERRING = {"Probe", "Reader"}


def native_classes():
    """What each native class is defined as, by its name."""
    sources = pathlib.Path(__file__).resolve().parent.parent / "src"
    definition = re.compile(r"#\[pyclass\b.*?\bstruct\s+(\w+)(.*?^\}|.*?;$)", re.DOTALL | re.MULTILINE)
    return {name: body for path in sources.rglob("*.rs") for name, body in definition.findall(path.read_text())}


def test_each_native_class_is_collected_here_or_refers_to_nothing():
    classes = native_classes()
    assert set(REFERRING) | NOT_REFERRING == set(classes)
    assert not [name for name in NOT_REFERRING if "Py<" in classes[name]]
    assert {name for name, value in vars(_native).items() if isinstance(value, type)} <= set(classes)


@pytest.mark.parametrize("turns", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("name", REFERRING)
def test_a_cycle_through_an_instance_is_collected(name, turns):
    if name in OF_STREAMS and not has_native_streams:
        pytest.skip("streams are all asyncio's here")

    def make():
        loop, witness = ironloop.new_event_loop(), Witness()
        witness.native = REFERRING[name](loop, witness)
        assert isinstance(witness.native, getattr(_native, name))
        if turns:
            loop.call_soon(loop.stop)
            loop.run_forever()
        return weakref.ref(witness)

    gc.collect()
    gc.disable()
    try:
        witness = make()
        assert witness() is not None
    finally:
        gc.enable()
    with warnings.catch_warnings():
        # Nothing was closed.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert witness() is None
