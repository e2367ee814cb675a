"""What a server bears: thousands of clients that vanish at once, slow ones, silent ones, one that floods.

    python benches/load.py connections [--count 10000] [--seconds 10] [--loop asyncio]
    python benches/load.py slowloris   [--count 1000]
    python benches/load.py handshakes  [--count 1000]
    python benches/load.py flood       [--seconds 10]

The server is this process, the clients are another; each prints one line of JSON. Each process needs a descriptor a
connection: the soft limit is raised by itself, the hard one where that is allowed (CAP_SYS_RESOURCE); else it says what
`ulimit -Hn` has to be. Clients are spread over 127.0.0.1, 127.0.0.2 and so on: one address has ports for some 28,000.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pathlib
import resource
import signal
import socket
import sys
import threading
import time
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tests.support.certificate import server_context
from tests.support.leaks import open_descriptors, resident_bytes

MESSAGE = bytes(1024)
MB = 1 << 20
HANDSHAKE_TIMEOUT_SECONDS = 3.0
# Fewer than one address has by default: net.ipv4.ip_local_port_range, ip(7).
CLIENTS_PER_ADDRESS = 20_000


class Echo(asyncio.Protocol):
    """Of the server; all of them count together."""

    alive = made = lost = messages = bytes = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        Echo.alive += 1
        Echo.made += 1

    def data_received(self, data: bytes) -> None:
        Echo.messages += 1
        Echo.bytes += len(data)
        self.transport.write(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        Echo.alive -= 1
        Echo.lost += 1


class Client(asyncio.Protocol):
    """Sends a message again whenever it is back."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.missing = len(MESSAGE)

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if self.missing == 0:
            self.missing = len(MESSAGE)
            self.transport.write(MESSAGE)


def allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard == resource.RLIM_INFINITY else max(hard, count)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), wanted))
    except (ValueError, OSError):  # not allowed, or above /proc/sys/fs/nr_open
        sys.exit(f"needs {count} descriptors, and `ulimit -Hn` is {hard}")


async def clients(kind: str, port: int, count: int) -> None:
    """The other process: until it is killed."""
    allow_descriptors(count + 100)
    loop = asyncio.get_running_loop()
    if kind == "echo":
        made: list[Any] = []
        for start in range(0, count, 100):
            batch = range(start, min(start + 100, count))
            source = (f"127.0.0.{1 + start // CLIENTS_PER_ADDRESS}", 0)
            made += await asyncio.gather(
                *(loop.create_connection(Client, "127.0.0.1", port, local_addr=source) for _ in batch)
            )
        for transport, _ in made:
            transport.write(MESSAGE)
        await asyncio.sleep(3600)
    sockets = []
    for _ in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        sockets.append(sock)
    if kind == "flood":
        while True:
            await loop.sock_sendall(sockets[0], bytes(MB))
    while True:  # slow ones: a byte each second; silent ones have sent nothing
        for sock in sockets:
            if kind == "slow":
                await loop.sock_sendall(sock, b"x")
        await asyncio.sleep(1)


async def start_clients(options: argparse.Namespace, kind: str, server: Any, count: int) -> asyncio.subprocess.Process:
    port = str(server.sockets[0].getsockname()[1])
    command = [__file__, "clients", "--kind", kind, "--port", port, "--count", str(count), "--loop", options.loop]
    return await asyncio.create_subprocess_exec(sys.executable, *command)


async def end(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGKILL)
    await process.wait()


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def state() -> dict[str, float]:
    return {"MiB": round(resident_bytes() / MB, 1), "descriptors": len(open_descriptors()), "alive": Echo.alive}


async def connections(options: argparse.Namespace) -> dict[str, Any]:
    allow_descriptors(options.count + 100)
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=1000)
    said: dict[str, Any] = {"before": state()}
    for turn in ("first", "second"):
        process = await start_clients(options, "echo", server, options.count)
        await until(lambda: Echo.alive == options.count)
        said[f"{turn} connected"] = state()
        before, cpu, samples = Echo.messages, time.process_time(), []
        for _ in range(10):
            await asyncio.sleep(options.seconds / 10)
            samples.append(resident_bytes())
        used = time.process_time() - cpu
        said[f"{turn} echoing"] = {
            **state(),
            "grown MiB": round((max(samples) - samples[0]) / MB, 1),
            "messages": Echo.messages - before,
            "us of CPU per message": round(used / max(1, Echo.messages - before) * 1e6, 1),
        }
        begin = time.process_time()
        await end(process)
        await until(lambda: Echo.alive == 0)
        await asyncio.sleep(0.1)
        said[f"{turn} vanished"] = {**state(), "CPU s to release": round(time.process_time() - begin, 2)}
    said["made and lost"] = [Echo.made, Echo.lost]
    server.close()
    return said


