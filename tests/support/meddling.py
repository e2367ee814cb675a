"""A thread that opens, uses and closes descriptors of its own, and notes when somebody else has touched one."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator


@contextlib.contextmanager
def descriptors_of_another_thread(pause_seconds: float = 0) -> Iterator[None]:
    """Whoever closes, reads or writes a descriptor number that is not its own any more, most likely hits this thread's.

    Asserts at the end that nobody did. With a pause the thread leaves more of the processor to the loop.
    """
    stop = threading.Event()
    harm: list[str] = []

    def open_use_close() -> None:
        rounds = 0
        while not stop.is_set() and not harm:
            rounds += 1
            message = b"%d" % rounds
            try:
                pipes = [os.pipe() for _ in range(3)]
                for _, write in pipes:
                    os.write(write, message)
                time.sleep(pause_seconds)  # while these are open, it is the loop's turn
                for read, write in pipes:
                    if os.read(read, 100) != message:
                        harm.append(f"foreign bytes in descriptor {read}")
                    os.close(read)
                    os.close(write)
            except OSError as error:
                harm.append(repr(error))

    thread = threading.Thread(target=open_use_close)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not harm, harm
