"""Loops in several threads at once: nothing is lost, nothing is called twice, nothing hangs or crashes.

With a GIL these tests find what a switch of threads at an awkward moment does; on free-threaded builds the threads
really run at the same time. The collector runs in a thread of its own all the while.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import gc
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

from tests.support.protocols import Echo, Recorder

LOOPS = 4


class Team:
    """Threads whose exceptions end the test."""

    def __init__(self):
        self._threads = []
        self._failures = []

    def start(self, function, *arguments):
        def run():
            try:
                function(*arguments)
            except BaseException as error:
                self._failures.append(error)

        thread = threading.Thread(target=run)
        self._threads.append(thread)
        thread.start()

    def join(self):
        for thread in self._threads:
            thread.join(50)
            assert not thread.is_alive(), "a thread hangs"
        if self._failures:
            raise self._failures[0]


@pytest.fixture
def team():
    """Threads to be joined at the end of the test, if not before."""
    team = Team()
    yield team
    team.join()


@pytest.fixture(autouse=True)
def collect_the_rest():
    """A thread that does nothing but collect, pausing only to let the others in.

    The value ends it and collects what is left: a collection that another one is in the way of would do nothing.
    """
    stop = threading.Event()

    def collect():
        while not stop.wait(0.001):
            gc.collect()

    thread = threading.Thread(target=collect)
    thread.start()

    def collect_the_rest():
        stop.set()
        thread.join()
        gc.collect()

    yield collect_the_rest
    collect_the_rest()


class LoopThread:
    """A loop that runs in a thread until the end of the block."""

    def __init__(self, loop_factory):
        self.loop = loop_factory()
        self._team = Team()
        self.reports = []
        self.loop.set_exception_handler(lambda _loop, context: self.reports.append(context))

    def _run(self):
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    def __enter__(self):
        self._team.start(self._run)
        return self

    def __exit__(self, *_exception):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._team.join()
        assert not self.reports

    def ask(self, coroutine):
        """Run a coroutine there and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(50)


