"""Hints for the classic mistakes, as notes of the exceptions that they end in. Part of `Loop`.

    RuntimeError: Event loop is closed
    Hint: the asyncio.run() that made this loop is over ...

The exception, its type, its text and its traceback are CPython's; a note is what `add_note` is for (PEP 678), so from
Python 3.11 on. It is added where the loop raises the exception itself, and where one that asyncio's own code has raised
leaves the loop: by `run_until_complete`, or by way of the exception handler.
"""

from __future__ import annotations

import asyncio
import sys

from ._static import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from types import TracebackType
    from typing import Any, TypeVar

    _T = TypeVar("_T")

CLOSED = (
    "Hint: the asyncio.run() that made this loop is over, or the program has closed it. What belongs to a loop"
    " (connections, tasks, futures) ends with it: make it inside of the run that uses it."
)
THREAD = (
    "Hint: this thread is not the one that runs the loop. From here, use loop.call_soon_threadsafe(callback, ...), or"
    " asyncio.run_coroutine_threadsafe(coroutine, loop) for a coroutine."
)
NESTED = (
    "Hint: a loop runs in this thread already, and has called this code. Await the coroutine instead; code that cannot"
    " await may start a task, or leave the work to another thread by asyncio.to_thread()."
)
COROUTINE = (
    "Hint: a callback is a function, which the loop calls; this is a coroutine, which a task runs:"
    " asyncio.create_task(coroutine)."
)
FUNCTION = "Hint: calling a coroutine function makes the coroutine: main(), not main."
OTHER_LOOP = (
    "Hint: it belongs to another loop than the one that runs this. Make it inside of the coroutine that uses it, not"
    " when a module is imported or in another asyncio.run(); the loop of another thread is reached by"
    " asyncio.run_coroutine_threadsafe(coroutine, loop)."
)

#: What the text of an exception has in it, and the hint. The texts are CPython's; the first that fits counts.
_HINTS = (
    ("Event loop is closed", CLOSED),
    ("Non-thread-safe operation invoked on an event loop", THREAD),
    ("no running event loop", THREAD),
    ("This event loop is already running", NESTED),
    ("Cannot run the event loop while another loop is running", NESTED),
    ("cannot be called from a running event loop", NESTED),
    ("coroutines cannot be used with ", COROUTINE),
    ("'coroutine' object is not callable", COROUTINE),
    ("coroutine was expected, got <function ", FUNCTION),
    ("An asyncio.Future, a coroutine or an awaitable is required", FUNCTION),
    ("The future belongs to a different loop", OTHER_LOOP),
    (" attached to a different loop", OTHER_LOOP),
    (" is bound to a different event loop", OTHER_LOOP),
)


def add_hint(exception: object) -> None:
    """Add the hint for the mistake that has led to `exception`, if it is a classic one, once."""
    # asyncio raises these classes themselves; those of others may have any text, or a method that makes one.
    if sys.version_info >= (3, 11) and type(exception) in (RuntimeError, TypeError, ValueError):
        assert isinstance(exception, Exception)
        text = exception.args[0] if exception.args else None
        if not isinstance(text, str):
            return
        for part, hint in _HINTS:
            if part in text:
                if hint not in getattr(exception, "__notes__", ()):
                    exception.add_note(hint)
                return


class _Hinting:
    """Adds a hint to what leaves the body of a `with`, and takes the frame of that out of the traceback."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exception is not None:
            add_hint(exception)
            # It begins with the frame of the `with`; that nobody has asked for.
            if traceback is not None and exception.__traceback__ is traceback and traceback.tb_next is not None:
                exception.__traceback__ = traceback.tb_next


hinting = _Hinting()

if sys.version_info >= (3, 11):

    class Hints(asyncio.SelectorEventLoop):
        """The methods of a loop that raise the exceptions of classic mistakes, or through which they leave."""

        def run_until_complete(self, future: Generator[Any, None, _T] | Awaitable[_T]) -> _T:
            """Run until the future, or the task of the coroutine, is done; return its result or raise its exception.

            RuntimeError if a loop runs in this thread already, or if the loop is stopped before it is done.
            """
            with hinting:
                return super().run_until_complete(future)

        def call_exception_handler(self, context: dict[str, Any]) -> None:
            """Call the exception handler, or the default one, with `context`."""
            if isinstance(context, dict):
                add_hint(context.get("exception"))
            super().call_exception_handler(context)

        def _check_thread(self) -> None:
            with hinting:
                super()._check_thread()  # type: ignore[misc]

        def _check_running(self) -> None:
            with hinting:
                super()._check_running()  # type: ignore[misc]

        def _check_callback(self, callback: Callable[..., Any], method: str) -> None:
            with hinting:
                super()._check_callback(callback, method)  # type: ignore[misc]

else:

    class Hints(asyncio.SelectorEventLoop):
        """There are no notes yet."""
