"""ironloop: a complete asyncio event loop written in Rust.

    import ironloop
    ironloop.run(main())                                              # any Python
    asyncio.run(main(), loop_factory=ironloop.new_event_loop)         # Python 3.12 and later
    with asyncio.Runner(loop_factory=ironloop.new_event_loop) as r:   # Python 3.11 and later
        r.run(main())
    ironloop.install()                                                # while asyncio has policies

    python -m ironloop script.py                                      # a program as it is

Importing this package changes nothing in asyncio.
"""

from __future__ import annotations

from ._loop import Loop, new_event_loop
from ._native import __version__
from ._native import tls_backend as _tls_backend
from ._run import run
from ._static import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from . import inspect, metrics
    from ._policy import EventLoopPolicy
    from ._trace import Trace as trace

    tls_backend: str
    """How TLS records are made: "direct", by libssl itself, or "fallback", by `ssl.SSLObject`.

    IRONLOOP_TLS=fallback in the environment asks for the latter; a Python whose `_ssl` is unknown gets it.
    """

__all__ = [
    "EventLoopPolicy",
    "Loop",
    "__version__",
    "inspect",
    "install",
    "metrics",
    "new_event_loop",
    "run",
    "tls_backend",
    "trace",
]


def install() -> None:
    """Make ironloop's the event loop of every later `asyncio.run()` and `new_event_loop()` of this process.

    Sets an `EventLoopPolicy`. RuntimeError on a Python whose asyncio has no policies any more: pass
    `loop_factory=ironloop.new_event_loop` to `asyncio.run()` there.
    """
    from ._policy import install_policy

    install_policy()


def __getattr__(name: str) -> Any:
    # asyncio's policy classes warn when they are named (3.14), so ours is made when it is asked for.
    if name == "EventLoopPolicy":
        from ._policy import policy_class

        return policy_class()
    if name == "tls_backend":
        # Decided when it is asked for, or with the first connection.
        return _tls_backend()[0]
    if name in ("inspect", "metrics"):
        from importlib import import_module

        return import_module(f"ironloop.{name}")
    if name == "trace":
        from ._trace import Trace

        return Trace
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
