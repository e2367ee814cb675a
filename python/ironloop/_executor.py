"""The end of the default executor, for the versions of Python that wait for its threads without a limit.

`shutdown_default_executor(timeout)` is new in Python 3.12. Before 3.12.3 it waited until the last thread was
done, however long that took. Later versions do without this file.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ._loop import Loop

#: CPython's own shutdown does not know a limit.
NEEDED = (3, 12) <= sys.version_info < (3, 12, 3)


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
