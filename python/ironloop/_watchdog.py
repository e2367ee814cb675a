"""The watchdog: says which callback blocks a loop, while it still does.

    loop ........ callback that blocks ................. next one
    watchdog      look    look: reported, with its stack    look: said how long it took

A thread looks at a counter of the loop a few times per threshold. Nothing is asked of the loop, and debug mode is not
needed. The thread needs the interpreter for a moment, though: a callback that blocks in C code without letting
go of the interpreter is reported as soon as it does, and the report says so.

Reports are warnings of the logger "ironloop.watchdog".
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
import weakref
from typing import TYPE_CHECKING

from . import _report

if TYPE_CHECKING:
    from types import FrameType

    from typing_extensions import Self

    from ._loop import Loop

logger = logging.getLogger("ironloop.watchdog")

LOOKS_PER_THRESHOLD = 4


class Watchdog:
    """Reports callbacks of `loop` that run for longer than `threshold` seconds, until `stop()`.

    A report comes after the threshold, then after twice that time, and so on; one more when the callback is over.
    Also a context manager. Made by `Loop.watch()`.
    """

    def __init__(self, loop: Loop, threshold: float) -> None:
        if not threshold > 0:
            raise ValueError(f"threshold must be positive, not {threshold!r}")
        self.threshold = threshold
        self._loop = weakref.ref(loop)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ironloop-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watch; no report comes after this returns, unless called by one."""
        self._stopped.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _watch(self) -> None:
        pause = self.threshold / LOOKS_PER_THRESHOLD
        blockage = _Blockage(self.threshold)
        before = time.monotonic()
        while not self._stopped.wait(pause):
            now = time.monotonic()
            loop = self._loop()
            if loop is None or loop.is_closed():
                return
            blockage.look(loop, now, late=now - before - pause)
            del loop
            before = time.monotonic()


class _Blockage:
    """What the looks at a loop have shown about the callback that runs now."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._callback = -1
        self._since = 0.0
        self._next_report = threshold
        self._name = ""

    def look(self, loop: Loop, now: float, late: float) -> None:
        """`late`: seconds by which the thread got the interpreter later than it wanted to."""
        callback, thread, waiting = loop._progress()
        running = thread != 0 and not waiting
        if callback != self._callback or not running:
            self._end(loop, now, late)
            if not running:
                self._callback = -1
                return
            self._callback = callback
            # Nobody could look meanwhile: it began some time in between.
            self._since = now - late if late >= self._threshold else now
        blocked = now - self._since
        if blocked >= self._next_report:
            self._report(loop, thread, blocked, late)
            while self._next_report <= blocked:
                self._next_report *= 2

    def _report(self, loop: Loop, thread: int, blocked: float, late: float) -> None:
        # Together, and before anything that takes long: the loop's thread may go on meanwhile.
        task, frame = asyncio.current_task(loop), sys._current_frames().get(thread)
        stack, reported = _stack_of_callback(frame), _reported_callback(frame)
        self._name = _describe(task, stack) if reported is None else f"callback {reported}"
        held = ""
        if late >= self._threshold:
            held = (
                f"; for {late:.2f} s nobody else could run Python code: it is, or was, in C code that does not let go"
                " of the interpreter"
            )
        text = "".join(stack.format())
        logger.warning("%r is blocked: %s has been running for %.2f s%s\n%s", loop, self._name, blocked, held, text)
        del frame

    def _end(self, loop: Loop, now: float, late: float) -> None:
        if self._name:
            # The loop knows better than a thread that the next callback has perhaps kept waiting.
            seconds = loop._slow_callbacks.seconds(self._callback)
            at_most = "at most " if seconds is None and late >= self._threshold else ""
            took = now - self._since if seconds is None else seconds
            logger.warning("no longer blocked: %s took %s%.2f s", self._name, at_most, took)
        self._name = ""
        self._next_report = self._threshold


def _stack_of_callback(frame: FrameType | None) -> traceback.StackSummary:
    """The stack from the callback on, without what runs the loop."""
    frames = [] if frame is None else list(traceback.walk_stack(frame))
    for depth, (caller, _line) in enumerate(frames):
        if caller.f_globals.get("__name__") == "ironloop._loop" and caller.f_code.co_name == "run_forever":
            # Between the callback and this frame there is only asyncio's own run_forever.
            frames = frames[: max(depth - 1, 0)]
            break
        if caller.f_code is _report.slow_callback.__code__:
            return traceback.StackSummary()
    return traceback.StackSummary.extract(iter(frames[::-1]))


def _reported_callback(frame: FrameType | None) -> str | None:
    """The name of a callback that is over, and about to be counted as a slow one: the first Python code since."""
    for caller, _line in traceback.walk_stack(frame) if frame is not None else ():
        if caller.f_code is _report.slow_callback.__code__:
            return _report._name(caller.f_locals["callback"])
    return None


def _describe(task: asyncio.Task[object] | None, stack: traceback.StackSummary) -> str:
    if task is not None:
        coroutine = task.get_coro()
        name = getattr(coroutine, "__qualname__", None) or type(coroutine).__qualname__
        return f"task {task.get_name()!r} ({name})"
    if not stack:
        return "a callback without Python code"
    outermost = stack[0]
    return f"callback {outermost.name} ({outermost.filename}:{outermost.lineno})"
