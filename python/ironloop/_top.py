"""`python -m ironloop top PID`: what a running process does, live in the terminal.

Connects to the socket of `ironloop.inspect`. `--record FILE` keeps what is received as lines of JSON, `--replay FILE`
shows such a file. The picture is drawn by `rich`, which the extra `ironloop[top]` installs; `--once` needs nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import socket
import sys
import time
from typing import IO, TYPE_CHECKING, Any

from .inspect import socket_path

if TYPE_CHECKING:
    from collections.abc import Iterator

HISTORY = 40


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    if (options.pid is None) == (options.replay is None):
        _parser().error("give the number of a process, or --replay")
    try:
        with contextlib.ExitStack() as stack:
            if options.replay is not None:
                snapshots = _replayed(stack.enter_context(open(options.replay, encoding="utf-8")), options.interval)
            else:
                snapshots = _received(options.pid, options.interval)
            if options.record is not None:
                snapshots = _recorded(snapshots, stack.enter_context(open(options.record, "w", encoding="utf-8")))
            return _show(snapshots, once=options.once)
    except (OSError, ValueError) as error:
        print(f"python -m ironloop top: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ironloop top",
        description="Shows what the event loops of a running process do. The process must have been started with"
        " IRONLOOP_INSPECT=1, or call ironloop.inspect.enable().",
    )
    parser.add_argument("pid", type=int, nargs="?", help="the process")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two looks (default: 1)")
    parser.add_argument("--once", action="store_true", help="print two looks' worth as text and stop")
    parser.add_argument("--record", metavar="FILE", help="keep what is received, a line of JSON each")
    parser.add_argument("--replay", metavar="FILE", help="show a recorded file")
    return parser


def _received(pid: int, interval: float) -> Iterator[dict[str, Any]]:
    path = socket_path(pid)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            raise OSError(
                f"process {pid} does not listen at {path}: start it with IRONLOOP_INSPECT=1, or let it call"
                " ironloop.inspect.enable()"
            ) from None
        connection.sendall(json.dumps({"interval": interval}).encode() + b"\n")
        with connection.makefile("rb") as lines:
            for line in lines:
                yield json.loads(line)


def _replayed(file: IO[str], interval: float) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file):
        if number and sys.stdout.isatty():
            time.sleep(interval)
        yield json.loads(line)


def _recorded(snapshots: Iterator[dict[str, Any]], file: IO[str]) -> Iterator[dict[str, Any]]:
    for snapshot in snapshots:
        print(json.dumps(snapshot), file=file, flush=True)
        yield snapshot


def _show(snapshots: Iterator[dict[str, Any]], *, once: bool) -> int:
    history = History()
    if once:
        for snapshot in snapshots:
            history.add(snapshot)
            if history.complete:
                break
        print(history.as_text())
        return 0
    first = next(snapshots, None)  # whether there is anything to show matters more than how
    if first is None:
        raise OSError("there is nothing to show")
    try:
        from ._top_view import live
    except ModuleNotFoundError as error:
        raise OSError(f"{error.name} is missing: pip install 'ironloop[top]', or use --once") from None
    live(itertools.chain([first], snapshots), history)
    return 0


class History:
    """The last looks at the first loop of a process, and the rates between them."""

    def __init__(self) -> None:
        self.snapshot: dict[str, Any] = {}
        self.series: dict[str, list[float]] = {}
        self._before: dict[str, Any] | None = None

    @property
    def complete(self) -> bool:
        """There are rates to show."""
        return bool(self.series)

    @property
    def loop(self) -> dict[str, Any]:
        """The loop that is shown: the busiest."""
        loops: list[dict[str, Any]] = self.snapshot.get("loops", [])
        return max(loops, key=lambda loop: int(loop["metrics"]["callbacks"]), default={})

    def add(self, snapshot: dict[str, Any]) -> None:
        self.snapshot = snapshot
        now = self.loop
        before, self._before = self._before, {**now, "time": snapshot["time"]} if now else None
        if before is None or not now or before["id"] != now["id"]:
            return
        seconds = max(snapshot["time"] - before["time"], 1e-9)
        for name, value in _rates(before["metrics"], now["metrics"], seconds).items():
            values = self.series.setdefault(name, [])
            values.append(value)
            del values[:-HISTORY]

    def as_text(self) -> str:
        """The last rates and the tasks, as plain lines."""
        lines = [f"{name:<22}{values[-1]:>14,.1f}" for name, values in self.series.items()]
        metrics = self.loop.get("metrics", {})
        for name in ("ready", "timers", "slow_callbacks"):
            lines.append(f"{name.replace('_', ' '):<22}{metrics.get(name)!s:>14}")
        lines += [f"  {seconds:.3f} s  {name}" for name, seconds in metrics.get("slowest_callbacks", [])]
        lines += [f"tasks: {self.loop.get('count', 0)}"]
        lines += [f"  {text}" for text in task_tree(self.loop.get("tasks", []))]
        return "\n".join(lines)


def _rates(before: dict[str, Any], now: dict[str, Any], seconds: float) -> dict[str, float]:
    def rate(name: str) -> float:
        return float(now[name] - before[name]) / seconds

    lag = _since(before["lag"], now["lag"])
    durations = _since(before["callback_time"], now["callback_time"])
    return {
        "callbacks/s": rate("callbacks"),
        "turns/s": rate("turns"),
        "I/O events/s": rate("io_events"),
        "timers/s": rate("timers_fired"),
        "KiB in/s": rate("bytes_received") / 1024,
        "KiB out/s": rate("bytes_sent") / 1024,
        "connections": now["connections_opened"] - now["connections_closed"],
        "busy %": 100 * rate("busy"),
        "callback p50, µs": 1e6 * _quantile(durations, 0.5),
        "callback p99, µs": 1e6 * _quantile(durations, 0.99),
        "lag p50, µs": 1e6 * _quantile(lag, 0.5),
        "lag p99, µs": 1e6 * _quantile(lag, 0.99),
    }


def _since(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[float, float]]:
    """(upper bound in seconds, values) of what came between two snapshots of a histogram."""
    known = {least: values for least, _, values in before["buckets"]}
    return [(below, values - known.get(least, 0)) for least, below, values in now["buckets"]]


def _quantile(buckets: list[tuple[float, float]], q: float) -> float:
    rest = q * sum(values for _, values in buckets)
    for below, values in buckets:
        rest -= values
        if values and rest <= 0:
            return below
    return 0.0


def task_tree(tasks: list[dict[str, Any]]) -> list[str]:
    """A line for each task; those that a task waits for stand below it, indented."""
    by_name = {task["name"]: task for task in tasks}
    awaited = {name for task in tasks for name in task["waits_for"]}
    lines: list[str] = []
    shown: set[str] = set()

    def show(task: dict[str, Any], depth: int) -> None:
        if task["name"] in shown:
            return
        shown.add(task["name"])
        where = f"  {task['where']}" if task["where"] else ""
        inside = f", waits in {task['waits_in']}" if task["waits_in"] not in ("", task["coroutine"]) else ""
        lines.append(f"{'  ' * depth}{task['name']} ({task['coroutine']}){where}{inside}")
        for name in task["waits_for"]:
            if name in by_name:
                show(by_name[name], depth + 1)

    for task in tasks:
        if task["name"] not in awaited:
            show(task, 0)
    for task in tasks:
        show(task, 0)
    return lines
