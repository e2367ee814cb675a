"""The interpreter ends with a loop in the middle of something: no crash, no hang, and the status that was asked for."""

from __future__ import annotations

import signal
import textwrap

import pytest

from tests.support.programs import NEW_LOOP, run_program

BEGIN = """
import asyncio, os, signal, socket, sys, threading, time, warnings
from tests.support.certificate import client_context, server_context
warnings.simplefilter("ignore")
keep = []

async def read_on(reader, writer):
    keep.append(writer)
    while await reader.read(1000):
        pass
"""

#: What is open, or under way, when the main module ends. `main()` returns, nothing is closed.
OPEN = {
    "tls": """
        server = await asyncio.start_server(read_on, "127.0.0.1", 0, ssl=server_context())
        keep.extend(await asyncio.open_connection(
            "localhost", server.sockets[0].getsockname()[1], ssl=client_context()))
        keep[-1].write(bytes(10_000_000))
        keep.append(server)
    """,
    "streams": """
        async def pump(reader, writer):
            keep.append(writer)
            while True:
                writer.write(bytes(400_000))
                await writer.drain()

        async def take(reader):
            while True:
                await reader.read(1 << 16)

        server = await asyncio.start_server(pump, "127.0.0.1", 0)
        for _ in range(4):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            keep.extend((writer, asyncio.ensure_future(take(reader))))
        keep.append(server)
    """,
    "drains that are cancelled": """
        async def cancel(reader, writer):
            keep.append(writer)
            writer.write(bytes(20_000_000))
            while True:
                tasks = [asyncio.ensure_future(asyncio.wait_for(writer.drain(), 100)) for _ in range(50)]
                await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

        server = await asyncio.start_server(cancel, "127.0.0.1", 0)
        keep.extend(await asyncio.open_connection(*server.sockets[0].getsockname()))
        keep.append(server)
    """,
    "a connection that is made": """
        def made(reader, writer):
            keep.append(writer)
            end = time.monotonic() + 0.005
            while time.monotonic() < end:
                pass

        async def connect():
            while True:
                _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.transport.abort()

        server = await asyncio.start_server(made, "127.0.0.1", 0)
        keep.extend((server, asyncio.ensure_future(connect())))
    """,
    "the end of a stream, and a report": """
        def be_busy(*_):
            end = time.monotonic() + 0.003
            while time.monotonic() < end:
                pass

        class Busy(asyncio.Protocol):
            def eof_received(self):
                be_busy()
                raise ValueError

        async def connect():
            while True:
                left, right = socket.socketpair()
                transport, _ = await loop.create_connection(Busy, sock=left)
                right.close()
                while not transport.is_closing():
                    await asyncio.sleep(0)

        loop.set_exception_handler(be_busy)
        keep.append(asyncio.ensure_future(connect()))
    """,
    "tls handshake": """
        server = await asyncio.start_server(read_on, "127.0.0.1", 0)
        task = asyncio.ensure_future(asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"))
        await asyncio.sleep(0.01)
        keep.extend((server, task))
    """,
    "subprocess": """
        keep.append(await asyncio.create_subprocess_exec("sleep", "0.2", stdin=-1, stdout=-1))
    """,
    "datagrams and pipes": """
        read, write = os.pipe()
        keep.append(await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(read, "rb", 0)))
        keep.append(await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(write, "wb", 0)))
        keep.append(await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)))
        keep[1][0].write(bytes(1_000_000))
    """,
    "sendfile": """
        left, right = socket.socketpair()
        transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=left)
        import tempfile
        file = tempfile.TemporaryFile()
        file.truncate(10_000_000)
        keep.extend((right, file, transport, asyncio.ensure_future(loop.sendfile(transport, file))))
        await asyncio.sleep(0.01)
    """,
    "executor": """
        keep.append(loop.run_in_executor(None, time.sleep, 0.1))
        keep.append(asyncio.ensure_future(loop.getaddrinfo("localhost", 80)))
    """,
    "generators and tasks": """
        async def generate():
            try:
                while True:
                    yield 1
            finally:
                keep.append(None)
        generator = generate()
        await generator.__anext__()
        keep.append(generator)
        keep.append(asyncio.ensure_future(asyncio.sleep(100)))
        loop.add_signal_handler(signal.SIGUSR1, print)
        loop.call_later(100, print)
    """,
}

#: How the process ends.
ENDS = {
    "at the end of the program": ("", 0),
    "by sys.exit in a callback": (
        "loop.call_soon(sys.exit, 3); loop.run_forever()",
        3,
    ),
    "while a daemon thread runs the loop": (
        "threading.Thread(target=loop.run_forever, daemon=True).start(); time.sleep(0.02)",
        0,
    ),
    "by SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); loop.run_forever()", -signal.SIGTERM),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("what", OPEN)
def test_the_interpreter_ends_well_whatever_is_open(what, how):
    """What CPython's own loop does then is not ours to judge."""
    end, status = ENDS[how]
    work = textwrap.indent(textwrap.dedent(OPEN[what]), "    ")
    done = run_program(
        f"""{BEGIN}
async def main():
    loop.set_exception_handler(lambda loop, context: None)
{work}
loop = {NEW_LOOP["ironloop"]}
asyncio.set_event_loop(loop)
loop.run_until_complete(main())
{end}
"""
    )
    assert done.returncode == status, done.stderr
    assert "Fatal Python error" not in done.stderr
    assert "panicked" not in done.stderr
