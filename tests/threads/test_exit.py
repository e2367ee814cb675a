"""The interpreter ends while daemon threads run loops."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.support.programs import NEW_LOOP

EXIT = {
    "asleep": "",
    "busy": """
        async def spin():
            while True:
                await asyncio.sleep(0)
        keep.append(loop.create_task(spin()))
    """,
    "serving": """
        async def serve():
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
            keep.extend((server, transport))
            while True:
                transport.write(b"x" * 100)
                await asyncio.sleep(0.0001)
        keep.append(loop.create_task(serve()))
    """,
    "receiving": """
        class Sleepy(asyncio.Protocol):
            def data_received(self, data):
                time.sleep(0.003)
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        keep.append(theirs)
        def send():
            loop.call_later(0.001, send)
            theirs.send(b"x")
        async def connect():
            keep.append(await loop.connect_accepted_socket(Sleepy, ours))
            send()
        keep.append(loop.create_task(connect()))
    """,
    "connecting": """
        class Sleepy(asyncio.Protocol):
            def __init__(self):
                time.sleep(0.002)
            def connection_made(self, transport):
                time.sleep(0.001)
            def connection_lost(self, exc):
                time.sleep(0.002)
        async def connect():
            server = await loop.create_server(Sleepy, "127.0.0.1", 0)
            while True:
                transport, _ = await loop.create_connection(Sleepy, *server.sockets[0].getsockname())
                transport.abort()
        keep.append(loop.create_task(connect()))
    """,
    "called": """
        def storm():
            while True:
                loop.call_soon_threadsafe(int)
        threading.Thread(target=storm, daemon=True).start()
    """,
    "called back": """
        def answer():
            loop.call_soon_threadsafe(answer)
        loop.call_soon(answer)
        loop.call_later(0.0001, answer)
    """,
}


@pytest.mark.slow
@pytest.mark.parametrize("what", list(EXIT))
def test_the_interpreter_ends_while_daemon_threads_run_loops(loop_name, what):
    code = f"""
    import asyncio, socket, threading, time
    keep = []

    def run():
        loop = {NEW_LOOP[loop_name]}
        keep.append(loop)
        asyncio.set_event_loop(loop)
{textwrap.indent(textwrap.dedent(EXIT[what]), " " * 8)}
        loop.call_soon(started.release)
        loop.run_forever()

    started = threading.Semaphore(0)
    for _ in range(3):
        threading.Thread(target=run, daemon=True).start()
    for _ in range(3):
        started.acquire()
    time.sleep(0.02)
    print("end")
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
