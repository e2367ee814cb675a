#!/usr/bin/env python3
"""Measures event loops side by side.

    python benches/loops/run.py                       # all rows, all loops that are installed
    python benches/loops/run.py --rows echo_1k_c10,call_soon_chain --rounds 9 --json result.json
    python benches/loops/run.py --quick --list

Every sample runs in a fresh process; the loops take turns, round by round, so that a machine that slows
down slows all of them. Servers run on one core and the load client (Rust, built on first use) on another.
The table shows the median rate of each loop, its spread, and the ratio to uvloop; what failed is said below it.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import select
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import processes
import programs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HERE = pathlib.Path(__file__).resolve().parent
CLIENT = HERE.parent / "client"
LOOPS = ("asyncio", "uvloop", "rloop", "ironloop")
SERVER_CORE, CLIENT_CORE = 0, 1
PATIENCE = 60.0  # seconds until a sample that shows nothing has failed


@dataclass(frozen=True)
class Row:
    """One question. Inner programs have a count; servers have a load, connections, size and depth.

    `load` is what the load client does; `reference` is which server without Python is the limit, if any.
    """

    program: Callable[[int], Awaitable[None]]
    count: int = 0
    connections: int = 0
    size: int = 1024
    depth: int = 1
    load: str = "load"
    reference: str = ""


ROWS = {
    "echo_1k_c1": Row(programs.serve_protocol, connections=1, reference="tcp"),
    "echo_1k_c10": Row(programs.serve_protocol, connections=10, reference="tcp"),
    "echo_1k_c100": Row(programs.serve_protocol, connections=100, reference="tcp"),
    "echo_10k_c10": Row(programs.serve_protocol, connections=10, size=10 * 1024, reference="tcp"),
    "echo_100k_c10": Row(programs.serve_protocol, connections=10, size=100 * 1024, reference="tcp"),
    "buffered_1k_c10": Row(programs.serve_buffered, connections=10, reference="tcp"),
    "streams_1k_c10": Row(programs.serve_streams, connections=10, reference="tcp"),
    "pipelined_1k_c10": Row(programs.serve_pipelined, connections=10, depth=16, reference="tcp"),
    "accept_churn": Row(programs.serve_protocol, load="churn"),
    "unix_1k_c10": Row(programs.serve_unix, connections=10, reference="unix"),
    "udp_64_c10": Row(programs.serve_datagrams, connections=10, size=64, load="load-udp", reference="udp"),
    "udp_1k_c10": Row(programs.serve_datagrams, connections=10, load="load-udp", reference="udp"),
    "udp_64_c10_w16": Row(programs.serve_datagrams, 0, 10, 64, 16, load="load-udp", reference="udp"),
    "udp_1k_c10_w16": Row(programs.serve_datagrams, 0, 10, 1024, 16, load="load-udp", reference="udp"),
    "pipe_echo_1k": Row(processes.pipe_echo, 50_000),
    "true_in_turn": Row(processes.true_in_turn, 1_000),
    "true_20_at_once": Row(processes.true_20_at_once, 1_000),
    "cat_communicate": Row(processes.cat_communicate, 256),  # MiB, in pieces of 64 MiB
    "cat_streamed": Row(processes.cat_streamed, 512),
    "call_soon_chain": Row(programs.call_soon_chain, 500_000),
    "call_soon_burst": Row(programs.call_soon_burst, 500_000),
    "sleep_zero": Row(programs.sleep_zero, 300_000),
    "create_task": Row(programs.create_task, 200_000),
    "future_wake": Row(programs.future_wake, 200_000),
    "timers_cancelled": Row(programs.timers_cancelled, 300_000),
    "timers_fired": Row(programs.timers_fired, 100_000),
    "threadsafe": Row(programs.threadsafe, 200_000),
    "executor": Row(programs.executor, 20_000),
}


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    if name == "asyncio":
        return asyncio.SelectorEventLoop()
    module = importlib.import_module(name)
    loop: asyncio.AbstractEventLoop = module.new_event_loop()
    return loop


def child(row: Row, name: str, scale: float) -> None:
    """The measured process."""
    os.sched_setaffinity(0, {SERVER_CORE})
    loop = new_loop(name)
    asyncio.set_event_loop(loop)
    if row.count:
        print(*programs.measure(loop, row.program, int(row.count * scale)))
    else:
        loop.run_until_complete(row.program(row.size))


def build_client() -> pathlib.Path:
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=CLIENT, check=True)
    return CLIENT / "target" / "release" / "ironloop-bench-client"


def cpu_ticks(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sample(name: str, loop: str, row: Row, client: pathlib.Path | None, seconds: float) -> dict[str, Any]:
    """One measurement in a fresh process."""
    if loop == "reference":
        command = ["taskset", "-c", str(SERVER_CORE), str(client), "serve", row.reference, str(row.size)]
    else:
        command = [sys.executable, str(HERE / "run.py"), "--child", name, loop, str(min(seconds / 2, 1.0))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = ""
    try:
        if not select.select([process.stdout], [], [], PATIENCE)[0]:
            return {"error": f"nothing within {PATIENCE:.0f} s"}
        line = process.stdout.readline().strip()
        if not line:
            return {"error": last_line(process.communicate()[1])}
        if row.count:
            rate, rate_of_cpu = map(float, line.split())
            return {"rate": rate, "rate_of_cpu": rate_of_cpu}
        address = line if line.startswith("/") else f"127.0.0.1:{line}"
        shape = [] if row.load == "churn" else [str(row.connections), str(row.size), str(row.depth)]
        load = [str(client), row.load, address, *shape, str(seconds / 4), str(seconds)]
        before = cpu_ticks(process.pid)
        output = subprocess.run(["taskset", "-c", str(CLIENT_CORE), *load], capture_output=True, text=True)
        used = cpu_ticks(process.pid) - before
        if output.returncode:
            return {"error": last_line(output.stderr, "panicked")}
        result: dict[str, Any] = json.loads(output.stdout)
        result["server_cpu"] = used / (seconds * 1.25)
        result["rate_of_cpu"] = result["rate"] / max(result["server_cpu"], 0.01)
        return result
    finally:
        process.kill()
        process.communicate()
        if line.startswith("/"):
            shutil.rmtree(pathlib.Path(line).parent, ignore_errors=True)


def last_line(text: str, before: str = "") -> str:
    """What a program that failed said at the end, or the line after `before`."""
    lines = text.strip().splitlines() or ["no output"]
    found = [after for line, after in itertools.pairwise(lines) if before and before in line]
    return found[-1] if found else lines[-1]


def installed(loops: list[str]) -> list[str]:
    found = []
    for name in loops:
        try:
            if name not in ("asyncio", "reference"):
                importlib.import_module(name)
            found.append(name)
        except ImportError:
            print(f"{name}: not installed, left out", file=sys.stderr)
    return found


def version(name: str) -> str:
    if name == "asyncio":
        return platform.python_version()
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(importlib.import_module(name), "__version__", "?"))


def machine() -> str:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    return f"{os.cpu_count()} cores, {model}, Linux {platform.release()}, Python {platform.python_version()}"


def table(results: dict[str, dict[str, list[dict[str, Any]]]], loops: list[str], key: str) -> None:
    print("\n" + machine() + "; " + ", ".join(f"{name} {version(name)}" for name in loops if name != "reference"))
    print(f"{'row':18}" + "".join(f"{name:>22}" for name in loops) + "     ironloop/uvloop   /best peer")
    notes = []
    for row, by_loop in results.items():
        line, medians = f"{row:18}", {}
        for name in loops:
            samples = by_loop.get(name, [])
            rates = sorted(s[key] for s in samples if key in s)
            errors = [s["error"] for s in samples if "error" in s]
            resent = sum(s.get("resent", 0) for s in samples)
            if errors:
                notes.append(f"{row}, {name}: {len(errors)} of {len(samples)} failed: {errors[0]}")
            if resent:
                share = resent / sum(s["count"] for s in samples if "rate" in s)
                notes.append(f"{row}, {name}: {resent} datagrams ({share:.2%}) had no answer within 200 ms")
            if not rates:
                line += f"{'-':>22}"
                continue
            medians[name] = statistics.median(rates)
            spread = (rates[-1] - rates[0]) / medians[name] * 50
            line += f"{medians[name]:>14,.0f} ±{spread:3.0f} %"
        ours = medians.get("ironloop")
        peers = [rate for name, rate in medians.items() if name not in ("ironloop", "reference")]
        if ours and medians.get("uvloop"):
            line += f"{ours / medians['uvloop']:>17.2f}"
        if ours and peers:
            line += f"{ours / max(peers):>14.2f}"
        print(line)
    print("\n".join(notes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help="comma-separated; default: all")
    parser.add_argument("--loops", default=",".join(LOOPS), help="comma-separated; also: reference (Rust, no Python)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="measured time of a sample")
    parser.add_argument("--quick", action="store_true", help="3 rounds of half a second")
    parser.add_argument("--per-cpu", action="store_true", help="per second of CPU time, for a machine with other work")
    parser.add_argument("--json", type=pathlib.Path, help="where to write all samples")
    parser.add_argument("--list", action="store_true", help="list the rows and stop")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        row, loop, scale = options.child
        child(ROWS[row], loop, float(scale))
        return
    if options.list:
        print("\n".join(ROWS))
        return
    rounds, seconds = (3, 0.5) if options.quick else (options.rounds, options.seconds)
    rows = options.rows.split(",") if options.rows else list(ROWS)
    loops = installed(options.loops.split(","))
    client = build_client() if any(not ROWS[row].count for row in rows) else None
    results: dict[str, dict[str, list[dict[str, Any]]]] = {row: {} for row in rows}
    total, done = rounds * len(rows) * len(loops), 0
    for _ in range(rounds):
        for row in rows:
            for loop in loops:
                done += 1
                print(f"\r{done}/{total} {row:18} {loop:12}", end="", file=sys.stderr, flush=True)
                if loop == "reference" and not ROWS[row].reference:
                    continue
                results[row].setdefault(loop, []).append(sample(row, loop, ROWS[row], client, seconds))
    print(file=sys.stderr)
    table(results, loops, "rate_of_cpu" if options.per_cpu else "rate")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "results": results}, indent=1))


if __name__ == "__main__":
    main()
