"""Signals: handlers of the loop, handlers of Python, Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

from tests.support.builds import FREE_THREADED
from tests.support.children import until
from tests.support.pipes import turns

FACTORY = {"asyncio": "asyncio.SelectorEventLoop", "ironloop": "ironloop.new_event_loop"}
USED = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP, signal.SIGINT]


@contextlib.contextmanager
def started(loop_name, body, *arguments):
    """An interpreter that runs `body` with `loop`."""
    code = f"import asyncio, ironloop, os, signal, sys, threading\nloop = {FACTORY[loop_name]}()\n" + textwrap.dedent(
        body
    )
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def in_a_process(loop_name, body, *arguments):
    """Run `body` with `loop` in an interpreter of its own, to the end."""
    with started(loop_name, body, *arguments) as process:
        out, err = process.communicate(timeout=30)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(autouse=True)
def _dispositions():
    """Each test leaves the signals, and the descriptor that they are written to, as they were."""
    before = {number: signal.getsignal(number) for number in USED}
    yield
    assert {number: signal.getsignal(number) for number in USED} == before
    assert signal.set_wakeup_fd(-1) == -1


# add_signal_handler and remove_signal_handler


@pytest.mark.parametrize("number", USED)
def test_a_handler_is_called_until_it_is_removed(run, loop, number):
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL

    async def main():
        got = loop.create_future()
        assert loop.remove_signal_handler(number) is False
        assert loop.add_signal_handler(number, got.set_result, 5) is None
        os.kill(os.getpid(), number)
        assert await got == 5
        assert loop.remove_signal_handler(number) is True
        assert loop.remove_signal_handler(number) is False
        assert signal.getsignal(number) == default

    run(main)


def test_the_default_disposition_ends_the_process_again(loop_name):
    done = in_a_process(
        loop_name,
        """
        async def main():
            seen = asyncio.Event()
            loop.add_signal_handler(signal.SIGTERM, seen.set)
            os.kill(os.getpid(), signal.SIGTERM)
            await seen.wait()
            print("handled", flush=True)
            loop.remove_signal_handler(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(20)
        loop.run_until_complete(main())
        """,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "handled\n"), done.stderr


def test_a_signal_between_adding_the_handler_and_the_run_is_not_lost(loop):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_handler_is_still_there_in_the_next_run(loop):
    seen = []

    def handler():
        seen.append(len(seen))
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handler)
    for _ in range(3):
        loop.call_soon(signal.raise_signal, signal.SIGUSR1)
        loop.run_forever()
    assert seen == [0, 1, 2]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True


def test_a_second_handler_replaces_the_first(run, loop):
    async def main():
        first, second = [], loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, first.append, 1)
        loop.add_signal_handler(signal.SIGUSR1, second.set_result, 2)
        signal.raise_signal(signal.SIGUSR1)
        assert await second == 2
        assert first == []
        assert loop.remove_signal_handler(signal.SIGUSR1) is True
        assert loop.remove_signal_handler(signal.SIGUSR1) is False

    run(main)


def test_different_signals_keep_their_order(run, loop):
    order = [signal.SIGUSR2, signal.SIGUSR1, signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGTERM]

    async def main():
        seen = []
        done = asyncio.Event()
        for number in {*order}:
            loop.add_signal_handler(number, seen.append, number)
        loop.add_signal_handler(signal.SIGHUP, done.set)
        for number in [*order, signal.SIGHUP]:
            signal.raise_signal(number)
        await done.wait()
        assert seen == order
        for number in {*order, signal.SIGHUP}:
            assert loop.remove_signal_handler(number)

    run(main)


def test_a_handler_runs_in_the_context_that_it_was_added_in(run, loop):
    variable = contextvars.ContextVar("variable", default="unset")

    async def main():
        got = loop.create_future()
        variable.set("added")
        loop.add_signal_handler(signal.SIGUSR1, lambda: got.set_result(variable.get()))
        variable.set("later")
        signal.raise_signal(signal.SIGUSR1)
        assert await got == "added"
        loop.remove_signal_handler(signal.SIGUSR1)

    run(main)


def test_an_exception_of_a_handler_reaches_the_exception_handler(run, loop, reports):
    async def main():
        done = asyncio.Event()

        def handler():
            if not reports:
                raise LookupError("from a handler")
            done.set()

        loop.add_signal_handler(signal.SIGUSR1, handler)
        signal.raise_signal(signal.SIGUSR1)
        await until(lambda: reports)
        signal.raise_signal(signal.SIGUSR1)
        await done.wait()
        loop.remove_signal_handler(signal.SIGUSR1)

    run(main)
    (report,) = reports
    assert report["message"].startswith("Exception in callback ")
    assert repr(report["exception"]) == "LookupError('from a handler')"


async def coroutine_function():
    pass


def test_bad_signals_and_handlers_are_refused(loop):
    for call in (lambda number: loop.add_signal_handler(number, print), loop.remove_signal_handler):
        for number in ("text", None, 10.0):
            with pytest.raises(TypeError, match=f"sig must be an int, not {number!r}"):
                call(number)
        for number in (0, -1, 5000):
            with pytest.raises(ValueError, match=f"invalid signal number {number}"):
                call(number)
    for number in (signal.SIGKILL, signal.SIGSTOP):
        with pytest.raises(RuntimeError, match=r"sig .* cannot be caught"):
            loop.add_signal_handler(number, print)
        assert loop.remove_signal_handler(number) is False
    with pytest.raises(TypeError, match=r"coroutines cannot be used with add_signal_handler\(\)"):
        loop.add_signal_handler(signal.SIGUSR1, coroutine_function)
    coroutine = coroutine_function()
    with pytest.raises(TypeError, match=r"coroutines cannot be used with add_signal_handler\(\)"):
        loop.add_signal_handler(signal.SIGUSR1, coroutine)
    coroutine.close()


def test_handlers_belong_to_the_main_thread(loop_factory):
    caught = []

    def other():
        loop = loop_factory()
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except RuntimeError as error:
            caught.append(error)
        loop.close()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_a_closed_loop_has_no_handlers(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.add_signal_handler(signal.SIGUSR1, print)


# The wakeup descriptor


@pytest.fixture
def wakeup():
    """The user's own wakeup descriptor."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    yield write
    signal.set_wakeup_fd(-1)
    os.close(read)
    os.close(write)


def test_a_run_without_handlers_leaves_the_user_s_wakeup_descriptor_alone(run, wakeup):
    seen = []

    async def main():
        seen.append(signal.set_wakeup_fd(wakeup))

    run(main)
    assert seen == [wakeup]
    assert signal.set_wakeup_fd(wakeup) == wakeup


def test_a_wakeup_descriptor_that_is_set_during_a_run_stays(run, request):
    async def main():
        return request.getfixturevalue("wakeup")

    theirs = run(main)
    assert signal.set_wakeup_fd(-1) == theirs


def test_the_wakeup_descriptor_is_given_back(run):
    run(lambda: asyncio.sleep(0))
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("owned", [False, True])
@pytest.mark.parametrize("added", ["before", "in"])
@pytest.mark.parametrize("removed", ["in", "after", "by closing"])
def test_after_the_last_handler_the_wakeup_descriptor_is_not_the_loop_s(request, run, loop, owned, added, removed):
    theirs = request.getfixturevalue("wakeup") if owned else -1

    async def main():
        if added == "in":
            loop.add_signal_handler(signal.SIGUSR1, print)
        if removed == "in":
            assert loop.remove_signal_handler(signal.SIGUSR1)

    if added == "before":
        loop.add_signal_handler(signal.SIGUSR1, print)
    run(main)
    if removed == "after":
        assert loop.remove_signal_handler(signal.SIGUSR1)
    elif removed == "by closing":
        loop.close()
    # CPython does not give the user's back.
    assert signal.set_wakeup_fd(-1) in (theirs, -1)


def test_a_refused_handler_takes_no_wakeup_descriptor(loop):
    with pytest.raises(RuntimeError):
        loop.add_signal_handler(signal.SIGKILL, print)
    assert signal.set_wakeup_fd(-1) == -1


# Handlers of Python, set with signal.signal


@pytest.fixture
def python_handler():
    """Sets the handler of SIGUSR1."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda handler: signal.signal(signal.SIGUSR1, handler)
    signal.signal(signal.SIGUSR1, before)


@contextlib.contextmanager
def signal_soon():
    """SIGUSR1 comes from a thread, soon: most often once the loop sleeps."""
    timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    yield
    timer.join()


@pytest.fixture(params=[False, True], ids=["alone", "beside_a_handler_of_the_loop"])
def other_handler(request, loop):
    if request.param:
        loop.add_signal_handler(signal.SIGUSR2, print)
    yield
    loop.remove_signal_handler(signal.SIGUSR2)


@pytest.mark.usefixtures("other_handler")
def test_a_python_handler_runs_while_the_loop_is_idle(loop, python_handler):
    seen = []

    def handler(number, _frame):
        seen.append(number)
        loop.call_soon_threadsafe(loop.stop)

    python_handler(handler)
    with signal_soon():
        loop.run_forever()
    assert seen == [signal.SIGUSR1]


@pytest.mark.usefixtures("other_handler")
def test_what_a_python_handler_raises_leaves_an_idle_run(loop, python_handler, loop_name):
    if loop_name == "asyncio" and FREE_THREADED:
        pytest.skip("CPython's loop sleeps on when the signal comes just before it does, which needs another thread")
    python_handler(fail)
    with signal_soon(), pytest.raises(LookupError):
        loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()


def fail(_number, _frame):
    raise LookupError("from a signal handler")


@pytest.mark.usefixtures("other_handler")
def test_what_a_python_handler_raises_in_a_callback_is_that_callback_s(loop, python_handler, reports):
    def callback():
        signal.raise_signal(signal.SIGUSR1)
        return len(reports)  # the handler has run before

    python_handler(fail)
    loop.call_soon(callback)
    loop.call_soon(loop.stop)
    loop.run_forever()
    (report,) = reports
    assert report["message"].startswith("Exception in callback test_what_")
    assert repr(report["exception"]) == "LookupError('from a signal handler')"


@pytest.mark.usefixtures("other_handler")
def test_what_a_python_handler_raises_in_a_task_is_that_task_s(run, python_handler):
    async def main():
        with pytest.raises(LookupError):
            signal.raise_signal(signal.SIGUSR1)
        await asyncio.sleep(0)

    python_handler(fail)
    run(main)


def test_a_signal_that_another_thread_gets_wakes_the_loop(loop_name):
    if loop_name == "asyncio":
        pytest.skip("without handlers of its own CPython's loop has no wakeup descriptor and sleeps on")
    done = in_a_process(
        loop_name,
        """
        def handler(number, frame):
            loop.call_soon_threadsafe(loop.stop)
        signal.signal(signal.SIGUSR1, handler)
        import time
        def other():
            time.sleep(0.1)
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        threading.Thread(target=other).start()
        loop.run_forever()
        loop.close()
        print("stopped")
        """,
    )
    assert done.stdout.split() == ["stopped"], done.stderr


# Ctrl-C


@pytest.mark.parametrize("busy", [False, True])
def test_ctrl_c_interrupts_a_run_at_once_and_a_second_run_works(loop_name, busy):
    if loop_name == "asyncio" and busy and FREE_THREADED:
        pytest.skip("CPython's loop loses the callback that it has taken from its queue and not called yet")
    done = in_a_process(
        loop_name,
        """
        import time
        def spin():
            if sys.argv[1] == "True":
                loop.call_soon(spin)
        def interrupt():
            global sent
            sent = time.monotonic()
            os.kill(os.getpid(), signal.SIGINT)
        async def second():
            await asyncio.sleep(0.001)
            return "second run"
        loop.call_soon(spin)
        try:
            threading.Timer(0.05, interrupt).start()
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - sent < 0.6)
        print(loop.run_until_complete(second()))
        loop.close()
        """,
        str(busy),
    )
    assert done.stdout.splitlines() == ["interrupted True", "second run"], done.stderr


def test_ctrl_c_leaves_run_until_complete_and_its_task_goes_on(loop_name):
    done = in_a_process(
        loop_name,
        """
        async def main():
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            await event.wait()
            return "finished"
        event = asyncio.Event()
        task = loop.create_task(main())
        try:
            loop.run_until_complete(task)
        except KeyboardInterrupt:
            print("interrupted", task.done())
        event.set()
        print(loop.run_until_complete(task))
        loop.close()
        """,
    )
    assert done.stdout.splitlines() == ["interrupted False", "finished"], done.stderr


def test_ctrl_c_goes_to_a_handler_of_the_loop_while_there_is_one(loop):
    loop.add_signal_handler(signal.SIGINT, loop.stop)
    loop.call_soon(signal.raise_signal, signal.SIGINT)
    loop.run_forever()
    assert loop.remove_signal_handler(signal.SIGINT) is True
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(interrupted())


async def interrupted():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the runner's handler is new in Python 3.11")
def test_ctrl_c_cancels_the_main_task_of_a_runner(loop_name):
    done = in_a_process(
        loop_name,
        """
        loop.close()
        async def main():
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                print("cancelled")
                raise
        try:
            (asyncio if sys.argv[1] == "asyncio" else ironloop).run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """,
        loop_name,
    )
    assert done.stdout.split() == ["cancelled", "interrupted"], done.stderr


# SIGTERM while a server is serving

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
    with started(loop_name, SERVER, kind) as process:
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


# Many signals, and children


def test_fifty_signals_one_after_the_other_are_fifty_calls(run, loop):
    async def main():
        count = 0
        done = loop.create_future()

        def handler():
            nonlocal count
            count += 1
            if count == 50:
                done.set_result(None)
            else:
                os.kill(os.getpid(), signal.SIGUSR1)

        loop.add_signal_handler(signal.SIGUSR1, handler)
        os.kill(os.getpid(), signal.SIGUSR1)
        await done
        loop.remove_signal_handler(signal.SIGUSR1)

    run(main)


def test_fifty_signals_at_once_are_fifty_calls(run, loop):
    async def main():
        seen = []
        loop.add_signal_handler(signal.SIGUSR1, lambda: seen.append(len(seen)))
        for _ in range(50):
            signal.raise_signal(signal.SIGUSR1)
        await until(lambda: len(seen) >= 50)
        await turns()
        assert seen == list(range(50))
        loop.remove_signal_handler(signal.SIGUSR1)

    run(main)


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


# Several loops, several processes


def test_two_loops_one_after_the_other_have_their_handlers(loop_factory):
    for _ in range(2):
        loop = loop_factory()
        loop.add_signal_handler(signal.SIGUSR1, loop.stop)
        loop.call_soon(signal.raise_signal, signal.SIGUSR1)
        loop.run_forever()
        loop.close()


def test_a_signal_waits_for_its_loop_while_another_one_runs(loop, loop_factory):
    other = loop_factory()
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "handled")
    other.call_soon(signal.raise_signal, signal.SIGUSR1)
    other.call_soon(other.stop)
    other.run_forever()
    other.close()
    assert seen == []
    loop.run_until_complete(until(lambda: seen))
    assert seen == ["handled"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_loop_in_another_thread_takes_no_signals(run, loop, loop_factory):
    def other():
        second = loop_factory()
        second.run_until_complete(asyncio.sleep(0.001))
        second.close()

    async def main():
        done = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, done.set)
        await loop.run_in_executor(None, other)
        signal.raise_signal(signal.SIGUSR1)
        await done.wait()
        loop.remove_signal_handler(signal.SIGUSR1)

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before Python 3.12 a fork keeps the wakeup descriptor")
def test_a_signal_of_a_forked_child_does_not_reach_the_parent_s_loop(loop_name):
    done = in_a_process(
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
