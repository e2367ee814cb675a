"""The event loop policy: asyncio's own default policy, with our loop.

What `asyncio.get_event_loop()` does without a running loop, and its warnings, are those of the running
version of Python; so are the child watchers of the versions that have them.

Policies are deprecated since Python 3.14. The class is made when it is first asked for, and our own use of
asyncio's policy functions does not warn.
"""

from __future__ import annotations

import asyncio
import functools
import warnings

from ._loop import Loop
from ._static import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
        """A policy that makes ironloop's loops."""


@functools.cache
def policy_class() -> type[EventLoopPolicy]:
    """The class `ironloop.EventLoopPolicy`. RuntimeError where asyncio has no policies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        base: Any = getattr(asyncio, "DefaultEventLoopPolicy", None)
    if base is None:
        raise RuntimeError(
            "this version of asyncio has no event loop policies; "
            "use asyncio.run(main(), loop_factory=ironloop.new_event_loop) or ironloop.run(main())"
        )

    class EventLoopPolicy(base):  # type: ignore[misc]
        """An event loop policy whose loops are ironloop's; everything else is asyncio's default policy."""

        _loop_factory = Loop

    EventLoopPolicy.__module__ = "ironloop"
    EventLoopPolicy.__qualname__ = "EventLoopPolicy"
    return EventLoopPolicy


def install_policy() -> None:
    """Set an `EventLoopPolicy` as the policy of this process."""
    policy = policy_class()()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(policy)
