"""Whether loops in threads of their own share anything: the throughput of 1 to N of them, and the gain.

    python benches/threads/run.py [--threads 4] [--seconds 2] [--loops asyncio,uvloop,ironloop]

Each thread runs a loop with an echo server and its client over a socket pair, messages of 1 KiB, one at a time, and
callbacks in between. On a Python without the GIL (3.13t and later) the sum grows with the threads, up to the number of
cores; with the GIL it cannot.
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


async def work(start: threading.Barrier, stop: threading.Event) -> int:
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


def throughput(factory: Callable[[], asyncio.AbstractEventLoop], threads: int, seconds: float) -> float:
    """Round trips per second of all threads together."""
    start, stop = threading.Barrier(threads + 1), threading.Event()
    counts: list[int] = []

    def run() -> None:
        loop = factory()
        counts.append(loop.run_until_complete(work(start, stop)))
        loop.close()

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    begin = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    elapsed = time.perf_counter() - begin
    for worker in workers:
        worker.join()
    return sum(counts) / elapsed


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
    for name, factory in factories(options.loops).items():
        rates = [throughput(factory, count, options.seconds) for count in range(1, options.threads + 1)]
        columns = (f"{n}: {rate:>9,.0f}/s x{rate / rates[0]:.2f}" for n, rate in enumerate(rates, 1))
        print(f"{name:>10}  {'   '.join(columns)}")


if __name__ == "__main__":
    main()
