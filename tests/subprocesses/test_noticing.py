"""How ironloop learns of an exit: by a pidfd, or by a thread where there is none."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import ironloop
import pytest

from tests.support.children import until
from tests.support.leaks import open_descriptors


@pytest.fixture(params=["pidfd", "thread", "refused"])
def means(request, monkeypatch):
    """What the system has to offer: a pidfd, none by the user's wish, none because the kernel says no."""
    if request.param == "thread":
        monkeypatch.setenv("IRONLOOP_PIDFD", "0")
    elif request.param == "refused":

        def refuse(pid, flags=0):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "pidfd_open", refuse)
    return request.param


@pytest.fixture
def loop_factory():
    return ironloop.new_event_loop


def pidfds():
    return [fd for fd, target in open_descriptors().items() if "pidfd" in target]


def waiting_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ironloop-waitpid-")]


def test_the_exit_of_a_child_is_noticed(run, means):
    async def main():
        child = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
        assert bool(pidfds()) == (means == "pidfd")
        assert bool(waiting_threads()) == (means != "pidfd")
        child.stdin.close()
        assert await child.wait() == 0
        assert pidfds() == []

    run(main)
    for thread in waiting_threads():
        thread.join()


def test_no_signal_is_sent_to_a_child_that_was_reaped(run, means, monkeypatch):
    """Its number may be another's. The exit is known in the moment in which the child is reaped."""
    reaped, late = set(), []
    waitpid, kill = os.waitpid, os.kill

    def noted_waitpid(pid, options):
        result = waitpid(pid, options)
        reaped.add(result[0])
        return result

    def noted_kill(pid, signal):
        if pid in reaped:
            late.append(pid)
        else:
            kill(pid, signal)

    monkeypatch.setattr(os, "waitpid", noted_waitpid)
    monkeypatch.setattr(os, "kill", noted_kill)

    async def main():
        child = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
        while child.returncode is None:
            os.kill(child.pid, 9)
            await asyncio.sleep(0)
        assert await child.wait() == -9

    run(main)
    assert reaped
    assert late == []
    for thread in waiting_threads():
        thread.join()


def test_many_children_are_told_apart(run, means):
    async def status(number):
        child = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", f"raise SystemExit({number})")
        return await child.wait()

    async def main():
        assert await asyncio.gather(*[status(number) for number in range(20)]) == list(range(20))

    run(main)


def test_a_loop_in_another_thread_notices_too(means, loop_factory):
    codes = []

    async def main():
        child = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", "raise SystemExit(7)")
        codes.append(await child.wait())

    def work():
        loop = loop_factory()
        loop.run_until_complete(main())
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert codes == [7]


@pytest.mark.filterwarnings("ignore:.*:ResourceWarning")
def test_closing_the_loop_closes_the_pidfd_of_a_running_child(loop, caplog, means):
    async def main():
        return await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)

    child = loop.run_until_complete(main())
    process = child._transport.get_extra_info("subprocess")
    loop.close()
    assert pidfds() == []
    process.kill()
    for thread in waiting_threads():
        thread.join()
    if means == "pidfd":
        process.wait()
    else:
        assert f"handles pid {process.pid} is closed" in caplog.text
        process.returncode = -9
    process.stdin.close()
    child._transport._closed = True


def test_the_status_that_popen_took_is_reported(run, means):
    """A program that polls the Popen object itself takes the status away from us, and has it."""

    async def main():
        child = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
        process = child._transport.get_extra_info("subprocess")
        process.kill()
        if means == "pidfd":
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            assert process.poll() == -9
        await until(lambda: child.returncode is not None)
        assert await child.wait() == -9

    run(main)
