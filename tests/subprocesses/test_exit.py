"""How children end: exit codes, signals, close, cancellation, and who else waits for children."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE

import pytest

from tests.support.children import ChildRecorder, children, finished, until
from tests.support.leaks import open_descriptors


@pytest.mark.parametrize("code", [0, 1, 7, 127, 255])
def test_the_exit_code_is_the_childs(run, code):
    async def main():
        process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {code}")
        waits = [asyncio.create_task(process.wait()) for _ in range(3)]
        assert await asyncio.gather(*waits) == [code] * 3
        assert process.returncode == await process.wait() == code

    run(main)


@pytest.mark.parametrize(
    ("how", "number"),
    [
        (lambda process: process.kill(), signal.SIGKILL),
        (lambda process: process.terminate(), signal.SIGTERM),
        (lambda process: process.send_signal(signal.SIGHUP), signal.SIGHUP),
        (lambda process: os.kill(process.pid, signal.SIGINT), signal.SIGINT),
    ],
    ids=["kill", "terminate", "send_signal", "os.kill"],
)
def test_death_by_signal_is_negative(run, how, number):
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "100", stdout=PIPE)
        assert process.returncode is None
        how(process)
        assert await process.wait() == -number
        assert await process.stdout.read() == b""
        for call in (process.kill, process.terminate):
            with pytest.raises(ProcessLookupError):
                call()
        with pytest.raises(ProcessLookupError):
            process.send_signal(signal.SIGTERM)

    run(main)


def test_a_signal_that_the_child_handles_does_not_end_it(run):
    async def main():
        process = await asyncio.create_subprocess_shell(
            "trap 'echo caught' USR1; echo ready; read x; read y; exit 3", stdin=PIPE, stdout=PIPE
        )
        assert await process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGUSR1)
        process.stdin.write(b"x\n")
        assert await process.stdout.readline() == b"caught\n"
        process.stdin.close()
        assert await process.wait() == 3

    run(main)


def test_a_child_may_close_its_output_and_live_on(run, loop):
    async def main():
        transport, protocol = await loop.subprocess_shell(ChildRecorder, "exec >&- 2>&-; read x; exit 3")
        assert await protocol.pipe_lost[1] is None
        assert await protocol.pipe_lost[2] is None
        assert protocol.events[0] == "made"
        assert sorted(protocol.events[1:]) == [("lost", 1), ("lost", 2)]
        assert transport.get_returncode() is None
        transport.get_pipe_transport(0).close()
        assert await finished(protocol) == 3

    run(main)


def test_a_grandchild_may_hold_the_output_open(run, loop):
    async def main():
        transport, protocol = await loop.subprocess_shell(ChildRecorder, "sleep 100 & echo $!; exit 5")
        assert await protocol.exited == 5
        assert transport.get_returncode() == 5
        grandchild = int((await protocol.received(1, 2)).split()[0])
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert not protocol.pipe_lost[1].done()
        assert not protocol.pipe_lost[2].done()
        assert not protocol.lost.done()
        os.kill(grandchild, signal.SIGKILL)
        assert await finished(protocol) == 5
        assert protocol.pipe_lost[1].done()

    run(main)


def test_close_does_not_wait_for_a_grandchild(run, loop):
    async def main():
        transport, protocol = await loop.subprocess_shell(ChildRecorder, "sleep 100 & echo $!; exit 5")
        grandchild = int((await protocol.received(1, 2)).split()[0])
        assert await protocol.exited == 5
        transport.close()
        assert await protocol.lost is None
        os.kill(grandchild, signal.SIGKILL)

    run(main)


@pytest.mark.parametrize("debug", [False, True])
def test_close_kills_and_reaps_a_running_child(run, loop, caplog, debug):
    async def main():
        loop.set_debug(debug)
        transport, protocol = await loop.subprocess_exec(ChildRecorder, "sleep", "100")
        pid = transport.get_pid()
        transport.close()
        transport.close()
        assert transport.is_closing()
        assert protocol.events == ["made"]
        assert await protocol.exited == -signal.SIGKILL
        assert await protocol.lost is None
        assert sorted(map(str, protocol.events[1:-1])) == ["('lost', 0)", "('lost', 1)", "('lost', 2)", "exited"]
        assert transport.get_returncode() == -signal.SIGKILL
        assert pid not in children()
        loop.set_debug(False)
        assert any("Close running child process: kill" in message for message in caplog.messages) is debug

    run(main)


def test_children_that_exit_before_we_look_are_noticed(run):
    async def main():
        processes = [await asyncio.create_subprocess_exec("sh", "-c", f"exit {n}", stdout=PIPE) for n in range(5)]
        for process in processes:
            try:
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:
                pass  # a watcher with a thread has reaped it
        assert [await process.wait() for process in processes] == list(range(5))

    run(main)


def test_a_child_that_somebody_else_reaped_has_the_code_255(run, caplog):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps, see sigaction(2)
        try:
            process.stdin.close()
            assert await process.wait() == 255
        finally:
            signal.signal(signal.SIGCHLD, before)
        assert "will report returncode 255" in caplog.text

    run(main)


@pytest.mark.parametrize("kind", ["signal.signal", "add_signal_handler"])
def test_the_users_own_sigchld_handler_is_called_beside_ours(run, loop, kind):
    async def main():
        called = asyncio.Event()
        before = signal.getsignal(signal.SIGCHLD)
        if kind == "signal.signal":
            signal.signal(signal.SIGCHLD, lambda *_: loop.call_soon_threadsafe(called.set))
        else:
            loop.add_signal_handler(signal.SIGCHLD, called.set)
        try:
            for code in range(5):
                called.clear()
                process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {code}")
                assert await process.wait() == code
                await called.wait()
        finally:
            loop.remove_signal_handler(signal.SIGCHLD)
            signal.signal(signal.SIGCHLD, before)

    run(main)


def test_no_sigchld_handler_is_installed(run):
    async def main():
        before = signal.getsignal(signal.SIGCHLD)
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        assert signal.getsignal(signal.SIGCHLD) == before
        process.stdin.close()
        await process.wait()

    run(main)


def test_other_children_are_left_to_others(run):
    async def main():
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
            for _ in range(3):
                process = await asyncio.create_subprocess_exec("true")
                assert await process.wait() == 0
            assert other.poll() is None
            other.stdin.close()
            os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
            process = await asyncio.create_subprocess_exec("true")
            assert await process.wait() == 0
            assert other.wait() == 0

    run(main)


def test_an_exit_is_noticed_in_the_next_turns(run, loop_name):
    """No timer looks for it, however short its interval: once the child is a zombie, a few turns are enough."""
    if loop_name == "asyncio" and sys.version_info < (3, 12):
        pytest.skip("CPython's loop has a thread for each child before 3.12")

    async def main():
        for _ in range(15):
            process = await asyncio.create_subprocess_exec("sleep", "100")
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            waiting = asyncio.ensure_future(process.wait())
            for _ in range(10):
                await asyncio.sleep(0)
            assert waiting.done()
            assert await waiting == -signal.SIGKILL

    run(main)


def test_nobody_looks_from_time_to_time_whether_the_child_has_ended(loop):
    """Its end is an event: nothing is scheduled for later while the loop waits for it."""

    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        waiting = asyncio.create_task(process.wait())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not loop._scheduled
        process.stdin.close()
        assert await waiting == 0

    loop.run_until_complete(main())


def test_a_wait_that_is_cancelled_leaves_the_child_alone(run):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        for _ in range(3):
            task = asyncio.create_task(process.wait())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.stdout.read(), 0.01)
        assert process.returncode is None
        process.stdin.write(b"alive")
        process.stdin.close()
        assert await process.wait() == 0
        assert await process.stdout.read() == b"alive"

    run(main)


@pytest.mark.parametrize("pipe", [None, PIPE])
def test_a_start_that_is_cancelled_at_any_point_leaves_nothing(run, pipe):
    async def main():
        await (await asyncio.create_subprocess_exec("true")).wait()
        descriptors, before = len(open_descriptors()), children()
        for turns in range(12):
            task = asyncio.create_task(
                asyncio.create_subprocess_exec("sleep", "100", stdin=pipe, stdout=pipe, stderr=pipe)
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                process = await task
            except asyncio.CancelledError:
                pass
            else:  # it had started
                process.kill()
                await process.wait()
            await until(lambda: children() <= before and len(open_descriptors()) <= descriptors)

    run(main)


ENDS = {
    "run": "module.run(main())",
    "closed": "loop.run_until_complete(main()); loop.close()",
    "left open": "loop.run_until_complete(main())",
}


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="its transport kills it since then, whenever that is collected")
@pytest.mark.parametrize("name", ["asyncio", "ironloop"])
@pytest.mark.parametrize("end", ENDS)
def test_a_child_that_nobody_waits_for_lives_on(name, end):
    code = f"""
import asyncio, importlib
async def main():
    await asyncio.create_subprocess_exec("sh", "-c", "read word; echo $word")
module = importlib.import_module({name!r})
loop = module.new_event_loop()
asyncio.set_event_loop(loop)
{ENDS[end]}
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=PIPE, stdout=PIPE) as program:
        assert program.wait() == 0
        assert program.communicate(b"word\n")[0] == b"word\n"


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="its transport kills it since then, whenever that is collected")
def test_a_loop_is_closed_though_no_thread_can_wait_for_a_child():
    code = """
import asyncio, threading, ironloop
async def main():
    await asyncio.create_subprocess_exec("sh", "-c", "read word; echo $word")
loop = ironloop.new_event_loop()
loop.run_until_complete(main())
start = threading.Thread.start
def fail(thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start = fail
loop.close()
threading.Thread.start = start
assert loop.is_closed()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=PIPE, stdout=PIPE) as program:
        assert program.wait() == 0
        assert program.communicate(b"word\n")[0] == b"word\n"
