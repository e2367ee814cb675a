"""A server and its clients for as long as one likes, at a low rate: does anything grow, stop, or come late?

    python benches/soak.py --minutes 60 [--rate 500] [--loop asyncio] [--json soak.json] [--svg soak.svg]

Two processes, both on the loop under test. The server echoes over TCP, TLS and a Unix socket; the clients keep
connections that talk now and then, and others that come, say something and leave: in order, half-closed, aborted,
cancelled in the middle. Between them: children that are talked to, names, jobs in threads, timers. What comes back is
compared with what was sent. Each process notes its memory, descriptors, rate and how late a timer of 10 ms is at worst.

Exit status 1: something came back wrong, or descriptors or memory are not where they were after the first third.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pathlib
import random
import statistics
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from suite.chart import line, svg, text  # noqa: E402

from tests.support.certificate import client_context, server_context  # noqa: E402
from tests.support.leaks import open_descriptors, resident_bytes  # noqa: E402

#: Any piece of it is unlike its neighbours: no power of two, no short period.
PATTERN = bytes(bytearray(range(251)) * 200)
LARGEST = 20_000
KEPT = 30  # connections that stay
TICK = 0.01
#: What malloc may add in two thirds of a run and keep; a leak of 30 bytes per message is more within half an hour.
GROWTH_BYTES = 4 << 20

Sample = dict[str, float]


class Observer:
    """Takes a sample of this process every so often; whoever has done something adds to `done`."""

    def __init__(self, every: float) -> None:
        self.every = every
        self.start = time.monotonic()
        self.done = 0
        self.late = 0.0

    async def ticks(self) -> None:
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            self.late = max(self.late, time.monotonic() - due)

    async def samples(self, take: Callable[[Sample], object]) -> None:
        ticks = asyncio.create_task(self.ticks())
        try:
            while True:
                before, begin = self.done, time.monotonic()
                self.late = 0.0
                await asyncio.sleep(self.every)
                now = time.monotonic()
                take(
                    {
                        "minutes": (now - self.start) / 60,
                        "rss": resident_bytes() / (1 << 20),
                        "descriptors": len(open_descriptors()),
                        "rate": (self.done - before) / (now - begin),
                        "late": self.late * 1000,
                    }
                )
        finally:
            ticks.cancel()


# The server's process


class Echo(asyncio.Protocol):
    def __init__(self, observer: Observer) -> None:
        self.observer = observer

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.observer.done += 1
        self.transport.write(data)


async def serve(every: float, path: str) -> None:
    """Say where, as JSON; then a sample per line; until the input ends."""
    loop = asyncio.get_running_loop()
    observer = Observer(every)
    servers = [
        await loop.create_server(lambda: Echo(observer), "127.0.0.1", 0),
        await loop.create_server(lambda: Echo(observer), "127.0.0.1", 0, ssl=server_context()),
        await loop.create_unix_server(lambda: Echo(observer), path),
    ]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers[:2]]), flush=True)
    sampling = asyncio.create_task(observer.samples(lambda sample: print(json.dumps(sample), flush=True)))
    await asyncio.to_thread(sys.stdin.read)
    sampling.cancel()
    for server in servers:
        server.close()


# The clients' process

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Clients:
    def __init__(self, observer: Observer, ports: list[int], path: str, seed: int) -> None:
        self.observer = observer
        self.random = random.Random(seed)
        self.ends: dict[str, int] = {}
        tls = client_context()
        self.ways: list[Callable[[], Awaitable[Streams]]] = [
            lambda: asyncio.open_connection("127.0.0.1", ports[0]),
            lambda: asyncio.open_connection("localhost", ports[0]),
            lambda: asyncio.open_connection("localhost", ports[1], ssl=tls),
            lambda: asyncio.open_unix_connection(path),
        ]

    def count(self, what: str) -> None:
        self.observer.done += 1
        self.ends[what] = self.ends.get(what, 0) + 1

    async def say(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = self.random.randrange(251)
        message = PATTERN[start : start + self.random.randrange(1, LARGEST)]
        writer.write(message)
        await writer.drain()
        if await reader.readexactly(len(message)) != message:
            raise SystemExit("what came back is not what was sent")
        self.count("messages")

    async def stay(self, pause: float, number: int) -> None:
        reader, writer = await self.ways[number % len(self.ways)]()
        try:
            while True:
                await self.say(reader, writer)
                await asyncio.sleep(self.random.expovariate(1 / pause))
        finally:
            writer.close()

    async def visit(self) -> None:
        reader, writer = await self.random.choice(self.ways)()
        try:
            await self.say(reader, writer)
            how = self.random.choice(["closed", "aborted", "half-closed"])
            if how == "aborted":
                writer.transport.abort()
            elif how == "half-closed" and writer.can_write_eof():
                writer.write_eof()
                while await reader.read(1000):
                    pass
            self.count(how)
        finally:
            writer.close()

    async def visits(self, pause: float) -> None:
        while True:
            visit = asyncio.create_task(self.visit())
            if self.random.random() < 0.2:
                await asyncio.sleep(self.random.expovariate(1000))
                visit.cancel()
            try:
                await asyncio.wait([visit])
            finally:
                visit.cancel()
            if not visit.cancelled():
                visit.result()
            self.count("visits")
            await asyncio.sleep(self.random.expovariate(1 / pause))

    async def chores(self) -> None:
        """What programs do beside talking."""
        loop = asyncio.get_running_loop()
        while True:
            child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
            output, _ = await child.communicate(PATTERN)
            if output != PATTERN or child.returncode != 0:
                raise SystemExit("a child's output is not its input")
            await loop.getaddrinfo("localhost", 80)
            await asyncio.to_thread(sum, range(1000))
            timers = [loop.call_later(100, print) for _ in range(1000)]
            for timer in timers:
                timer.cancel()
            self.count("children")
            await asyncio.sleep(2)


async def watch(options: argparse.Namespace) -> dict[str, list[Sample]]:
    """Run both processes for the time that was asked for; their samples."""
    observer = Observer(options.sample)
    samples: dict[str, list[Sample]] = {"server": [], "clients": []}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "soak")
        command = [__file__, "--loop", options.loop, "--sample", str(options.sample), "--serve", path]
        server = await asyncio.create_subprocess_exec(sys.executable, *command, stdin=-1, stdout=-1)
        assert server.stdout
        assert server.stdin
        ports = json.loads(await server.stdout.readline())
        clients = Clients(observer, ports, path, options.seed)

        async def listen() -> None:
            async for said in server.stdout:
                samples["server"].append(json.loads(said))

        work: list[Coroutine[Any, Any, None]] = [
            *(clients.stay(KEPT / (0.8 * options.rate), number) for number in range(KEPT)),
            *(clients.visits(4 / (0.2 * options.rate)) for _ in range(4)),
            clients.chores(),
            observer.samples(samples["clients"].append),
            listen(),
        ]
        tasks = [asyncio.create_task(one) for one in work]
        done, _ = await asyncio.wait(tasks, timeout=60 * options.minutes, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in done:
            task.result()
            raise SystemExit("the server ended before its time")
        server.stdin.close()
        if await server.wait():
            raise SystemExit("the server failed")
    print(json.dumps(clients.ends))
    return samples


# What it says

PANELS = {
    "rss": "resident memory, MiB",
    "descriptors": "descriptors",
    "rate": "operations a second",
    "late": "worst lateness of a 10 ms timer, ms",
}
CURVES = {"server": "#e4572e", "clients": "#3b82c4"}
WIDTH, LEFT, HEIGHT = 900, 70, 150


def panel(samples: dict[str, list[Sample]], key: str, top: int) -> list[str]:
    minutes = max(sample["minutes"] for taken in samples.values() for sample in taken)
    most = max(sample[key] for taken in samples.values() for sample in taken) * 1.1 or 1
    bottom, room = top + HEIGHT - 30, HEIGHT - 55
    parts = [text(LEFT, top + 12, PANELS[key])]
    for share in (0, 0.5, 1):
        y = bottom - share * room
        parts += [line(LEFT, y, WIDTH - 10, y, "grid"), text(LEFT - 8, y + 4, f"{share * most:.4g}", "end", "small")]
    for name, taken in samples.items():
        at = (
            f"{LEFT + sample['minutes'] / minutes * (WIDTH - LEFT - 10):.1f},{bottom - sample[key] / most * room:.1f}"
            for sample in taken
        )
        parts.append(f'<polyline class="curve" stroke="{CURVES[name]}" points="{" ".join(at)}"/>')
    return parts


def picture(samples: dict[str, list[Sample]]) -> str:
    minutes = samples["server"][-1]["minutes"]
    parts = [text(LEFT, 20, f"{minutes:.0f} minutes: ")]
    for number, (name, colour) in enumerate(CURVES.items()):
        x = LEFT + 110 + 100 * number
        parts += [f'<rect x="{x}" y="10" width="12" height="12" fill="{colour}"/>', text(x + 18, 20, name)]
    for number, key in enumerate(PANELS):
        parts += panel(samples, key, 40 + number * HEIGHT)
    return svg(WIDTH, 40 + len(PANELS) * HEIGHT, parts)


def judge(samples: dict[str, list[Sample]]) -> bool:
    """Print the medians of the second and the last third; whether nothing has grown in between."""
    good = True
    for name, taken in samples.items():
        third = len(taken) // 3
        for key, words in PANELS.items():
            before, after = (
                statistics.median(sample[key] for sample in part) for part in (taken[third:-third], taken[-third:])
            )
            print(f"{name:>8}: {words}: {before:.1f}, then {after:.1f}; {max(s[key] for s in taken):.1f} at most")
            if key == "rss":
                good &= after - before < GROWTH_BYTES / (1 << 20)
            elif key == "descriptors":
                good &= after - before < KEPT / 4
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--rate", type=float, default=500, help="messages a second, about")
    parser.add_argument("--sample", type=float, default=5, help="seconds between samples")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loop", choices=["asyncio", "ironloop"], default="ironloop")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--svg", type=pathlib.Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop == "ironloop":
        import ironloop

        run: Callable[..., Any] = ironloop.run
    else:
        run = asyncio.run
    if options.serve:
        run(serve(options.sample, options.serve))
        return
    samples = run(watch(options))
    if options.json:
        options.json.write_text(json.dumps(samples))
    if options.svg:
        options.svg.write_text(picture(samples))
    sys.exit(not judge(samples))


if __name__ == "__main__":
    main()
