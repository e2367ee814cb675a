"""Signals between processes: a server that is told to stop, children that end, a fork."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys

import pytest

from tests.support.programs import run_with_loop, started_with_loop

SERVER = """
async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()
    await writer.wait_closed()
    connections.append("closed")

async def main():
    stopping = asyncio.Event()
    if sys.argv[1] == "loop":
        loop.add_signal_handler(signal.SIGTERM, stopping.set)
    else:
        signal.signal(signal.SIGTERM, lambda number, frame: loop.call_soon_threadsafe(stopping.set))
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stopping.wait()
    server.close()
    print("stopping", flush=True)
    while len(connections) < 3:
        await asyncio.sleep(0.001)
    await server.wait_closed()
    print("stopped", *connections)

connections = []
loop.run_until_complete(main())
loop.close()
"""


@pytest.mark.parametrize("kind", ["loop", "python"])
def test_sigterm_stops_a_server_that_is_serving_without_losing_an_answer(loop_name, kind):
    with started_with_loop(loop_name, SERVER, kind) as process:
        address = ("127.0.0.1", int(process.stdout.readline()))
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(3)]
            files = [stack.enter_context(client.makefile("rwb", buffering=0)) for client in clients]
            for number in range(50):
                for file in files:
                    file.write(b"%d\n" % number)
                if number == 20:
                    process.terminate()
                assert [file.readline() for file in files] == [b"%d\n" % number] * 3
            assert process.stdout.readline() == "stopping\n"
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, timeout=20)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "stopped closed closed closed\n", "")


@pytest.mark.parametrize("kind", ["loop", "python"])
def test_a_handler_for_children_works_beside_subprocesses(run, loop, kind):
    async def main():
        seen = asyncio.Event()
        before = signal.getsignal(signal.SIGCHLD)
        if kind == "loop":
            loop.add_signal_handler(signal.SIGCHLD, seen.set)
        else:
            signal.signal(signal.SIGCHLD, lambda _number, _frame: loop.call_soon_threadsafe(seen.set))
        for code in range(5):
            seen.clear()
            process = await asyncio.create_subprocess_exec("/bin/sh", "-c", f"exit {code}")
            assert await process.wait() == code
            await seen.wait()
        if kind == "loop":
            loop.remove_signal_handler(signal.SIGCHLD)
        signal.signal(signal.SIGCHLD, before)

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before Python 3.12 a fork keeps the wakeup descriptor")
def test_a_signal_of_a_forked_child_does_not_reach_the_parent_s_loop(loop_name):
    done = run_with_loop(
        loop_name,
        """
        async def main():
            seen = []
            loop.add_signal_handler(signal.SIGUSR1, seen.append, "handled")
            child = os.fork()
            if not child:
                os.kill(os.getpid(), signal.SIGUSR1)
                os._exit(0)
            assert os.waitpid(child, 0) == (child, 0)
            for _ in range(10):
                await asyncio.sleep(0.001)
            print("child", seen)
            os.kill(os.getpid(), signal.SIGUSR1)
            while not seen:
                await asyncio.sleep(0.001)
            print("parent", seen)
        loop.run_until_complete(main())
        loop.close()
        """,
    )
    assert done.stdout.splitlines() == ["child []", "parent ['handled']"], done.stderr
