"""A process that runs CPython's tests.

    python -m tests.cpython.worker list PACKAGE
    python -m tests.cpython.worker run PACKAGE LOOPS FD SECONDS

The first prints the ids of the tests. The second reads batches from its standard input, a line
`{"module": name, "tests": [id, ...]}` each, runs them as unittest does, with the fixtures of their class and module,
and writes what `messages.py` describes to the descriptor FD. The time limit is the parent's; this side dumps the
stacks of all threads after SECONDS of a test, before it is over.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import pkgutil
import sys
import time
import unittest
from typing import TYPE_CHECKING, Any

from tests.cpython import patches
from tests.cpython.messages import FAILED, PASSED, SKIPPED, Result, output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def main() -> None:
    task, package, *arguments = sys.argv[1:]
    if task == "list":
        print(json.dumps(list_tests(package)))
    else:
        loops, fd, seconds = arguments
        run(package, patches.install(loops), int(fd), float(seconds))


def run(package: str, counter: patches.LoopCounter, fd: int, seconds: float) -> None:
    """Run batches until the standard input ends."""
    with open(fd, "w", buffering=1) as out:
        # Not inherited by the children that the tests start.
        os.set_inheritable(out.fileno(), False)

        def send(message: dict[str, Any]) -> None:
            out.write(json.dumps(message) + "\n")

        for line in sys.stdin:
            batch = json.loads(line)
            suite = select(package, batch["module"], batch["tests"])
            suite.run(Reporter(package, send, counter, seconds))
            send({"finished": True})


def list_tests(package: str) -> dict[str, list[str] | str]:
    """The ids of the tests of each module; a string says why a module has none."""
    found: dict[str, list[str] | str] = {}
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if info.name.startswith("test_"):
            try:
                found[info.name] = list(tests_of(package, info.name))
            except unittest.SkipTest as skip:
                found[info.name] = str(skip)
    return found


def select(package: str, module: str, ids: list[str]) -> unittest.TestSuite:
    """The named tests of a module, in that order."""
    tests = tests_of(package, module)
    return unittest.TestSuite(tests[id] for id in ids)


def tests_of(package: str, module: str) -> dict[str, unittest.TestCase]:
    imported = importlib.import_module(f"{package}.{module}")
    suite = unittest.TestLoader().loadTestsFromModule(imported)
    return {short_id(package, test): test for test in flatten(suite)}


def flatten(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flatten(test)
        else:
            yield test


def short_id(package: str, test: unittest.TestCase) -> str:
    return test.id().removeprefix(f"{package}.")


class Reporter(unittest.TestResult):
    """Sends what becomes of each test, as it happens."""

    def __init__(
        self, package: str, send: Callable[[dict[str, Any]], None], counter: patches.LoopCounter, seconds: float
    ) -> None:
        super().__init__()
        self._package = package
        self._send = send
        self._counter = counter
        self._seconds = seconds
        self._current: Result | None = None
        self._began = 0.0

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._current = Result(short_id(self._package, test), PASSED)
        self._counter.reset()
        _forget_output()
        self._began = time.monotonic()
        self._send({"started": self._current.id})
        faulthandler.dump_traceback_later(self._seconds)

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()
        result, self._current = self._current, None
        if result is None:
            return  # 3.12.1 does not start the tests that it skips
        result.seconds = time.monotonic() - self._began
        result.loops, result.runs = self._counter.made, self._counter.runs
        result.other_loops = tuple(sorted(self._counter.others))
        if result.outcome == FAILED:
            result.text += output(1)
        self._send({"result": result.as_json()})

    def _set(self, test: unittest.TestCase, outcome: str, text: str) -> None:
        if self._current is None and isinstance(test, unittest.TestCase):
            self._send({"result": Result(short_id(self._package, test), outcome, text).as_json()})
        elif self._current is None:
            # A fixture of a class or module: `test` is unittest's _ErrorHolder, and the tests do not run.
            self._send({"fixture": Result(test.id(), outcome, text).as_json()})
        elif self._current.outcome != FAILED:
            self._current.outcome = outcome
            self._current.text = text
        elif outcome == FAILED:
            self._current.text += "\n" + text

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._set(test, FAILED, self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    addFailure = addError

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self._set(test, FAILED, f"{subtest}\n{self._exc_info_to_string(err, test)}")  # type: ignore[attr-defined]

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._set(test, SKIPPED, reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._set(test, SKIPPED, "CPython expects it to fail")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._set(test, SKIPPED, "CPython expects it to fail, and it passes")


def _forget_output() -> None:
    """Both outputs are one file of the parent's: it shall have what this test prints."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.lseek(1, 0, os.SEEK_SET)
    os.ftruncate(1, 0)


if __name__ == "__main__":
    main()
