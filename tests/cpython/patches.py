"""Makes the loops that CPython's tests create ours, in this process; and counts which loops run.

The tests make their loops in these ways, and each leads to `LoopUnderTest` after `install()`:

    asyncio.SelectorEventLoop(), asyncio.EventLoop()     names of asyncio and asyncio.unix_events
    asyncio.new_event_loop(), asyncio.run(), Runner,     the default policy's `_loop_factory`
    IsolatedAsyncioTestCase
    base_events.BaseEventLoop()                          `BaseEventLoop.__new__`, for this class itself

Loops that the tests define themselves (`test_utils.TestLoop` with its own clock, subclasses of the abstract base
classes) stay what they are. Runs in a worker process only, before the test modules are imported.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import types
from asyncio import base_events, sslproto, unix_events
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable

#: Which loop the tests get: ours, or CPython's own for comparison.
LOOPS = ("ironloop", "asyncio")


class LoopCounter:
    """Which loops there were since `reset()`."""

    def __init__(self) -> None:
        self.made = 0
        self.runs = 0
        self.others: set[str] = set()

    def reset(self) -> None:
        self.made = self.runs = 0
        self.others.clear()


def install(loops: str) -> LoopCounter:
    """Patch asyncio so that the tests' loops are `loops`, one of `LOOPS`."""
    counter = LoopCounter()
    if loops == "asyncio":
        _count(counter, unix_events._UnixSelectorEventLoop)
        return counter
    import ironloop

    _count(counter, ironloop.Loop)
    loop_class = _loop_under_test()
    for module in (asyncio, unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, loop_class)
    _honour_lack_of_pidfds()
    _show_waiting_threads()
    base_events.BaseEventLoop.__new__ = _new_base_event_loop(loop_class)  # type: ignore[method-assign]
    for name in ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):
        policy = getattr(unix_events, name, None)
        if policy is not None:
            policy._loop_factory = loop_class
    return counter


def _loop_under_test() -> type[Any]:
    import ironloop

    class LoopUnderTest(ironloop.Loop):
        """ironloop's loop; the tests hand it selectors, which it does not need."""

        def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
            if selector is not None:
                selector.close()
            super().__init__()

        def _make_ssl_transport(self, *args: Any, **kwargs: Any) -> Any:
            transport = super()._make_ssl_transport(*args, **kwargs)
            # Its connection_made() comes first.
            self.call_soon(_show_lower_transport, transport._ssl_protocol)
            return transport

    return LoopUnderTest


_connection_made = sslproto.SSLProtocol.connection_made


def _show_lower_transport(connection: Any) -> None:
    """A test that replaces SSLProtocol.connection_made() to see the transports sees ours (3.14)."""
    replaced = sslproto.SSLProtocol.connection_made
    if replaced is not _connection_made:
        replaced(types.SimpleNamespace(_start_handshake=lambda: None), connection._transport)


def _honour_lack_of_pidfds() -> None:
    """Our loop waits for children in threads while the tests have `can_use_pidfd` say no (3.12 and later)."""
    from ironloop import _subprocess

    open_pidfd = _subprocess._open_pidfd
    can_use_pidfd = getattr(unix_events, "can_use_pidfd", None)

    def open_if_allowed(pid: int) -> int | None:
        forbidden = getattr(unix_events, "can_use_pidfd", None) is not can_use_pidfd
        return None if forbidden and not unix_events.can_use_pidfd() else open_pidfd(pid)  # type: ignore[attr-defined]

    _subprocess._open_pidfd = open_if_allowed


def _show_waiting_threads() -> None:
    """Our threads that wait for children stand where CPython's watcher has its own: the tests join them (3.14)."""
    from ironloop._subprocess import ProcessTransport

    watch = ProcessTransport.watch

    @functools.wraps(watch)
    def watch_visibly(self: ProcessTransport) -> None:
        before = threading.enumerate()
        watch(self)
        threads = getattr(getattr(self._loop, "_watcher", None), "_threads", {})
        for thread in threading.enumerate():
            if thread not in before and thread.name.startswith("ironloop-waitpid-"):
                threads[self._pid] = thread

    ProcessTransport.watch = watch_visibly  # type: ignore[method-assign]


def _new_base_event_loop(loop_class: type[Any]) -> Callable[..., Any]:
    def new(cls: type[Any], *_args: Any, **_kwargs: Any) -> Any:
        # `__init__` follows, that of the object's class.
        return loop_class.__new__(loop_class) if cls is base_events.BaseEventLoop else object.__new__(cls)

    return new


def _count(counter: LoopCounter, under_test: type[Any]) -> None:
    base = base_events.BaseEventLoop
    init, run_forever = base.__init__, base.run_forever

    @functools.wraps(init)
    def counted_init(self: Any) -> None:
        counter.made += isinstance(self, under_test)
        init(self)

    @functools.wraps(run_forever)
    def counted_run(self: Any) -> None:
        if isinstance(self, under_test):
            counter.runs += 1
        else:
            counter.others.add(type(self).__qualname__)
        run_forever(self)

    base.__init__, base.run_forever = counted_init, counted_run  # type: ignore[method-assign]
