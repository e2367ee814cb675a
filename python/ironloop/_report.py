"""How native code puts failures and slow callbacks into words: as the running Python's asyncio does.

Called by `_native` off the hot path only. The texts and the keys of the context dictionaries are those
of `asyncio.events.Handle._run` and `asyncio.base_events.BaseEventLoop._run_once`; where they differ
between versions of Python, the difference is here.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import base_events, format_helpers
from collections import deque

from ._hints import add_hint as add_hint  # called from there
from ._static import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from ._loop import Loop

    class _AnyHandle(Protocol):
        """What `asyncio.Handle` and the native handles have in common."""

        _callback: Any
        _args: Any
        _source_traceback: Any

        def _run(self) -> None: ...


SLOWEST = 5
"""So many names of slow callbacks are kept."""


def _callback_source(loop: Loop, handle: _AnyHandle) -> str:
    if sys.version_info >= (3, 13):
        return format_helpers._format_callback_source(  # type: ignore[no-any-return, call-arg, attr-defined, unused-ignore]
            handle._callback, handle._args, debug=loop.get_debug()
        )
    return format_helpers._format_callback_source(handle._callback, handle._args)  # type: ignore[no-any-return, attr-defined, unused-ignore]


def callback_failed(loop: Loop, handle: _AnyHandle, exception: BaseException) -> None:
    """Tell the exception handler that a callback raised `exception`."""
    context: dict[str, Any] = {
        "message": f"Exception in callback {_callback_source(loop, handle)}",
        "exception": exception,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    loop.call_exception_handler(context)


def run_timed(loop: Loop, handle: asyncio.Handle) -> None:
    """Debug mode or trace: run a handle, and log it if it took longer than `slow_callback_duration` seconds."""
    start = loop.time()
    loop._current_handle = handle
    try:
        handle._run()
        if loop._trace is not None:
            loop._trace.callback(_name(handle), start, loop.time())
        _log_if_slow(loop, start, base_events._format_handle, handle)  # type: ignore[attr-defined, unused-ignore]
    finally:
        loop._current_handle = None
        # Breaks a cycle when a task fails: its exception's traceback leads to this frame.
        del handle


def slow_source(loop: Loop, start: float, source: object) -> None:
    """Debug mode or trace: log that the callbacks of an I/O source were slow, if they were."""
    if loop._trace is not None:
        loop._trace.event(repr(source), start, loop.time())
    _log_if_slow(loop, start, repr, source)


def _log_if_slow(loop: Loop, start: float, describe: Callable[[Any], str], what: object) -> None:
    duration = loop.time() - start
    if not loop.get_debug():
        return
    if duration >= loop.slow_callback_duration:
        # asyncio's name for its logger: whoever replaces it there sees this, too.
        base_events.logger.warning(  # type: ignore[attr-defined, unused-ignore]
            "Executing %s took %.3f seconds", describe(what), duration
        )


def traced(loop: Loop, what: str, start: float, events: int) -> None:
    """Trace: a turn, or its poll, is over; `start` is in `loop.time()`'s seconds."""
    if loop._trace is not None:
        loop._trace.phase(what, start, loop.time(), events)


class SlowCallbacks:
    """Counts callbacks that took longer than `slow_callback_duration`, and remembers the slowest and the last ones."""

    def __init__(self) -> None:
        self.count = 0
        self._longest: dict[str, float] = {}
        # Of the callbacks that were timed together, the number of the first and of the last, and their seconds.
        self._last: deque[tuple[int, int, float]] = deque(maxlen=16)

    def add(self, name: str, seconds: float, first: int, last: int) -> None:
        """One more, among the callbacks with these numbers."""
        self.count += 1
        self._last.append((first, last, seconds))
        self._longest[name] = max(seconds, self._longest.get(name, 0.0))
        if len(self._longest) > SLOWEST:
            del self._longest[min(self._longest, key=self._longest.__getitem__)]

    def slowest(self) -> tuple[tuple[str, float], ...]:
        """Names with the longest time of each, the slowest first."""
        return tuple(sorted(self._longest.copy().items(), key=lambda item: -item[1]))

    def seconds(self, number: int) -> float | None:
        """How long the callback with this number took, if that was long and it is among the last ones."""
        return next((seconds for first, last, seconds in list(self._last) if first <= number <= last), None)


def slow_callback(loop: Loop, callback: object, seconds: float, callbacks: int) -> None:
    """Count `callback`, a handle, a function or the object that had an event, if it took too long.

    Short callbacks are timed in groups: then it is the last of `callbacks`, and any of them may have been the slow one.
    None: the last is not known any more.
    """
    if seconds < loop.slow_callback_duration:
        return
    if callback is None:
        name = f"one of {callbacks} callbacks" if callbacks > 1 else "a callback"
    else:
        name = _name(callback) + (f" or one of the {callbacks - 1} before it" if callbacks > 1 else "")
    last = loop._progress()[0]
    loop._slow_callbacks.add(name, seconds, last - callbacks + 1, last)


def _name(callback: object) -> str:
    if isinstance(callback, asyncio.Handle):
        callback = getattr(callback, "_callback", callback)
    # A task's step or wake-up: the task says more than the wrapper.
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        coroutine = owner.get_coro()
        name = getattr(coroutine, "__qualname__", None) or type(coroutine).__qualname__
        return f"task {owner.get_name()!r} ({name})"
    return format_helpers._format_callback_source(callback, ()) if callable(callback) else repr(callback)
