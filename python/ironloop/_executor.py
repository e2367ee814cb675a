"""Thread pools: `ThreadPoolExecutor` over a native queue, for the default executor and for name look-ups.

A job that the loop hands over is one entry of the queue, and its outcome one entry of the loop's inbox
(`event_loop/executor.rs`, `jobs.rs`). Everything that a program can see of the pool is `ThreadPoolExecutor`'s:
`submit()`, the threads and their names, the shutdown, and that the interpreter waits for the threads at its end.

`shutdown_default_executor(timeout)` is new in Python 3.12. Before 3.12.3 it waited until the last thread was
done, however long that took: `shut_down` is for those versions.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import thread as cpython

from . import _native
from ._static import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from typing import Any

    from ._loop import Loop

#: CPython's own shutdown does not know a limit.
NEEDED = (3, 12) <= sys.version_info < (3, 12, 3)

# Names of `ThreadPoolExecutor`'s own that type checkers do not know.
_internals = cast("Any", cpython)


class ThreadPool(ThreadPoolExecutor):
    """A `ThreadPoolExecutor` that takes jobs of a loop's without a future of `concurrent.futures`."""

    _max_workers: int
    _shutdown: bool
    _shutdown_lock: threading.Lock
    _thread_name_prefix: str
    _threads: set[threading.Thread]

    def __init__(self, max_workers: int | None = None, *, thread_name_prefix: str) -> None:
        super().__init__(max_workers, thread_name_prefix)
        self._work_queue: _native.JobQueue = _native.JobQueue(self._max_workers)  # type: ignore[assignment, unused-ignore]

    def __del__(self) -> None:
        # Nobody can submit anything any more. There is no queue if the pool could not be made.
        queue = getattr(self, "_work_queue", None)
        if queue is not None:
            queue.put(None)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call fn(*args, **kwargs) in a thread; RuntimeError after the shutdown."""
        item = _Item(fn, args, kwargs)
        self.add_worker()
        self._work_queue.put(item)
        return item.future

    def add_worker(self) -> bool:
        """Start another thread if one more job needs it; RuntimeError after the shutdown."""
        queue = self._work_queue
        with self._shutdown_lock, _internals._global_shutdown_lock:
            if self._shutdown:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if _internals._shutdown:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            number = len(self._threads)
            if number >= self._max_workers or not queue.lacks_worker():
                return False
            # The thread must not know the pool, which ends it when it is dropped.
            thread = threading.Thread(target=queue.run, name=f"{self._thread_name_prefix}_{number}")
            thread.start()
            queue.worker_started()
            self._threads.add(thread)
            _internals._threads_queues[thread] = queue
            return True


class _Item:
    """What `submit()` was given."""

    __slots__ = ("args", "function", "future", "keywords")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self.future: Future[Any] = Future()
        self.function, self.args, self.keywords = function, args, keywords

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.function(*self.args, **self.keywords)
        except BaseException as error:
            self.future.set_exception(error)
            # The error knows this frame, and the frame would know the error.
            del self
        else:
            self.future.set_result(result)


async def shut_down(loop: Loop, executor: Executor, timeout: float | None = None) -> None:
    """Wait for the threads of `executor`, for `timeout` seconds at the most, and warn if some are not done by then."""
    finished = loop.create_future()

    def finish() -> None:
        if not finished.done():
            finished.set_result(None)

    def join() -> None:
        executor.shutdown(wait=True)
        try:
            loop.call_soon_threadsafe(finish)
        except RuntimeError:
            pass  # The loop has been closed meanwhile: nobody waits.

    thread = threading.Thread(target=join)
    thread.start()
    try:
        await asyncio.wait_for(finished, timeout)
    except asyncio.TimeoutError:
        message = f"The executor did not finishing joining its threads within {timeout} seconds."
        warnings.warn(message, RuntimeWarning, stacklevel=3)
        executor.shutdown(wait=False)
    else:
        thread.join()
