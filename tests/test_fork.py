"""Forks of a process whose loop runs and is busy: the child is on its own, and the parent's loop does not notice.

Descriptors, among them the loop's epoll instance, are shared with the child (epoll(7)); what a child does with its
copies, and when it closes them, must not reach the parent.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.support.programs import NEW_LOOP, run_program

#: A server, and a client that asks it things; the ends of the connection are in `kept`.
BUSY = """
import asyncio, os, signal, socket, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)
kept = []

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        kept.append(transport)
    def data_received(self, data):
        self.transport.write(data)

async def ask(reader, writer, count=20):
    for number in range(count):
        writer.write(b"%d\\n" % number)
        assert await reader.readline() == b"%d\\n" % number

async def busy(**options):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, **options)
    client = {"ssl": CLIENT, "server_hostname": "localhost"} if options else {}
    return server, *await asyncio.open_connection(*server.sockets[0].getsockname()[:2], **client)

def reap(child):
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
"""

TLS = """
from tests.support.certificate import client_context, server_context
CLIENT = client_context()
OPTIONS = {"ssl": server_context()}
"""

#: What a child may do with what it has got.
CHILDREN = {
    "exits at once": "os._exit(7)",
    "closes every descriptor": "os.closerange(3, 1000); os._exit(7)",
    "closes its copy of the loop": """
        asyncio._set_running_loop(None)
        try:
            loop.close()
        except RuntimeError:
            pass  # it says that it runs
        os._exit(7)
    """,
    "runs a loop of its own": """
        asyncio._set_running_loop(None)
        async def child():
            server, reader, writer = await busy(**OPTIONS)
            await ask(reader, writer)
            assert await asyncio.to_thread(sum, [1, 2]) == 3
            assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
            await asyncio.sleep(0.001)
            writer.close()
            server.close()
        own = NEW()
        own.run_until_complete(child())
        own.close()
        os._exit(7)
    """,
}


@pytest.mark.slow
@pytest.mark.parametrize("options", ["", TLS], ids=["tcp", "tls"])
@pytest.mark.parametrize("what", CHILDREN)
def test_a_forked_child_does_not_disturb_the_connections_of_the_parent(loop_name, what, options):
    child = textwrap.indent(textwrap.dedent(CHILDREN[what]).strip(), " " * 12)
    done = run_program(
        f"""
{BUSY}
OPTIONS = {{}}
{options}
NEW = lambda: {NEW_LOOP[loop_name]}
loop = NEW()

async def main():
    server, reader, writer = await busy(**OPTIONS)
    await ask(reader, writer)
    timer = loop.create_future()
    loop.call_later(0.01, timer.set_result, None)
    children = []
    for _ in range(3):
        pid = os.fork()
        if not pid:
{child}
        children.append(pid)
        await ask(reader, writer)
    assert await loop.run_in_executor(None, lambda: [reap(pid) for pid in children]) == [7, 7, 7]
    await timer
    await ask(reader, writer)
    second = await asyncio.open_connection(*server.sockets[0].getsockname()[:2],
                                           **({{"ssl": CLIENT, "server_hostname": "localhost"}} if OPTIONS else {{}}))
    await ask(*second)
    for one in (writer, second[1]):
        one.close()
        await one.wait_closed()
    server.close()
    return "unharmed"

print(loop.run_until_complete(main()))
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
""",
        timeout=40,
    )
    assert (done.returncode, done.stdout) == (0, "unharmed\n"), done.stderr


WORK = """
import asyncio, ironloop, multiprocessing, sys

async def echo():
    async def handle(reader, writer):
        writer.write(await reader.readline())
        writer.close()
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello\\n")
    answer = await reader.readline()
    writer.close()
    server.close()
    child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    output, _ = await child.communicate(answer)
    return output

def work(number):
    loop = NEW()
    try:
        return number, loop.run_until_complete(echo())
    finally:
        loop.close()

async def main(context):
    loop = asyncio.get_running_loop()
    import concurrent.futures
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        jobs = [loop.run_in_executor(pool, work, number) for number in range(4)]
        own = await echo()
        assert await asyncio.gather(*jobs) == [(number, own) for number in range(4)]
    return "done"
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_run_loops_while_the_parent_s_runs(loop_name, method, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
{WORK}
def NEW():
    return {NEW_LOOP[loop_name]}

if __name__ == "__main__":
    loop = NEW()
    print(loop.run_until_complete(main(multiprocessing.get_context({method!r}))))
    loop.close()
"""
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
