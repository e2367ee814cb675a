"""Whether loops in threads of their own share anything: the throughput of 1 to N of them, and the gain.

    python benches/threads/run.py [--threads 4] [--seconds 2] [--loops asyncio,uvloop,ironloop]

Each thread runs a loop: `echo` is a server and its client over a socket pair, messages of 1 KiB, one at a time;
`callbacks` is a callback that computes a little in Python and calls itself by `call_soon`. On a Python without the GIL
(3.13t and later) the sum grows with the threads, up to the number of cores; with the GIL it cannot. The last column is
what a second of CPU time gives, compared with one thread: it falls when threads wait for each other or share memory,
and does not mind other work on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable

MESSAGE = bytes(1024)


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]


class Client(Echo):
    """Sends what it gets back until the time is over, and counts."""

    rounds = 0

    def __init__(self, stop: threading.Event, done: asyncio.Future[None]) -> None:
        self.stop = stop
        self.done = done

    def data_received(self, data: bytes) -> None:
        self.rounds += 1
        if not self.stop.is_set():
            self.transport.write(data)  # type: ignore[attr-defined]
        elif not self.done.done():
            self.done.set_result(None)


async def echo(start: threading.Barrier, stop: threading.Event) -> int:
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    for sock in (left, right):
        sock.setblocking(False)
    done = loop.create_future()
    server, _ = await loop.create_connection(Echo, sock=left)
    transport, client = await loop.create_connection(lambda: Client(stop, done), sock=right)
    start.wait()
    transport.write(MESSAGE)
    await done
    transport.close()
    server.close()
    await asyncio.sleep(0)
    return client.rounds


async def callbacks(start: threading.Barrier, stop: threading.Event) -> int:
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def compute(rounds: int) -> None:
        value = rounds
        for step in range(50):
            value = (value * 31 + step) & 0xFFFF
        if stop.is_set():
            done.set_result(rounds)
        else:
            loop.call_soon(compute, rounds + 1)

    start.wait()
    compute(0)
    return await done


WORK = {"echo": echo, "callbacks": callbacks}


def throughput(
    factory: Callable[[], asyncio.AbstractEventLoop], work: str, threads: int, seconds: float
) -> tuple[float, float]:
    """Operations per second, and per second of CPU time, of all threads together."""
    start, stop = threading.Barrier(threads + 1), threading.Event()
    counts: list[int] = []

    def run() -> None:
        loop = factory()
        counts.append(loop.run_until_complete(WORK[work](start, stop)))
        loop.close()

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    begin, begin_cpu = time.perf_counter(), time.process_time()
    time.sleep(seconds)
    stop.set()
    elapsed = time.perf_counter() - begin
    for worker in workers:
        worker.join()
    return sum(counts) / elapsed, sum(counts) / (time.process_time() - begin_cpu)


def factories(names: str) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    found: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {}
    for name in names.split(","):
        if name == "asyncio":
            found[name] = asyncio.SelectorEventLoop
            continue
        try:
            found[name] = importlib.import_module(name).new_event_loop
        except ImportError as error:
            print(f"{name}: {error}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--loops", default="asyncio,uvloop,ironloop")
    options = parser.parse_args()
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"Python {platform.python_version()}, {'with' if gil else 'without'} the GIL, {os.cpu_count()} cores")
    for work in WORK:
        for name, factory in factories(options.loops).items():
            rates = [throughput(factory, work, count, options.seconds) for count in range(1, options.threads + 1)]
            (one, one_per_cpu), (_, last_per_cpu) = rates[0], rates[-1]
            columns = (f"{count}: {rate:>9,.0f}/s x{rate / one:.2f}" for count, (rate, _) in enumerate(rates, 1))
            print(f"{work:>10}{name:>10}  {'   '.join(columns)}   per CPU x{last_per_cpu / one_per_cpu:.2f}")


if __name__ == "__main__":
    main()