async def slowloris(options: argparse.Namespace) -> dict[str, Any]:
    """CPU time per message of ten busy clients, alone and beside the slow ones, in turns."""
    allow_descriptors(options.count + 200)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1000)
    costs: dict[str, list[float]] = {"alone": [], "beside": []}

    async def measure(how: str) -> None:
        before, cpu = Echo.bytes, time.process_time()
        await asyncio.sleep(options.seconds / 10)
        # A slow client's byte is a turn's work, too, but not a message of the others.
        costs[how].append((time.process_time() - cpu) / ((Echo.bytes - before) / len(MESSAGE)) * 1e6)

    busy = await start_clients(options, "echo", server, 10)
    await until(lambda: Echo.alive == 10)
    for _ in range(5):
        await measure("alone")
        slow = await start_clients(options, "slow", server, options.count)
        await until(lambda: Echo.alive == 10 + options.count)
        await measure("beside")
        await end(slow)
        await until(lambda: Echo.alive == 10)
    await end(busy)
    await until(lambda: Echo.alive == 0)
    server.close()
    medians = {how: sorted(taken)[len(taken) // 2] for how, taken in costs.items()}
    ratio = medians["beside"] / medians["alone"]
    return {"us of CPU per message": {how: round(cost, 2) for how, cost in medians.items()}, "ratio": round(ratio, 3)}


async def handshakes(options: argparse.Namespace) -> dict[str, Any]:
    """So many clients that never say hello: each ends by the time-out, and says so."""
    allow_descriptors(options.count + 100)
    loop = asyncio.get_running_loop()
    errors: dict[str, int] = {}

    def count_error(_loop: object, context: dict[str, Any]) -> None:
        text = repr(context.get("exception"))
        errors[text] = errors.get(text, 0) + 1

    loop.set_exception_handler(count_error)
    loop.set_debug(True)  # failed handshakes are reported in debug mode only
    loop.slow_callback_duration = 60
    context = server_context()
    server = await loop.create_server(
        Echo, "127.0.0.1", 0, ssl=context, backlog=1000, ssl_handshake_timeout=HANDSHAKE_TIMEOUT_SECONDS
    )
    before, threads = state(), threading.active_count()
    process = await start_clients(options, "silent", server, options.count)
    most = len(open_descriptors())
    memory = resident_bytes()
    while sum(errors.values()) < options.count:
        await asyncio.sleep(0.05)
        most, memory = max(most, len(open_descriptors())), max(memory, resident_bytes())
    await end(process)
    await asyncio.sleep(0.1)
    server.close()
    return {
        "before": before,
        "most descriptors": most,
        "most MiB": round(memory / MB, 1),
        "after": state(),
        "threads more": threading.active_count() - threads,
        "errors": errors,
    }


async def flood(options: argparse.Namespace) -> dict[str, Any]:
    """How late a timer of 10 ms is while one peer sends as fast as it can."""

    class Sink(Echo):
        def data_received(self, data: bytes) -> None:
            Echo.bytes += len(data)

    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    process = await start_clients(options, "flood", server, 1)
    await until(lambda: Echo.bytes > MB)
    late, before, start = [], Echo.bytes, time.monotonic()
    while time.monotonic() - start < options.seconds:
        due = time.monotonic() + 0.01
        await asyncio.sleep(0.01)
        late.append(time.monotonic() - due)
    elapsed = time.monotonic() - start
    await end(process)
    await until(lambda: Echo.alive == 0)
    server.close()
    late.sort()
    return {
        "MiB/s": round((Echo.bytes - before) / MB / elapsed),
        "timers": len(late),
        "ms late": {
            name: round(late[min(len(late) - 1, int(share * len(late)))] * 1000, 2)
            for name, share in {"median": 0.5, "99 %": 0.99, "most": 1.0}.items()
        },
    }


WHAT = {"connections": connections, "slowloris": slowloris, "handshakes": handshakes, "flood": flood}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*WHAT, "clients"])
    parser.add_argument("--count", type=int)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--loop", choices=["asyncio", "ironloop"], default="ironloop")
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count is None:
        options.count = 10_000 if options.what == "connections" else 1000
    run: Any = asyncio.run
    if options.loop == "ironloop":
        import ironloop

        run = ironloop.run
    if options.what == "clients":
        run(clients(options.kind, options.port, options.count))
    else:
        print(json.dumps({"loop": options.loop, "pid": os.getpid(), **run(WHAT[options.what](options))}))


if __name__ == "__main__":
    main()
