"""What the tasks of a loop are doing, told from another thread.

Everything is read from objects that the loop's thread goes on changing meanwhile, so each answer is one of a moment:
a task may be over when it is read.
"""

from __future__ import annotations

import asyncio

from ._static import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    from ._loop import Loop

#: More are counted, not listed.
LISTED = 500


def describe_tasks(loop: Loop) -> dict[str, Any]:
    """{"count": all tasks, "tasks": up to 500 of them, as `describe_task` has it, in the order of their names}."""
    tasks = sorted(asyncio.all_tasks(loop), key=_sort_key)
    return {"count": len(tasks), "tasks": [describe_task(task) for task in tasks[:LISTED]]}


def _sort_key(task: asyncio.Task[Any]) -> tuple[int, str]:
    # Task-2 before Task-10
    name = task.get_name()
    return len(name), name


def describe_task(task: asyncio.Task[Any]) -> dict[str, Any]:
    """Name, coroutine, where it is and in what it waits there, and the names of the tasks that it waits for.

    "where" is the innermost line outside of asyncio ("file:line in function"), "waits_in" the innermost function that
    is not one of asyncio's own affairs: `StreamReader.readline`, not what that is made of.
    """
    coroutine = task.get_coro()
    where, waits_in = _where(coroutine)
    return {
        "name": task.get_name(),
        "coroutine": getattr(coroutine, "__qualname__", None) or type(coroutine).__qualname__,
        "where": where,
        "waits_in": waits_in,
        "waits_for": [other.get_name() for other in _awaited_tasks(task)],
    }


def _where(coroutine: Any) -> tuple[str, str]:
    """Follows a chain of coroutines, generators and async generators that await each other."""
    where = innermost = ""
    while (found := _frame(coroutine)) is not None:
        frame, coroutine = found
        name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
        of_asyncio = frame.f_globals.get("__name__", "").startswith("asyncio.")
        if not where or not of_asyncio:
            where = f"{frame.f_code.co_filename}:{frame.f_lineno} in {name}"
        if not innermost or not (of_asyncio and frame.f_code.co_name.startswith("_")):
            innermost = name
    return where, innermost


def _frame(coroutine: Any) -> tuple[FrameType, Any] | None:
    """The frame of something that can be awaited, and what that awaits."""
    for prefix, awaits in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
        frame = getattr(coroutine, f"{prefix}_frame", None)
        if frame is not None:
            return frame, getattr(coroutine, awaits, None)
    return None


def _awaited_tasks(task: asyncio.Task[Any]) -> list[asyncio.Task[Any]]:
    """Directly, or by `gather`."""
    waiter = getattr(task, "_fut_waiter", None)
    candidates = [waiter, *(getattr(waiter, "_children", None) or ())]
    return [candidate for candidate in candidates if isinstance(candidate, asyncio.Task)]
