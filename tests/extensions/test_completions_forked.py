"""Forks of a process whose loop other extensions post to: parent and child have a queue each.

Both begin with what had been posted before, as they do with callbacks that are ready. From then on nothing that one of
them posts, runs or closes reaches the other, whose loop would sleep on what it has, or wake up for nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

# The first test waits for cargo.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PRELUDE = """
import asyncio, os, sys
import ironloop, native_jobs

loop = ironloop.new_event_loop()
jobs = native_jobs.Jobs(loop, 0)
ran = []

def note(thread, number):
    ran.append(number)

async def until(count):
    while len(ran) < count:
        await asyncio.sleep(0.001)

def reap(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


@pytest.fixture
def run(native_jobs_path):
    """Runs a program to its end: what it prints."""

    def run(body):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(native_jobs_path), *sys.path])}
        # Since Python 3.12 it warns of forks beside threads; these forks are about that.
        command = [sys.executable, "-W", "ignore", "-c", PRELUDE + textwrap.dedent(body)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


def test_each_runs_what_had_been_posted_before(run):
    body = """
        assert jobs.flood(1, 10, note) == 10
        child = os.fork()
        if not child:
            loop.run_until_complete(until(10))
            loop.close()
            os._exit(7)
        assert reap(child) == 7
        loop.run_until_complete(until(10))
        print(ran == list(range(10)))
        loop.close()
    """
    assert run(body) == "True\n"


def test_what_the_child_posts_is_the_child_s(run):
    body = """
        parent_reads, child_writes = os.pipe()
        child_reads, parent_writes = os.pipe()
        child = os.fork()
        if not child:
            assert jobs.flood(1, 5, note) == 5
            os.write(child_writes, b"posted")
            assert os.read(child_reads, 10) == b"go on"
            loop.run_until_complete(until(5))
            # In the loop as well: it sleeps until something comes.
            loop.run_until_complete(loop.run_in_executor(None, jobs.flood, 1, 5, note))
            loop.run_until_complete(until(10))
            loop.close()
            os._exit(7)

        async def nothing_happens():
            events = loop.metrics().io_events
            for _ in range(10):
                await asyncio.sleep(0.001)
            return loop.metrics().io_events - events

        assert os.read(parent_reads, 10) == b"posted"
        print(loop.run_until_complete(nothing_happens()), ran)
        os.write(parent_writes, b"go on")
        assert reap(child) == 7
        assert jobs.flood(1, 5, note) == 5
        loop.run_until_complete(until(5))
        print(ran)
        loop.close()
    """
    assert run(body) == "0 []\n[0, 1, 2, 3, 4]\n"


def test_a_child_of_a_child_has_its_own(run):
    body = """
        for generation in range(3):
            assert jobs.flood(1, 3, note) == 3
            child = os.fork()
            if child:
                assert reap(child) == 7
            loop.run_until_complete(until(3 * generation + 3))
            if child:
                loop.close()
                break
        assert ran == [0, 1, 2] * (generation + 1)
        if generation or not child:
            os._exit(7)
        print("ended")
    """
    assert run(body) == "ended\n"


def test_forks_while_other_threads_post(run):
    """Some of those hold the queue's lock at the fork, and are not there to release it in the child."""
    body = """
        import threading

        async def begin():
            while not begun:
                await asyncio.sleep(0)

        loop.close()
        for _ in range(20):
            loop = ironloop.new_event_loop()
            jobs = native_jobs.Jobs(loop, 0)
            begun = []
            posting = threading.Thread(target=jobs.flood, args=(3, 30_000, lambda *_: begun.append(True)))
            posting.start()
            loop.run_until_complete(begin())
            child = os.fork()
            if not child:
                assert jobs.flood(1, 3, note) == 3
                loop.run_until_complete(until(3))
                loop.close()
                os._exit(7)
            assert reap(child) == 7
            posting.join()
            loop.close()
        print("ended")
    """
    assert run(body) == "ended\n"


def test_what_a_child_has_under_the_number_of_the_queue_stays(run):
    """A child that closes what it inherited, as daemons do, and opens files of its own."""
    body = """
        import socket

        def number_of_the_queue():
            eventfds = set()
            for fd in map(int, os.listdir("/proc/self/fd")):
                try:
                    eventfds |= {fd} if os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[eventfd]" else set()
                except FileNotFoundError:
                    pass
            # The loop's waker is another, made before.
            return max(eventfds)

        number = number_of_the_queue()
        assert jobs.flood(1, 2, note) == 2

        async def main(theirs, other):
            await until(4)
            heard = loop.create_future()
            loop.add_reader(theirs, lambda: heard.set_result(theirs.recv(10)))
            other.send(b"theirs")
            print(await heard)
            loop.remove_reader(theirs)
            # Sleeps until something comes, by the child's own descriptor.
            await loop.run_in_executor(None, jobs.flood, 1, 3, note)
            await until(7)

        for kind in ("closed", "file", "socket"):
            child = os.fork()
            if not child:
                theirs, other = socket.socketpair()
                os.close(number)
                if kind == "file":
                    os.dup2(os.open(sys.executable, os.O_RDONLY), number)
                elif kind == "socket":
                    theirs = socket.socket(fileno=os.dup2(theirs.fileno(), number))
                before = os.fstat(number) if kind != "closed" else None
                assert jobs.flood(1, 2, note) == 2
                loop.run_until_complete(main(theirs, other))
                if before:
                    after = os.fstat(number)
                    assert (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino)
                loop.close()
                if before:
                    os.fstat(number)
                print(ran, flush=True)
                os._exit(7)
            assert reap(child) == 7
        loop.run_until_complete(until(2))
        print(ran)
        loop.close()
    """
    each = "b'theirs'\n[0, 1, 0, 1, 0, 1, 2]\n"
    assert run(body) == each * 3 + "[0, 1]\n"
