"""How fast a loop does work: operations per second, and per second of CPU time."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def cpu_seconds() -> float:
    """Of this process and of the children that have ended."""
    usages = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


async def work(program: Callable[[int], Awaitable[None]], count: int, seconds: float) -> dict[str, float]:
    """Operations per second, and per second of CPU time. The first call warms up."""
    await program(count)
    start, cpu, calls = time.perf_counter(), cpu_seconds(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        await program(count)
        calls += 1
    return {"rate": count * calls / elapsed, "rate_of_cpu": count * calls / (cpu_seconds() - cpu)}
