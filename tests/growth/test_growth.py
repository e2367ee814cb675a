"""Whatever is done a thousand times, or fails a thousand times, leaves no reference, no block and no memory behind.

Counted are references where the interpreter does (debug builds, `--with-pydebug`), else the blocks of Python's
allocator; and what malloc has given out, where Rust's memory comes from. There are four rounds. In each, a debug build
does each operation 1,000 times, or 250 times what takes longer, or 100 times what makes children; other builds do
1,000 and 100, and with `IRONLOOP_SCALE=1` as debug builds do.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
import warnings

import pytest

from tests.growth.callbacks import Callbacks
from tests.growth.connections import Connections
from tests.growth.descriptors import Descriptors
from tests.support.builds import FREE_THREADED

ROUNDS = 4
COUNTS_REFERENCES = hasattr(sys, "gettotalrefcount")
OFTEN = 1000
SELDOM = 250 if COUNTS_REFERENCES or "IRONLOOP_SCALE" in os.environ else 100
CHILDREN = 100
MALLOC_SLACK = 64 * 1024
FIELDS = ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(FREE_THREADED, reason="objects are freed by other threads, at any time"),
]


class Mallinfo(ctypes.Structure):
    """struct mallinfo2, see mallinfo(3)."""

    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS]


def malloced():
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return 0
    library.mallinfo2.restype = Mallinfo
    found = library.mallinfo2()
    return found.uordblks + found.hblkhd


def counted():
    """References or blocks in use, without the type cache, which keeps the names of up to 4,096 lookups.

    The name of the exception that a failed child sends is a new string each time, and each may fill another entry.
    """
    getattr(sys, "_clear_internal_caches", sys._clear_type_cache)()
    gc.collect()
    return getattr(sys, "gettotalrefcount", sys.getallocatedblocks)()


class Operations(Callbacks, Connections, Descriptors):
    """Each public coroutine but `prepare`, `finish` and `pair` is one repetition."""


OPERATIONS = [
    (
        OFTEN,
        [
            *["callbacks", "timers", "failing_callbacks", "tasks", "futures", "generators", "executor", "signals"],
            *["settings", "sockets", "files_on_sockets", "datagrams_on_sockets"],
        ],
    ),
    (
        SELDOM,
        [
            *["addresses", "other_threads", "figures", "traces", "other_loops", "servers", "connections", "protocols"],
            *["full_connections", "buffered_protocols", "stream_servers", "unix", "accepted_sockets", "sent_files"],
            *["refused_connections", "cancelled_connections", "secure_connections", "secure_protocols", "started_tls"],
            *["failed_handshakes", "distrusted_servers", "connected_sockets", "accepting_sockets", "datagrams"],
            *["refused_datagrams", "pipes"],
        ],
    ),
    (CHILDREN, ["subprocesses", "killed_subprocesses"]),
]
CASES = [(name, times) for times, names in OPERATIONS for name in names]


def test_every_operation_is_repeated():
    public = {name for name in dir(Operations) if not name.startswith("_")}
    assert public - {"prepare", "finish", "pair"} == {name for name, _ in CASES}


@pytest.mark.parametrize(("name", "times"), CASES)
def test_nothing_is_left_of_what_was_done_a_thousand_times(loop, loop_name, name, times):
    if loop_name == "asyncio":
        pytest.skip("about our own memory")

    async def repeat(operations, count):
        for _ in range(count):
            await getattr(operations, name)()
        # What the last ones have scheduled.
        await asyncio.sleep(0.02)

    async def main():
        loop.set_exception_handler(lambda *_: None)
        operations = Operations()
        await operations.prepare(loop)
        growth = []
        # Of references, those to what is counted here; blocks come and go with free lists.
        slack = max(10, times // 20) if COUNTS_REFERENCES else times // 2
        # The first rounds fill caches; a leak is in every round.
        for _ in range(ROUNDS):
            before, memory = counted(), malloced()
            await repeat(operations, times)
            growth.append((counted() - before, malloced() - memory))
        await operations.finish()
        assert min(objects for objects, _ in growth) < slack, growth
        assert min(memory for _, memory in growth) < MALLOC_SLACK, growth

    with warnings.catch_warnings():
        # asyncio's own create_connection leaves a socket to the collector when the factory fails.
        warnings.simplefilter("ignore", ResourceWarning)
        loop.run_until_complete(main())
