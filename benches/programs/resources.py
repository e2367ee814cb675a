"""Figures: start-up, memory, CPU use at rest, and how soon a busy loop sees what has come."""

from __future__ import annotations

import asyncio
import gc
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time

TASKS, TIMERS = 200_000, 200_000
OTHER_CORE = 1
HERE = pathlib.Path(__file__).resolve().parent.parent

# Not measured: the start of the interpreter, and the modules of this suite.
START = """
import sys, time
import suite
start = time.perf_counter()
import asyncio
from suite.loops import new_loop
loop = new_loop(sys.argv[1])
loop.run_until_complete(asyncio.sleep(0))
loop.close()
print(time.perf_counter() - start)
"""

# Writes the time into a socket, `rate` times a second.
TICKER = """
import os, sys, time
fd, period = int(sys.argv[1]), 1 / float(sys.argv[2])
try:
    while True:
        os.write(fd, time.perf_counter_ns().to_bytes(8, "little"))
        time.sleep(period)
except OSError:
    pass
"""


def resident_bytes() -> int:
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def cpu_seconds() -> float:
    """Of all threads of this process."""
    return time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)


def start_up(seconds: float, name: str) -> dict[str, float]:
    """Milliseconds to import asyncio and the loop's package, to make a loop, to run one task and to close."""
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < end:
        done = subprocess.run([sys.executable, "-c", START, name], cwd=HERE, check=True, stdout=subprocess.PIPE)
        taken.append(float(done.stdout) * 1e3)
    return {"ms": statistics.median(taken)}


async def memory_of_tasks(seconds: float) -> dict[str, float]:
    """Of a task that waits for a future of its own."""
    loop = asyncio.get_running_loop()

    async def wait(future: asyncio.Future[None]) -> None:
        await future

    async def make(count: int) -> int:
        before = resident_bytes()
        futures = [loop.create_future() for _ in range(count)]
        tasks = [asyncio.create_task(wait(future)) for future in futures]
        # Until the loop has nothing to do.
        await asyncio.sleep(0.5)
        grown = resident_bytes() - before
        for future in futures:
            future.set_result(None)
        await asyncio.wait(tasks)
        return grown

    await make(100)
    gc.collect()
    return {"bytes": await make(TASKS) / TASKS}


async def memory_of_timers(seconds: float) -> dict[str, float]:
    """Of a call_later with a callback and no arguments, its handle kept."""
    loop = asyncio.get_running_loop()

    def nothing() -> None:
        pass

    def make(count: int) -> int:
        before = resident_bytes()
        handles = [loop.call_later(1000 + index, nothing) for index in range(count)]
        grown = resident_bytes() - before
        for handle in handles:
            handle.cancel()
        return grown

    make(100)
    await asyncio.sleep(0)
    gc.collect()
    return {"bytes": make(TIMERS) / TIMERS}


async def idle(seconds: float) -> dict[str, float]:
    """Per cent of a core, with one timer and one socket that nothing comes from."""
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    loop.add_reader(left.fileno(), print)
    await asyncio.sleep(0.05)
    start, cpu = time.perf_counter(), cpu_seconds()
    await asyncio.sleep(max(seconds, 0.5))
    percent = (cpu_seconds() - cpu) / (time.perf_counter() - start) * 100
    loop.remove_reader(left.fileno())
    left.close()
    right.close()
    return {"percent": percent}


class Ticked:
    """A socket that another process writes the time into; `delays` has how much later this loop saw it, in seconds."""

    def __init__(self, rate: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.sock, far = socket.socketpair()
        self.sock.setblocking(False)
        self.delays: list[float] = []
        command = ["taskset", "-c", str(OTHER_CORE), sys.executable, "-c", TICKER, str(far.fileno()), str(rate)]
        self.process = subprocess.Popen(command, pass_fds=[far.fileno()])
        far.close()
        self.loop.add_reader(self.sock.fileno(), self.read)

    def read(self) -> None:
        stamp = self.sock.recv(8)
        self.delays.append((time.perf_counter_ns() - int.from_bytes(stamp, "little")) / 1e9)

    async def begin(self) -> None:
        while not self.delays:
            await asyncio.sleep(0.01)
        self.delays.clear()

    def close(self) -> None:
        self.loop.remove_reader(self.sock.fileno())
        self.sock.close()
        self.process.kill()
        self.process.wait()


async def hundred_events(seconds: float) -> dict[str, float]:
    """Per cent of a core with 100 events a second from another process."""
    ticked = Ticked(100)
    await ticked.begin()
    start, cpu = time.perf_counter(), cpu_seconds()
    await asyncio.sleep(max(seconds, 0.5))
    percent = (cpu_seconds() - cpu) / (time.perf_counter() - start) * 100
    ticked.close()
    return {"percent": percent}


async def seen_while_busy(seconds: float) -> dict[str, float]:
    """From a write in another process to the callback, in a loop whose queue is never empty."""
    ticked = Ticked(2000)
    await ticked.begin()
    busy = True

    def again() -> None:
        if busy:
            ticked.loop.call_soon(again)

    again()
    await asyncio.sleep(max(seconds, 0.2))
    busy = False
    delays = sorted(ticked.delays)
    ticked.close()
    return {"p50_us": statistics.median(delays) * 1e6, "p99_us": delays[int(len(delays) * 0.99)] * 1e6}