@pytest.fixture
def loops(loop_factory):
    """`LOOPS` loops that run, each in a thread of its own."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(LoopThread(loop_factory)) for _ in range(LOOPS)]


async def echo_rounds(loop, clients, rounds):
    """Echo `rounds` messages with each of `clients` connections; the bytes that came back."""
    server = await loop.create_server(Echo, "127.0.0.1", 0)

    async def client(number):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        received = 0
        for step in range(rounds):
            message = bytes([number]) * (1 + step * 997 % 5000)
            writer.write(message)
            assert await reader.readexactly(len(message)) == message
            received += len(message)
        writer.close()
        await writer.wait_closed()
        return received

    received = await asyncio.gather(*map(client, range(clients)))
    server.close()
    await server.wait_closed()
    return sum(received)


async def timers(loop, count):
    """Timers, every third cancelled; how many fired."""
    fired = 0

    def fire():
        nonlocal fired
        fired += 1

    handles = [loop.call_later(0.0001 * (number % 50), fire) for number in range(count)]
    for handle in handles[::3]:
        handle.cancel()
    await asyncio.sleep(0.02)
    return fired


@pytest.mark.slow
def test_loops_in_threads_do_not_disturb_each_other(team, loop_factory):
    results = collections.Counter()

    async def everything(loop, number):
        ready, peer = socket.socketpair()
        ready.setblocking(False)
        read = bytearray()
        loop.add_reader(ready, lambda: read.extend(ready.recv(100)))
        jobs = [loop.run_in_executor(None, pow, 2, exponent) for exponent in range(20)]
        peer.send(b"seen")
        echoed, fired, *powers = await asyncio.gather(echo_rounds(loop, 3, 30), timers(loop, 99), *jobs)
        assert powers == [1 << exponent for exponent in range(20)]
        while len(read) < 4:
            await asyncio.sleep(0)
        loop.remove_reader(ready)
        ready.close()
        peer.close()
        results[echoed, fired, bytes(read)] += 1

    def run(number):
        loop = loop_factory()
        try:
            loop.run_until_complete(everything(loop, number))
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    for number in range(LOOPS):
        team.start(run, number)
    team.join()
    assert results == {(3 * sum(1 + step * 997 % 5000 for step in range(30)), 66, b"seen"): LOOPS}


@pytest.mark.slow
def test_calls_from_many_threads_arrive_once_and_in_each_thread_s_order(loops):
    senders, calls = 4, 1000
    arrived = [[] for _ in loops]

    def send(sender):
        for number in range(calls):
            for index, it in enumerate(loops):
                it.loop.call_soon_threadsafe(arrived[index].append, (sender, number))

    storm = Team()
    for sender in range(senders):
        storm.start(send, sender)
    storm.join()

    async def nothing():
        pass

    for it, seen in zip(loops, arrived, strict=True):
        it.ask(nothing())  # which is behind all of them
        assert len(seen) == senders * calls
        for sender in range(senders):
            assert [number for who, number in seen if who == sender] == list(range(calls))


@pytest.mark.slow
def test_a_call_wakes_a_loop_at_any_moment_of_its_way_to_sleep(loops):
    """One call at a time, each the answer to the one before: were one forgotten, the ring would stop."""
    rounds = 2000
    done = threading.Event()
    passed = [0]

    def pass_on(place):
        passed[0] += 1
        if passed[0] == rounds:
            done.set()
        else:
            following = (place + 1) % len(loops)
            loops[following].loop.call_soon_threadsafe(pass_on, following)

    loops[0].loop.call_soon_threadsafe(pass_on, 0)
    assert done.wait(50), f"only {passed[0]} of {rounds} calls arrived"


@pytest.mark.slow
def test_coroutines_and_their_results_cross_threads(loops):
    async def work(number):
        await asyncio.sleep(0.0001 * (number % 3))
        if number % 5 == 0:
            raise LookupError(number)
        if number % 5 == 1:
            await asyncio.sleep(60)
        return number

    def submit(me):
        counts = collections.Counter()
        futures = {}
        for number in range(100):
            it = loops[number % len(loops)]
            futures[asyncio.run_coroutine_threadsafe(work(number), it.loop)] = number
        for future, number in futures.items():
            if number % 5 == 1:
                assert future.cancel()
        for future, number in futures.items():
            if future.cancelled():
                counts["cancelled"] += 1
            elif future.exception(50) is None:
                assert future.result() == number
                counts["result"] += 1
            else:
                assert future.exception().args == (number,)
                counts["error"] += 1
        return counts

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for counts in pool.map(submit, range(4)):
            assert counts == {"result": 60, "error": 20, "cancelled": 20}

    async def idle():
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    for it in loops:
        it.ask(idle())


@pytest.mark.slow
def test_a_handle_that_is_cancelled_by_another_thread_runs_at_most_once(loops):
    calls = 500
    ran = [collections.Counter() for _ in loops]

    def send(index):
        loop = loops[index].loop
        for number in range(calls):
            handle = loop.call_soon_threadsafe(ran[index].update, [number])
            if number % 2:
                handle.cancel()
                assert handle.cancelled()

    with concurrent.futures.ThreadPoolExecutor(len(loops)) as pool:
        list(pool.map(send, range(len(loops))))

    async def nothing():
        pass

    for it, counts in zip(loops, ran, strict=True):
        it.ask(nothing())
        assert set(counts.values()) == {1}
        assert all(counts[number] for number in range(0, calls, 2))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["close", "abort"])
def test_transports_that_other_threads_have_closed_are_lost_once(loops, way):
    connections = 20

    async def connect():
        loop = asyncio.get_running_loop()
        served = []

        def factory():
            served.append(Recorder())
            return served[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [(await loop.create_connection(Recorder, *address))[1] for _ in range(connections)]
        for client in clients:
            client.transport.write(b"x" * 1000)
        while len(served) < connections:
            await asyncio.sleep(0)
        return server, clients, served

    async def lost(server, clients, served):
        for protocol in clients + served:
            await protocol.lost
            assert protocol.events.count("lost") == 1
        server.close()
        await server.wait_closed()

    parts = [it.ask(connect()) for it in loops]

    def close(_who):
        for it, (_server, clients, _served) in zip(loops, parts, strict=True):
            for client in clients:
                it.loop.call_soon_threadsafe(getattr(client.transport, way))

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(close, range(3)))
    for it, part in zip(loops, parts, strict=True):
        it.ask(lost(*part))


@pytest.mark.slow
def test_watched_sockets_that_other_threads_write_to(loops):
    messages = 200
    pairs = [socket.socketpair() for _ in loops]
    seen = [bytearray() for _ in loops]

    async def watch(index):
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        read, _ = pairs[index]
        read.setblocking(False)

        def receive():
            seen[index].extend(read.recv(16))
            if len(seen[index]) == messages:
                loop.remove_reader(read)
                done.set_result(None)

        loop.add_reader(read, receive)
        await done

    def write(index):
        for number in range(messages):
            pairs[index][1].send(bytes([number]))

    with concurrent.futures.ThreadPoolExecutor(len(loops)) as pool:
        waiting = [asyncio.run_coroutine_threadsafe(watch(index), it.loop) for index, it in enumerate(loops)]
        list(pool.map(write, range(len(loops))))
        for future in waiting:
            future.result(50)
    for data, pair in zip(seen, pairs, strict=True):
        assert data == bytes(range(messages))
        for sock in pair:
            sock.close()


def test_a_loop_that_is_made_run_and_closed_by_three_threads(team, loop_factory):
    loop = loop_factory()
    seen = []

    async def main():
        handle = loop.call_later(60, seen.append, "never")
        await asyncio.sleep(0.001)
        seen.append("ran")
        return handle

    handles = []
    team.start(lambda: handles.append(loop.run_until_complete(main())))
    team.join()
    team.start(lambda: handles.append(loop.run_until_complete(main())))
    team.join()
    team.start(loop.close)
    team.join()
    for handle in handles:
        handle.cancel()
    assert seen == ["ran", "ran"]
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_soon_threadsafe(seen.append, "late")


@pytest.mark.slow
def test_calls_race_with_the_end_of_the_loop(loop_factory, collect_the_rest):
    """A call either arrives or is refused; a loop that closes meanwhile frees what came too late."""

    born, died = [], []

    class Witness:
        def __init__(self):
            born.append(1)

        def __call__(self):
            pass

        def __del__(self):
            died.append(1)

    def send(loop):
        with pytest.raises(RuntimeError, match="closed"):
            while True:
                loop.call_soon_threadsafe(Witness())

    for _ in range(10):
        loop = loop_factory()
        storm = Team()
        for _ in range(2):
            storm.start(send, loop)
        loop.call_later(0.002, loop.stop)
        loop.run_forever()
        loop.close()
        storm.join()
        del loop
    collect_the_rest()
    assert len(died) == len(born)


@pytest.mark.slow
def test_finalizers_may_use_the_loop_wherever_an_object_dies(loops, collect_the_rest):
    """What asyncio drops, it drops while nothing is locked: the finalizer may call any method of the loop's."""
    finalized = []

    class Dying:
        def __init__(self, loop, place, transport=None):
            self.loop, self.place, self.transport = loop, place, transport

        def __call__(self, *_arguments, **_keywords):
            return None

        def __del__(self):
            loop, transport = self.loop, self.transport
            finalized.append(self.place)
            loop.call_soon_threadsafe(int)
            loop.is_running()
            loop.remove_reader(0)
            loop.get_task_factory()
            repr(transport)
            if transport is not None:
                transport.is_closing()
                transport.get_extra_info("socket")
                transport.get_write_buffer_size()

    class Protocol(Dying, asyncio.Protocol):
        pass

    async def drop():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        for _ in range(20):
            loop.call_soon(Dying(loop, "ran"))
            loop.call_soon(int, Dying(loop, "argument")).cancel()
            loop.call_soon(Dying(loop, "cancelled")).cancel()
            loop.call_later(60, Dying(loop, "timer")).cancel()
            loop.add_reader(ours, Dying(loop, "reader"))
            loop.add_reader(ours, Dying(loop, "reader"))
            loop.remove_reader(ours)
            loop.set_task_factory(Dying(loop, "task factory"))
            loop.set_task_factory(None)
            cycle = [Dying(loop, "cycle")]
            cycle.append(cycle)
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
        for _ in range(20):
            transport.set_protocol(Protocol(loop, "protocol", transport))
        transport.set_protocol(asyncio.Protocol())
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(transport.get_extra_info("socket"), Dying(loop, "refused reader"))
        transport.abort()
        theirs.close()
        await asyncio.sleep(0)

    for it in loops:
        it.ask(drop())
    collect_the_rest()
    assert collections.Counter(finalized) == {
        **dict.fromkeys(("ran", "argument", "cancelled", "timer", "task factory", "cycle", "protocol"), 20 * LOOPS),
        "reader": 40 * LOOPS,
        "refused reader": LOOPS,
    }


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
    factory = {"asyncio": "asyncio.SelectorEventLoop", "ironloop": "ironloop.new_event_loop"}[loop_name]
    code = f"""
    import asyncio, socket, threading, time
    import ironloop
    keep = []

    def run():
        loop = {factory}()
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
