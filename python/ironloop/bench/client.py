"""The load on a server: some connections, a message on each, and the next when all have come back.

In Python, with blocking sockets. It costs more than a fast server does and limits how many requests there are, so
what says something about the server is the CPU time that the requests took it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time

from .rows import CONNECTIONS, SIZE

TIMEOUT = 10.0
WARM_UP = 50


def load(port: int, pid: int, seconds: float) -> dict[str, float]:
    """Requests per second, and per second of the CPU time of the server, the process `pid`.

    OSError if the server is gone, RuntimeError if it sends something else back.
    """
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(_connect(port)) for _ in range(CONNECTIONS)]
        for _ in range(WARM_UP):
            message = os.urandom(SIZE)
            if any(answer != message for answer in _exchange(connections, message)):
                raise RuntimeError("the server sent back something else")
        start, cpu, rounds = time.perf_counter(), _cpu_seconds(pid), 0
        while (elapsed := time.perf_counter() - start) < seconds:
            _exchange(connections, message)
            rounds += 1
        used = _cpu_seconds(pid) - cpu
    requests = rounds * CONNECTIONS
    return {"rate": requests / elapsed, "rate_of_cpu": requests / used}


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _exchange(connections: list[socket.socket], message: bytes) -> list[bytes]:
    for connection in connections:
        connection.sendall(message)
    return [_receive(connection) for connection in connections]


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(SIZE)
    while 0 < len(data) < SIZE:
        more = connection.recv(SIZE - len(data))
        if not more:
            break
        data += more
    if len(data) < SIZE:
        raise ConnectionError("the server has closed a connection")
    return data


def _cpu_seconds(pid: int) -> float:
    """Of all threads of a process, by the clock that clock_getcpuclockid(3) finds."""
    # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of Linux' include/linux/posix-timers_types.h
    return time.clock_gettime((~pid << 3) | 2)
