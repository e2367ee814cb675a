"""Loops in several threads at once: nothing is lost, nothing is called twice, nothing hangs or crashes.

With a GIL these tests find what a switch of threads at an awkward moment does; on free-threaded builds the threads
really run at the same time. The collector runs in a thread of its own all the while.
"""

from __future__ import annotations

import contextlib
import gc
import threading

import pytest

from tests.support.threads import LOOPS, LoopThread, Team


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


@pytest.fixture
def loops(loop_factory):
    """`LOOPS` loops that run, each in a thread of its own."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(LoopThread(loop_factory)) for _ in range(LOOPS)]
