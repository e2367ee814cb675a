"""`python -m asyncio ps` and `pstree` (new in Python 3.14) look into a process that runs on the loop under test."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.programs import NEW_LOOP

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="new in Python 3.14")

PROGRAM = """
import asyncio, sys

async def leaf():
    await asyncio.get_running_loop().create_future()

async def middle():
    async with asyncio.TaskGroup() as group:
        group.create_task(leaf(), name="the first leaf")
        group.create_task(leaf(), name="the second leaf")

async def main():
    task = asyncio.create_task(middle(), name="in the middle")
    await asyncio.sleep(0.01)
    print("waiting", flush=True)
    await task

loop = {new_loop}
task = loop.create_task(main(), name="at the root")
try:
    loop.run_until_complete(task)
finally:
    task.cancel()
"""


@pytest.fixture
def process(loop_name):
    """A process with four tasks that wait for each other."""
    code = PROGRAM.format(new_loop=NEW_LOOP[loop_name])
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "waiting\n"
            yield process
        finally:
            process.kill()


def looked_at(process, command):
    done = subprocess.run(
        [sys.executable, "-m", "asyncio", command, str(process.pid)], capture_output=True, text=True, timeout=50
    )
    if done.returncode and "ermission" in done.stdout + done.stderr:
        pytest.skip("not allowed to look into another process")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_ps_lists_the_tasks_and_who_waits_for_them(process):
    lines = [line for line in looked_at(process, "ps").splitlines() if line.startswith(str(process.pid))]
    rows = {re.split(r"\s{2,}", line)[2]: line for line in lines}
    waiters = {
        "at the root": "",
        "in the middle": "at the root",
        "the first leaf": "in the middle",
        "the second leaf": "in the middle",
    }
    assert rows.keys() == waiters.keys()
    assert all(waiter in rows[name] for name, waiter in waiters.items())
    assert process.poll() is None


def test_pstree_draws_the_tasks_as_a_tree(process):
    text = looked_at(process, "pstree")
    places = [text.index(f"(T) {name}") for name in ("at the root", "in the middle", "the first leaf")]
    assert places == sorted(places)
    assert "(T) the second leaf" in text
    for coroutine in ("main", "middle", "leaf"):
        assert coroutine in text
    assert process.poll() is None
