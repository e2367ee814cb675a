"""Ctrl-C: a run is left at once, and the loop is usable afterwards.

The signal goes to the main thread. With `os.kill` the kernel gives it to another one while the main thread is
stopped, and CPython's loop, which has no wakeup descriptor without a handler of its own, sleeps on.
"""

from __future__ import annotations

import signal
import sys

import pytest

from tests.support.builds import FREE_THREADED
from tests.support.programs import run_with_loop


@pytest.mark.parametrize("busy", [False, True])
def test_ctrl_c_interrupts_a_run_at_once_and_a_second_run_works(loop_name, busy):
    if loop_name == "asyncio" and busy and FREE_THREADED:
        pytest.skip("CPython's loop loses the callback that it has taken from its queue and not called yet")
    done = run_with_loop(
        loop_name,
        """
        def spin():
            if sys.argv[1] == "True":
                loop.call_soon(spin)
        async def second():
            await asyncio.sleep(0.001)
            return "second run"
        loop.call_soon(spin)
        try:
            # Nothing else would end the run.
            main = threading.main_thread().ident
            threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT)).start()
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        print(loop.run_until_complete(second()))
        loop.close()
        """,
        str(busy),
    )
    assert done.stdout.splitlines() == ["interrupted", "second run"], done.stderr


def test_ctrl_c_leaves_run_until_complete_and_its_task_goes_on(loop_name):
    done = run_with_loop(
        loop_name,
        """
        async def main():
            threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
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
    done = run_with_loop(
        loop_name,
        """
        loop.close()
        async def main():
            threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
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
