"""CPython's own tests of asyncio as pytest items: `pytest tests/cpython`.

An item waits for its result from a pool of worker processes, which run ahead. What an item reports:

    applicable tests     passed, failed, or skipped for the test's own reason
    left out             skipped if it fails, as expected; failed if it passes: its entry is to go
    repeated             not run: classes that differ from another only in the selector given to the loop
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.cpython import left_out
from tests.cpython.messages import FAILED, PACKAGE, PASSED, SKIPPED
from tests.cpython.pool import ROOT, Batch, Pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: A test takes a minute at most on a busy machine; those that are left out are expected to hang at worst.
LIMIT_SECONDS = 60.0
LEFT_OUT_LIMIT_SECONDS = 10.0

#: The same tests once more, with another selector for the same loop; EPollEventLoopTests stand for them.
REPEATED = ("SelectEventLoopTests", "PollEventLoopTests")

MISSING = (
    "this Python has no Lib/test: install libpython{0}.{1}-testsuite (Debian, Ubuntu), python3-test (Fedora), "
    "or a Python from pyenv or source"
)


@dataclasses.dataclass
class Counts:
    """What the summary says."""

    passed: int = 0
    failed: int = 0
    left_out: int = 0
    skipped: int = 0
    not_about_the_loop: int = 0
    results: list[dict[str, Any]] = dataclasses.field(default_factory=list)


class AsyncioSuite(pytest.File):
    """All tests of the running interpreter's `test.test_asyncio`."""

    def collect(self) -> Iterable[pytest.Item]:
        if not is_installed():
            yield Unavailable.from_parent(self, name="installed", reason=MISSING.format(*sys.version_info))
            return
        listed = list_tests()
        known = {id for tests in listed.values() if not isinstance(tests, str) for id in tests}
        entries = left_out.read(sys.version_info[:3]) if self.config.getoption("loops") == "ironloop" else {}
        yield EntriesExist.from_parent(self, name="left_out_entries_exist", unknown=sorted(entries.keys() - known))
        for module, tests in listed.items():
            if isinstance(tests, str):
                yield Unavailable.from_parent(self, name=module, reason=tests)
        ids = [id for id in sorted_by_module(listed) if class_of(id).split(".")[-1] not in REPEATED]
        # The others last, in processes of their own: they may hang, or break the tests after them.
        for id in sorted(ids, key=lambda id: id in entries and not entries[id].in_place):
            yield ConformanceTest.from_parent(self, name=id, entry=entries.get(id))


class ConformanceError(Exception):
    """A failure; its text is all there is to show."""


class SuiteItem(pytest.Item):
    """An item of the suite, whose failures are told without a traceback of ours."""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        return str(excinfo.value) if isinstance(excinfo.value, ConformanceError) else super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[os.PathLike[str], None, str]:
        return self.path, None, self.name


class ConformanceTest(SuiteItem):
    """One of CPython's tests."""

    def __init__(self, *, entry: left_out.Entry | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.entry = entry
        # The worker's limit is per test; here an item waits for those before it, too.
        self.add_marker(pytest.mark.timeout(0))

    def runtest(self) -> None:
        result = self.config.stash[POOL].result(self.name)
        counts = self.config.stash[COUNTS]
        counts.results.append({**result.as_json(), "left_out": self.entry and self.entry.reason})
        if self.entry is not None:
            counts.left_out += 1
            if result.outcome == PASSED:
                raise ConformanceError(f"passes: take it out of {left_out.file_of(sys.version_info).name}")
            pytest.skip(f"left out: {self.entry.reason}")
        if result.outcome == SKIPPED:
            counts.skipped += 1
            pytest.skip(result.text)
        if result.outcome == PASSED and "_UnixSelectorEventLoop" in result.other_loops:
            result = dataclasses.replace(result, outcome=FAILED, text="ran on CPython's own loop")
        if result.outcome == FAILED:
            counts.failed += 1
            raise ConformanceError(result.text)
        if result.loops or result.runs:
            counts.passed += 1
        else:
            counts.not_about_the_loop += 1


class Unavailable(SuiteItem):
    """Tests that this interpreter or system does not have."""

    def __init__(self, *, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reason = reason

    def runtest(self) -> None:
        pytest.skip(self.reason)


class EntriesExist(SuiteItem):
    """Fails when a test is left out that is not there."""

    def __init__(self, *, unknown: list[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.unknown = unknown

    def runtest(self) -> None:
        if self.unknown:
            raise ConformanceError(f"not in this Python's {PACKAGE}:\n  " + "\n  ".join(self.unknown))


POOL = pytest.StashKey[Pool]()
COUNTS = pytest.StashKey[Counts]()


def is_installed() -> bool:
    try:
        return importlib.util.find_spec(PACKAGE) is not None
    except ModuleNotFoundError:
        return False


def list_tests() -> dict[str, list[str] | str]:
    """See `worker.list_tests`; in a process of its own, as importing the tests has effects."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.cpython.worker", "list", PACKAGE]
    listed: dict[str, list[str] | str] = json.loads(subprocess.check_output(command, cwd=ROOT))
    return listed


def sorted_by_module(listed: dict[str, list[str] | str]) -> Iterator[str]:
    for module in sorted(listed):
        tests = listed[module]
        if not isinstance(tests, str):
            yield from sorted(tests, key=class_of)


def class_of(id: str) -> str:
    """Module and class of a test."""
    return id.rpartition(".")[0]


def batches(items: list[ConformanceTest]) -> list[Batch]:
    """The tests by module and by whether they are left out, in the items' order.

    By module because that is how CPython runs them: some depend on what those before left in the policy, and some
    leave asyncio's classes replaced.
    """
    found: dict[tuple[str, bool], Batch] = {}
    for item in items:
        alone = item.entry is not None and not item.entry.in_place
        limit_seconds = LEFT_OUT_LIMIT_SECONDS if alone else LIMIT_SECONDS
        module = item.name.partition(".")[0]
        batch = found.setdefault((module, alone), Batch(module, [], limit_seconds))
        batch.tests.append(item.name)
    return list(found.values())
