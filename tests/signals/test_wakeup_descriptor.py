"""The descriptor that Python writes signals to (`signal.set_wakeup_fd`): whose it is, and when."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest


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
