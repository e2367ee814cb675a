"""Loops in threads, forks, interpreters that end; asynchronous generators; what the collector finds."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import warnings
import weakref

import ironloop
import pytest


def test_asynchronous_generators_are_closed_at_shutdown(loop):
    closed = []

    async def generator():
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(1)

    async def main():
        async for _ in generator():
            break
        other = generator()
        await other.__anext__()
        return other

    other = loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    del other
    loop.run_until_complete(asyncio.sleep(0))
    assert len(closed) == 2


def test_a_generator_after_the_shutdown_warns(loop):
    async def generator():
        yield 1

    async def main():
        await loop.shutdown_asyncgens()
        made = generator()
        with pytest.warns(ResourceWarning, match="was scheduled after"):
            await made.__anext__()
        await made.aclose()

    loop.run_until_complete(main())


def test_loops_in_threads_do_not_disturb_each_other(loop_factory):
    results = []

    async def work(name):
        async def echo(reader, writer):
            writer.write(await reader.readexactly(3))
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        for _ in range(20):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(name)
            assert await reader.read() == name
            writer.close()
            await writer.wait_closed()
        server.close()
        results.append(name)

    def thread(name):
        loop = loop_factory()
        loop.run_until_complete(work(name))
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()

    threads = [threading.Thread(target=thread, args=(b"t%02d" % number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(results) == 4


def test_a_loop_made_in_one_thread_can_run_in_another(loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_later(0.001, loop.stop)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    thread.join()
    assert seen == [1]


def in_a_process(body):
    code = "import asyncio, ironloop, os, sys, threading, time\n" + textwrap.dedent(body)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=40)


@pytest.mark.parametrize(
    "body",
    [
        "loop = ironloop.new_event_loop()",
        "loop = ironloop.new_event_loop(); loop.call_later(100, print); loop.call_soon(print)",
        """
        loop = ironloop.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        time.sleep(0.1)
        """,
        """
        loop = ironloop.new_event_loop()
        async def main():
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            loop.transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        loop.run_until_complete(main())
        """,
        """
        loop = ironloop.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        def post():
            while True:
                loop.call_soon_threadsafe(int)
        threading.Thread(target=post, daemon=True).start()
        time.sleep(0.1)
        """,
    ],
)
def test_an_interpreter_ends_well_with_a_loop_that_is_open(body):
    done = in_a_process(body)
    assert done.returncode == 0, done.stderr


def test_a_child_after_a_fork_can_run_a_loop_of_its_own():
    done = in_a_process(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        async def child():
            await asyncio.sleep(0.001)
            assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
            server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            writer.close()
            server.close()
        async def parent():
            asyncio.get_running_loop().call_later(0.2, seen.append, "timer")
            await asyncio.get_running_loop().getaddrinfo("localhost", 80)
            pid = os.fork()
            if pid == 0:
                asyncio._set_running_loop(None)
                try:
                    ironloop.run(child())
                    os._exit(7)
                except BaseException as error:
                    print(repr(error), file=sys.stderr, flush=True)
                    os._exit(1)
            await asyncio.sleep(0.3)
            _, status = os.waitpid(pid, 0)
            seen.append(os.waitstatus_to_exitcode(status))
        seen = []
        ironloop.run(parent())
        print(seen)
        """
    )
    assert done.stdout.strip() == "['timer', 7]", done.stderr


def test_a_closed_loop_that_is_initialised_again_stays_closed():
    loop = ironloop.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.__init__()
    assert loop.is_closed()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_forever()
    for sock in (loop._ssock, loop._csock):  # which asyncio's __init__ has made
        sock.close()


def test_a_loop_in_a_cycle_is_collected():
    loop = ironloop.new_event_loop()
    loop.me = loop
    loop.call_soon(print, loop)
    loop.call_later(100, print, loop)
    gone = weakref.ref(loop)
    loop.close()
    del loop
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("schedule", ["call_soon", "call_later", "call_soon_threadsafe"])
def test_a_handle_in_a_cycle_is_collected(schedule):
    class Owner:
        pass

    loop = ironloop.new_event_loop()
    owner = Owner()
    arguments = [0] if schedule == "call_later" else []
    owner.handle = getattr(loop, schedule)(*arguments, lambda owner=owner: owner)
    gone = weakref.ref(owner)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    del owner
    gc.collect()
    assert gone() is None
    loop.close()


@pytest.mark.parametrize("end", ["fires", "cancelled", "loop closes", "loop dies"])
def test_a_timer_that_a_running_loop_made_is_collected_with_its_cycle(end):
    """While its loop runs, the collector does not know of it."""

    class Owner:
        pass

    async def main():
        owner = Owner()
        owner.loop = loop
        owner.timer = loop.call_later(0 if end == "fires" else 1000, lambda owner=owner: owner)
        gc.collect()
        await asyncio.sleep(0.001)
        if end == "cancelled":
            owner.timer.cancel()
        return weakref.ref(owner)

    loop = ironloop.new_event_loop()
    gone = loop.run_until_complete(main())
    if end == "loop closes":
        loop.close()
    if end == "loop dies":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del loop
            gc.collect()
    gc.collect()
    assert gone() is None
    if end in ("fires", "cancelled"):
        loop.close()


def test_an_open_loop_that_nobody_holds_is_collected_with_what_it_holds():
    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)
    loop = ironloop.new_event_loop()
    thing.loop = loop
    loop.call_later(1000, print, thing)
    loop.add_reader(loop._ssock, print, thing)
    with warnings.catch_warnings():
        # Recorded warnings would hold what they are about.
        warnings.simplefilter("ignore", ResourceWarning)
        del loop, thing
        gc.collect()
    assert gone() is None


def test_a_transport_and_its_protocol_are_collected_when_they_are_in_a_cycle():
    loop = ironloop.new_event_loop()
    seen = []

    class Keeper(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            transport.keeper = self
            seen.append(weakref.ref(transport))

    async def main():
        server = await loop.create_server(Keeper, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(Keeper, *server.sockets[0].getsockname())
        transport.close()
        await asyncio.sleep(0.01)
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
    loop.close()
    gc.collect()
    assert len(seen) == 2
    assert [reference() for reference in seen] == [None, None]


def test_no_object_is_left_behind_by_a_hundred_loops():
    ironloop.run(asyncio.sleep(0))
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(100):
        ironloop.run(asyncio.sleep(0))
    gc.collect()
    assert len(gc.get_objects()) - before < 50
