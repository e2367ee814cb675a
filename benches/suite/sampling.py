"""One sample: a fresh process on one core, what it talks to on another, and what came of it.

A sample is a dict of numbers by the keys of rows.Figure, or has an "error". Servers' samples have `client_cpu` and
`server_cpu` besides, as shares of a core.
"""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from suite import tools
from suite.child import CORE
from suite.loops import REFERENCE
from suite.rows import MMAP, Row, row_of

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT_CORE = 1
PATIENCE = 30.0  # seconds without a sign of life until a sample has failed
MIB_PER_GIB = 1024
GIB = 1 << 30
# Loops that allocate 256 KiB per receive have glibc map and unmap them each time, below this threshold.
MMAP_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20)}

Sample = dict[str, Any]


class Failed(Exception):
    """A sample that came to nothing, and why."""


def take(key: str, loop: str, seconds: float, tls: tools.TlsTools) -> Sample:
    """Measure one row on one loop."""
    row = row_of(key)
    environment = {**os.environ, **(MMAP_ENVIRONMENT if key.endswith(MMAP) else {})}
    try:
        if not row.load:
            return inner(row, loop, seconds, environment)
        with server(command_of_server(row, loop, seconds, tls), environment) as (process, address):
            if row.program == "tls" and not row.load.startswith("idle"):
                return tls_cost(row, process, address, seconds, tls)
            if row.load.startswith(("hold", "idle")):
                return memory(row, process, address, tls)
            return load(row, process, address, seconds)
    except Failed as failure:
        return {"error": str(failure)}


def on_core(core: int, command: list[str]) -> list[str]:
    return ["taskset", "-c", str(core), *command]


def inner(row: Row, loop: str, seconds: float, environment: dict[str, str]) -> Sample:
    command = [sys.executable, "-m", "suite.child", row.name, loop, str(seconds)]
    patience = PATIENCE + seconds
    process = subprocess.Popen(
        command, cwd=tools.BENCHES, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        output, errors = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        raise Failed(f"not done after {patience:.0f} s") from None
    finally:
        process.kill()
        process.communicate()
    if process.returncode or not output.strip():
        raise Failed(reason(errors, process.returncode))
    sample: Sample = json.loads(output.splitlines()[-1])
    return sample


def command_of_server(row: Row, loop: str, seconds: float, tls: tools.TlsTools) -> list[str]:
    if row.program == "tls":
        program = (
            [tls.program(REFERENCE)] if loop == REFERENCE else [sys.executable, str(tools.TLS / "servers.py"), loop]
        )
        return on_core(CORE, [*program, *tls.certificate(str(row.argument))])
    if loop == REFERENCE:
        # A loop that looks for events before it blocks is compared with a server that does so, too.
        spin_us = 50 if row.connections == 1 else 0
        return on_core(CORE, [tools.client(), "serve", row.reference, str(row.size), str(spin_us)])
    return [sys.executable, "-m", "suite.child", row.name, loop, str(seconds)]


@contextmanager
def server(command: list[str], environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running server and the line that it printed: its port, ports or path."""
    process = subprocess.Popen(
        command, cwd=tools.BENCHES, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    line = ""
    try:
        line = read_line(process)
        yield process, line
        if process.poll() is not None:
            raise Failed("the server ended: " + reason(process.communicate()[1], process.returncode))
    finally:
        process.kill()
        process.communicate()
        if line.startswith("/"):
            shutil.rmtree(pathlib.Path(line).parent, ignore_errors=True)


def read_line(process: subprocess.Popen[str], patience: float = PATIENCE) -> str:
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], patience)[0]:
        raise Failed(f"nothing within {patience:.0f} s")
    line = process.stdout.readline().strip()
    if not line:
        raise Failed(reason(process.communicate()[1], process.returncode))
    return line


@contextmanager
def client(command: str) -> Iterator[subprocess.Popen[str]]:
    """A running load client, on its own core; ended afterwards, whatever it does."""
    process = subprocess.Popen(
        on_core(CLIENT_CORE, command.split()),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def load(row: Row, process: subprocess.Popen[str], address: str, seconds: float) -> Sample:
    """What the load client says, and the CPU time that the server took in the measured time."""
    address = address if address.startswith("/") else f"127.0.0.1:{address}"
    shape = {"address": address, "connections": row.connections, "size": row.size, "depth": row.depth}
    with client(f"{tools.client()} {row.load.format(**shape)} {seconds / 4} {seconds}") as running:
        read_line(running)
        before = cpu_seconds(process.pid)
        sample: Sample = json.loads(read_line(running, PATIENCE + seconds))
        used = cpu_seconds(process.pid) - before
    sample["client_cpu"] = sample.pop("cpu")
    sample["server_cpu"] = used / sample["seconds"]
    if not sample["count"] or not used:
        raise Failed("no answers")
    sample["rate_of_cpu"] = sample["count"] / used
    sample["cpu_s_per_gib"] = MIB_PER_GIB / sample["rate_of_cpu"]  # of rows that count MiB
    return sample


def memory(row: Row, process: subprocess.Popen[str], address: str, tls: tools.TlsTools) -> Sample:
    """Resident bytes per connection, of those that come when many are there: the first fill what is free already."""
    if row.program == "tls":
        program, before, more = f"{tls.program('load')} {address.split()[0]}", 1000, 1000
    else:
        program, before, more = tools.client(), 4000, 6000
        address = f"127.0.0.1:{address}"

    def command(connections: int) -> str:
        return f"{program} {row.load.format(address=address, connections=connections)}"

    with client(command(before)) as first:
        read_line(first)
        held = resident_bytes(process.pid)
        with client(command(more)) as second:
            count = int(read_line(second))
            return {"bytes": (resident_bytes(process.pid) - held) / count}


def tls_cost(row: Row, process: subprocess.Popen[str], ports: str, seconds: float, tls: tools.TlsTools) -> Sample:
    """The server's CPU time per request, or per GiB."""
    port = ports.split()[row.depth]
    arguments = row.load.format(seconds=seconds, bytes=int(seconds * (256 << 20)))
    with client(f"{tls.program('load')} {port} {arguments}") as running:
        read_line(running)  # "ready": handshakes of the connections are no part of what they cost
        before = cpu_seconds(process.pid)
        assert running.stdin is not None
        with suppress(BrokenPipeError):  # of a client that has failed: the next line says why
            print(file=running.stdin, flush=True)
        count, rate = map(float, read_line(running, PATIENCE + seconds).split())
        used = cpu_seconds(process.pid) - before
    return {"cpu_us": used * 1e6 / count, "cpu_s_per_gib": used * GIB / count, "rate": rate}


@contextmanager
def while_it_runs() -> Iterator[None]:
    """What reading /proc/PID raises is a failed sample: the second if the process ends between opening and reading."""
    try:
        yield
    except (FileNotFoundError, ProcessLookupError):
        raise Failed("the server is gone") from None


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process, in nanoseconds' precision."""
    tasks = pathlib.Path(f"/proc/{pid}/task")
    with while_it_runs():
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


def resident_bytes(pid: int) -> int:
    with while_it_runs():
        return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def reason(text: str, status: int | None) -> str:
    """What a program that failed said at the end; of a panic in Rust, the line after its place."""
    lines = text.strip().splitlines() or [f"no output, exit status {status}"]
    found = [after for line, after in itertools.pairwise(lines) if "panicked" in line]
    return (found or lines)[-1].strip()
