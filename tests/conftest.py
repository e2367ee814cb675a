"""Fixtures: every behaviour test runs on CPython's own loop, which is the judge, and on ironloop's.

`loop_factory` makes loops of the kind under test; `loop` is one, closed afterwards; `run` runs a coroutine
function on it. After each test the process must have as many descriptors open as before, and what it left behind is
collected, for its warnings to be about that test.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import ironloop
import pytest

from tests.support.leaks import open_descriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

# Under nohup, or in the background of a shell, signals are ignored that tests send to themselves and to their children.
for number, handler in [
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
]:
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)

FACTORIES = {"asyncio": asyncio.SelectorEventLoop, "ironloop": ironloop.new_event_loop}


@pytest.fixture(params=list(FACTORIES))
def loop_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def loop_factory(loop_name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    return FACTORIES[loop_name]


@pytest.fixture(scope="module", autouse=True)
def _modules_are_not_garbage() -> None:
    """Takes what is there before the first test of a file, above all modules, from the collector.

    To look at it after each test takes 0.1 s with all optional packages. At the very end it is looked at again.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _no_descriptor_leaks() -> Iterator[None]:
    before = open_descriptors()
    yield
    # Threads may be about to close theirs: those of name look-ups have a socket of their own.
    deadline = time.monotonic() + 5
    while len(after := open_descriptors()) > len(before):
        leaked = {fd: target for fd, target in after.items() if fd not in before}
        assert time.monotonic() < deadline, f"descriptors left open: {leaked}"
        gc.collect()
        time.sleep(0.01)


@pytest.fixture
def loop(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[Any]:
    loop = loop_factory()
    yield loop
    if not loop.is_closed():
        loop.set_task_factory(None)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    gc.collect()


@pytest.fixture
def run(loop: Any) -> Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]:
    """`run(main)` runs `main()` on the loop under test, which is the current loop meanwhile."""

    def run_on_loop(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return loop.run_until_complete(asyncio.wait_for(main(), 50))

    return run_on_loop


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets that are connected and do not block."""
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


@pytest.fixture
def reports(loop: Any) -> list[dict[str, Any]]:
    """What reaches the loop's exception handler."""
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: contexts.append(context))
    return contexts


@pytest.fixture(autouse=True)
def _asyncio_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="asyncio")
