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
        assert asyncio._get_running_loop() is None
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
    # What follows harms the parent on CPython's loop: the child's removals reach the epoll instance of both.
    "exits as Python does": "kept.clear(); sys.exit(7)",
    "closes what it has inherited": "[end.close() for end in (writer, server, *kept)]; os._exit(7)",
    "aborts what it has inherited": "[end.abort() for end in (writer.transport, *kept)]; server.close(); os._exit(7)",
    "finishes writing": "OPTIONS or writer.write_eof(); os._exit(7)",
}
ONLY_OURS = list(CHILDREN)[4:]


@pytest.mark.slow
@pytest.mark.parametrize("options", ["", TLS], ids=["tcp", "tls"])
@pytest.mark.parametrize("what", CHILDREN)
def test_a_forked_child_does_not_disturb_the_connections_of_the_parent(loop_name, what, options):
    if loop_name == "asyncio" and what in ONLY_OURS:
        pytest.skip("the connections of the parent end")
    if what == "exits as Python does" and sys.version_info >= (3, 14):
        pytest.skip("CPython's Task cannot leave a forked child: 'loop ... is not the running loop', with every loop")
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
        for piece in [b"in", b" pieces", b"\\n"]:
            writer.write(piece)
        pid = os.fork()
        if not pid:
{child}
        children.append(pid)
        assert await reader.readline() == b"in pieces\\n"
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


#: A loop that waits for what `theirs` sends, and what a parent and its child do with it.
FORKED = """
import asyncio, os, signal, socket
ours, theirs = socket.socketpair()
seen = []

def receive():
    seen.append(ours.recv(10))
    loop.stop()

loop = {loop}
loop.add_reader(ours, receive)
{before}
child = os.fork()
if not child:
{child}
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
{parent}
loop.close()
ours.close()
theirs.close()
print(seen)
"""


def run_forked(loop_name: str, child: str, parent: str = "", before: str = "") -> str:
    """What the parent prints: what it has received."""
    parts = {"before": before, "child": child, "parent": parent}
    texts = {name: textwrap.dedent(text).strip() for name, text in parts.items()}
    texts["child"] = textwrap.indent(texts["child"], "    ")
    done = run_program(FORKED.format(loop=NEW_LOOP[loop_name], **texts), timeout=40)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_forked_child_may_run_a_loop_that_was_made_for_it(loop_name):
    """As a program does that forks to become a daemon."""
    child = """
        other = socket.socketpair()
        loop.add_reader(other[0], loop.stop)
        other[1].send(b"x")
        loop.run_forever()
        loop.remove_reader(other[0])
        theirs.send(b"hello")
        loop.run_forever()
        assert seen == [b"hello"]
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.call_later(0.01, loop.call_soon_threadsafe, loop.stop)
        loop.run_forever()
        loop.close()
        assert loop.is_closed()
    """
    assert run_forked(loop_name, child) == "[]\n"


def test_a_forked_child_that_runs_the_loop_and_closes_it_does_not_disturb_the_parent(loop_name):
    if loop_name == "asyncio":
        pytest.skip("what the child removes is removed for both")
    child = """
        loop.run_until_complete(asyncio.sleep(0))
        assert loop.remove_reader(ours)
        loop.close()
    """
    parent = """
        theirs.send(b"hello")
        loop.run_forever()
    """
    assert run_forked(loop_name, child, parent) == "[b'hello']\n"


def test_a_forked_child_goes_on_with_the_callback_and_the_loop(loop_name):
    """Parent and child get what is theirs: a timer each, and what each sends to itself."""
    if loop_name == "asyncio":
        pytest.skip("what the child registers wakes the parent, too")
    done = run_program(
        f"""
        import asyncio, os, socket
        loop = {NEW_LOOP[loop_name]}

        async def main():
            task = asyncio.current_task()
            child = os.fork()
            # The child's thread forgets that it runs a loop, and since 3.14 which task.
            asyncio._set_running_loop(loop)
            if asyncio.current_task() is None:
                asyncio.tasks._enter_task(loop, task)
            mine, other = socket.socketpair()
            with mine, other:
                other.send(b"x")
                mine.setblocking(False)
                assert await asyncio.wait_for(loop.sock_recv(mine, 1), 30) == b"x"
                await asyncio.sleep(0.001)
                if not child:
                    os._exit(7)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
                other.send(b"y")
                assert await asyncio.wait_for(loop.sock_recv(mine, 1), 30) == b"y"

        loop.run_until_complete(main())
        loop.close()
        print("ended")
        """,
        timeout=40,
    )
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr


def test_a_signal_for_a_child_that_runs_an_inherited_loop_is_not_seen_by_the_parent(loop_name):
    if loop_name == "asyncio":
        pytest.skip("both have the same self-pipe")
    before = """
        def handle():
            seen.append("a signal")
            loop.stop()

        loop.add_signal_handler(signal.SIGUSR1, handle)
    """
    child = """
        loop.remove_reader(ours)
        loop.add_reader(ours, receive)
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        loop.run_forever()
        assert seen == ["a signal"]
        os.kill(os.getpid(), signal.SIGUSR1)  # Nobody reads of that one.
    """
    parent = """
        theirs.send(b"hello")
        loop.run_forever()
        loop.run_until_complete(asyncio.sleep(0))
    """
    assert run_forked(loop_name, child, parent, before) == "[b'hello']\n"


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
