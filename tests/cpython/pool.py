"""Worker processes that run the tests, and what became of each.

    Pool.start(batches)      threads hand the batches to workers, in order
    Pool.result(id)          waits until that test has ended, one way or the other

A batch is what a worker runs in one go: tests of one module, which share its fixtures, and may leave things behind.
If a test hangs or kills the worker, that test has failed, and another worker goes on with the next one.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cpython.messages import FAILED, Result, output

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent.parent

#: Of the time limit of a test, when the worker writes the stacks of its threads: before it is killed.
DUMP_AT = 0.8

#: A worker imports a module and runs fixtures without a test being under way.
FIXTURE_SECONDS = 60.0


@dataclasses.dataclass
class Batch:
    """Tests of one module."""

    module: str
    tests: list[str]
    limit_seconds: float
    """How long each of them may take."""


class WorkerError(Exception):
    """What became of a worker, and is no test's result."""


class Worker:
    """One process, with a folder of its own."""

    def __init__(self, package: str, loops: str, limit_seconds: float, environment: dict[str, str]) -> None:
        self.limit_seconds = limit_seconds
        self._received = b""
        command = [sys.executable, "-u", "-X", "faulthandler", "-m", "tests.cpython.worker", "run", package]
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="ironloop-cpython-", ignore_cleanup_errors=True)  # type: ignore[call-overload]
            )
            self._log = stack.enter_context(tempfile.TemporaryFile())
            results, worker_end = os.pipe()
            self._results = stack.enter_context(open(results, "rb", buffering=0))
            with open(worker_end, "wb"):
                self._process = subprocess.Popen(
                    [*command, loops, str(worker_end), str(limit_seconds * DUMP_AT)],
                    stdin=subprocess.PIPE,
                    stdout=self._log,
                    stderr=self._log,
                    pass_fds=[worker_end],
                    cwd=folder,
                    env=environment,
                    start_new_session=True,
                )
            self._resources = stack.pop_all()

    def run(self, batch: Batch) -> Iterator[Result]:
        """Run a batch; the result of each of its tests, until one ends the worker.

        Raises:
            WorkerError: it ended when each test had its result.
        """
        assert self._process.stdin is not None
        waiting = dict.fromkeys(batch.tests)
        self._send({"module": batch.module, "tests": batch.tests})
        fixture = Result("", FAILED, "unittest did not run it")
        current, deadline = "", time.monotonic() + FIXTURE_SECONDS
        while True:
            message = self._receive(deadline)
            if message is None:
                failed = current or next(iter(waiting), None)
                if failed is None:
                    raise WorkerError(f"{batch.module}, after its last test: {self._how_it_ended(deadline)}")
                yield Result(failed, FAILED, self._how_it_ended(deadline))
                return
            if "started" in message:
                current, deadline = message["started"], time.monotonic() + self.limit_seconds
            elif "result" in message:
                result = Result.from_json(message["result"])
                waiting.pop(result.id, None)
                current, deadline = "", time.monotonic() + FIXTURE_SECONDS
                yield result
            elif "fixture" in message:
                fixture = Result.from_json(message["fixture"])
            else:
                break
        for id in waiting:
            yield dataclasses.replace(fixture, id=id, text=f"{fixture.id}: {fixture.text}")

    def end(self) -> None:
        """Kill the worker, and the processes of its session."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        self._resources.close()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died, which reading its results shows, too

    def _receive(self, deadline: float) -> dict[str, Any] | None:
        """The next message; None: the worker has died or the time is over."""
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._results], [], [], left)[0]:
                return None
            data = self._results.read(65536)
            if not data:
                return None
            self._received += data
        line, self._received = self._received.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def _how_it_ended(self, deadline: float) -> str:
        hung = time.monotonic() >= deadline
        try:
            status = None if hung else self._process.wait(5)
        except subprocess.TimeoutExpired:
            status = None
        what = "took longer than its time limit" if hung else f"ended the process, status {status}"
        log = output(self._log.fileno())
        self._process.kill()
        self._process.wait()
        return f"{what}\n{log}"


class Pool:
    """Runs batches in several workers at once."""

    def __init__(self, package: str, loops: str, size: int) -> None:
        self._package = package
        self._loops = loops
        # Read once, by the thread that makes the pool: pytest changes it with each test that it runs meanwhile.
        path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
        self._batches: collections.deque[Batch] = collections.deque()
        self._results: dict[str, Result] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(size)]
        # How many threads serve. A thread says itself that it ends: `is_alive()` is true until after its last word.
        self._serving = 0
        # What a thread failed with when each test of its batch had its result.
        self._untold: Exception | None = None

    def start(self, batches: list[Batch]) -> None:
        self._batches.extend(batches)
        for thread in self._threads:
            with self._changed:
                self._serving += 1
            thread.start()

    def result(self, id: str) -> Result:
        """Wait for a test that is in one of the batches."""
        with self._changed:
            self._changed.wait_for(lambda: id in self._results or not self._serving, 900)
            return self._results.get(id) or Result(id, FAILED, "no worker has run it")

    def stop(self) -> None:
        """End the workers; the tests under way are given up.

        Raises:
            Exception: what a thread failed with, unless it is the result of a test.
        """
        self._stopping = True
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        if self._untold is not None:
            raise self._untold

    def _serve(self) -> None:
        try:
            while not self._stopping:
                try:
                    batch = self._batches.popleft()
                except IndexError:
                    break
                try:
                    self._run(batch)
                except Exception as error:
                    self._fail(batch, error)
        finally:
            with self._changed:
                self._serving -= 1
                self._changed.notify_all()

    def _run(self, batch: Batch) -> None:
        worker = Worker(self._package, self._loops, batch.limit_seconds, self._environment)
        try:
            for result in worker.run(batch):
                self._tell(result)
                if self._stopping:
                    return
        finally:
            worker.end()
        rest = self._without_result(batch)
        if rest:
            self._batches.appendleft(dataclasses.replace(batch, tests=rest))

    def _fail(self, batch: Batch, error: Exception) -> None:
        """The runner itself has failed: so have the tests that have no result."""
        text = "the runner failed\n" + "".join(traceback.format_exception(type(error), error, error.__traceback__))
        rest = self._without_result(batch)
        for id in rest:
            self._tell(Result(id, FAILED, text))
        if not rest:
            self._untold = error

    def _without_result(self, batch: Batch) -> list[str]:
        return [id for id in batch.tests if id not in self._results]

    def _tell(self, result: Result) -> None:
        with self._changed:
            self._results[result.id] = result
            self._changed.notify_all()
