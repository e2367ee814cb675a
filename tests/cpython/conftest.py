"""`pytest tests/cpython` runs CPython's own tests of asyncio on ironloop; `--loops=asyncio` on CPython's loop.

`asyncio_suite.py` has the items, `worker.py` and `pool.py` run them, `left_out/` names those that cannot apply.
The tests under the folder are not part of a plain `pytest` or `pytest tests`, which is to be quick.
"""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING

import pytest

from tests.cpython import asyncio_suite
from tests.cpython.asyncio_suite import COUNTS, POOL, AsyncioSuite, ConformanceTest, Counts
from tests.cpython.messages import PACKAGE
from tests.cpython.patches import LOOPS
from tests.cpython.pool import Pool
from tests.support.builds import FREE_THREADED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("CPython's tests")
    group.addoption("--loops", choices=LOOPS, default="ironloop", help="the loop that CPython's tests get")
    group.addoption("--workers", type=int, default=os.cpu_count() or 1, help="processes that run CPython's tests")
    group.addoption("--results", metavar="FILE", help="write what became of each of CPython's tests, as JSON")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.name == "asyncio_suite.py":
        return AsyncioSuite.from_parent(parent, path=file_path)
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    items = [item for item in session.items if isinstance(item, ConformanceTest)]
    if session.config.option.collectonly or not items:
        return (yield)
    pool = Pool(PACKAGE, session.config.getoption("loops"), session.config.getoption("workers"))
    session.config.stash[POOL] = pool
    session.config.stash[COUNTS] = Counts()
    pool.start(asyncio_suite.batches(items))
    try:
        return (yield)
    finally:
        pool.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counts = config.stash.get(COUNTS, None)
    if counts is None:
        return
    applicable = counts.passed + counts.failed
    loops = config.getoption("loops")
    version = platform.python_version() + ("t" if FREE_THREADED else "")
    terminalreporter.section(f"CPython {version}'s test_asyncio on {loops}")
    terminalreporter.line(f"{counts.passed} passed / {applicable} applicable / {counts.left_out} left out")
    terminalreporter.line(
        f"{counts.not_about_the_loop} more pass that are not about the loop: they made none of {loops}'s; "
        f"{counts.skipped} skipped themselves"
    )
    results = config.getoption("results")
    if results:
        with open(results, "w") as file:
            json.dump(counts.results, file, indent=1)
