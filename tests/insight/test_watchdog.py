"""The watchdog: what blocks a loop is named while it does.

A callback that "blocks" waits here until the reports that the test wants have come, so nothing depends on how fast the
machine is.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import re
import subprocess
import sys
import sysconfig
import threading
import warnings

import ironloop
import pytest

THRESHOLD = 0.05


class Reports(logging.Handler):
    """The texts of the watchdog's reports, and a way to wait for them."""

    def __init__(self):
        super().__init__()
        self.texts = []
        self._came = threading.Condition()

    def emit(self, record):
        with self._came:
            self.texts.append(record.getMessage())
            self._came.notify_all()

    def wait_for(self, count):
        with self._came:
            assert self._came.wait_for(lambda: len(self.texts) >= count, 40)


@pytest.fixture
def reports():
    logger = logging.getLogger("ironloop.watchdog")
    handler = Reports()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def loop():
    loop = ironloop.new_event_loop()
    yield loop
    loop.close()


def run_blocked(loop, reports, count):
    """Blocks the loop in a callback until `count` reports have come."""

    def the_culprit():
        reports.wait_for(count)

    loop.call_soon(the_culprit)
    loop.call_later(0, loop.stop)
    loop.run_forever()


def test_a_callback_is_named_with_its_stack_while_it_blocks(loop, reports):
    loop.watch(THRESHOLD)
    run_blocked(loop, reports, 1)
    text = reports.texts[0]
    assert "callback the_culprit (" in text
    assert "reports.wait_for(count)" in text
    assert "run_forever" not in text


def test_a_task_is_named_by_its_name_and_coroutine(loop, reports):
    async def the_coroutine():
        reports.wait_for(1)

    loop.watch(THRESHOLD)
    task = loop.create_task(the_coroutine(), name="the task")
    loop.run_until_complete(task)
    assert "task 'the task' (" in reports.texts[0]
    assert "the_coroutine)" in reports.texts[0]


def test_reports_come_at_doubling_intervals(loop, reports):
    loop.watch(THRESHOLD)
    run_blocked(loop, reports, 3)
    seconds = [float(re.search(r"running for ([\d.]+) s", text)[1]) for text in reports.texts[:3]]
    assert seconds[0] >= THRESHOLD - 0.005  # two digits are printed
    assert seconds[1] >= 2 * THRESHOLD - 0.005
    assert seconds[2] >= 4 * THRESHOLD - 0.005


def test_the_end_of_a_blockage_is_reported_with_its_total(loop, reports):
    async def main():
        reports.wait_for(1)
        while len(reports.texts) < 2:
            await asyncio.sleep(0.01)

    loop.watch(THRESHOLD)
    loop.run_until_complete(main())
    assert re.match(r"no longer blocked: task 'Task-\d+' \(.*main\) took [\d.]+ s$", reports.texts[1])


def test_a_loop_that_waits_is_not_blocked(reports):
    class Watched(ironloop.Loop):
        looks = 0

        def _progress(self):
            self.looks += 1
            if self.looks == 8:
                self.call_soon_threadsafe(self.stop)
            return super()._progress()

    loop = Watched()
    loop.watch(0.5)
    loop.run_forever()
    loop.close()
    assert reports.texts == []


def hold_the_interpreter():
    # usleep(3) as a function that keeps the GIL, as a C extension does that forgets to let go of it.
    ctypes.PyDLL(None).usleep(300_000)


@pytest.fixture
def holding(loop, reports):
    """The first report of code that has held the interpreter; `run` is called with the loop and reports."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("there is nothing to hold")

    def run(culprit):
        async def main():
            # The watchdog has looked at least once.
            await asyncio.sleep(2 * THRESHOLD)
            culprit()
            while not reports.texts:
                await asyncio.sleep(0.01)

        loop.watch(THRESHOLD)
        loop.run_until_complete(main())
        return reports.texts[0]

    return run


def test_code_that_holds_the_interpreter_is_reported_when_it_lets_go(holding):
    text = holding(hold_the_interpreter)
    assert re.search(r"is blocked: task 'Task-\d+' \(.*main\) has been running for (0\.[2-9]|[1-9])", text), text
    assert "nobody else could run Python code: it is, or was, in C code that does not let go of the interpreter" in text
    assert "in hold_the_interpreter" in text


def test_a_callback_that_is_c_code_and_holds_the_interpreter_is_reported(holding, loop):
    text = holding(lambda: loop.call_soon(ctypes.PyDLL(None).usleep, 300_000))
    # It may be over already, and be known by its name, when the watchdog gets the interpreter.
    assert re.search(r"is blocked: (a callback without Python code|callback .*usleep.*) has been running for ", text)
    assert "in C code that does not let go of the interpreter" in text
    assert "_report.py" not in text


def test_stop_ends_the_watch(loop):
    watchdog = loop.watch(THRESHOLD)
    assert watchdog._thread.is_alive()
    watchdog.stop()
    watchdog.stop()
    assert not watchdog._thread.is_alive()


def test_a_watchdog_is_a_context_manager(loop):
    with loop.watch(THRESHOLD) as watchdog:
        assert watchdog.threshold == THRESHOLD
    assert not watchdog._thread.is_alive()


def test_a_second_watch_replaces_the_first(loop):
    first = loop.watch(THRESHOLD)
    second = loop.watch(2 * THRESHOLD)
    assert not first._thread.is_alive()
    assert second._thread.is_alive()


def test_the_watch_ends_with_the_loop():
    loop = ironloop.new_event_loop()
    thread = loop.watch(THRESHOLD)._thread
    loop.close()
    assert not thread.is_alive()


def test_a_watchdog_does_not_keep_its_loop():
    loop = ironloop.new_event_loop()
    thread = loop.watch(0.01)._thread
    del loop
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed event loop", ResourceWarning)
        for _ in range(100):
            gc.collect()
            thread.join(0.1)
            if not thread.is_alive():
                break
    assert not thread.is_alive()


@pytest.mark.parametrize("threshold", [0, -1, float("nan")])
def test_a_threshold_is_positive(loop, threshold):
    with pytest.raises(ValueError, match="threshold must be positive"):
        loop.watch(threshold)


def test_a_closed_loop_cannot_be_watched(loop):
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.watch()


def test_the_environment_asks_for_a_watch():
    program = (
        "import ironloop, logging, threading\n"
        "done = threading.Event()\n"
        "class Handler(logging.Handler):\n"
        "    def emit(self, record):\n"
        "        print(record.getMessage().splitlines()[0], flush=True)\n"
        "        done.set()\n"
        "logging.getLogger('ironloop.watchdog').addHandler(Handler())\n"
        "async def main():\n"
        "    assert done.wait(40)\n"
        "ironloop.run(main())\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "IRONLOOP_WATCHDOG": "0.05"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "is blocked: task 'Task-1' (main) has been running for" in output
