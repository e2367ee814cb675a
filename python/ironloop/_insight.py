"""What a loop shows of itself: `metrics()`, `watch()`, and what the environment asks for. Part of `Loop`.

IRONLOOP_WATCHDOG=SECONDS watches every loop, IRONLOOP_INSPECT=1 opens the process for `python -m ironloop top`.
"""

from __future__ import annotations

import asyncio
import os
import weakref

from . import _report
from ._static import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from ._loop import Loop
    from ._trace import Trace
    from ._watchdog import Watchdog
    from .metrics import Metrics

#: The loops of this process that were made and are not collected yet.
loops: weakref.WeakSet[Loop] = weakref.WeakSet()


class Insight(asyncio.SelectorEventLoop):
    """The methods of a loop that tell what it does."""

    _watchdog: Watchdog | None
    _trace: Trace | None

    def _prepare_insight(self) -> None:
        self._watchdog = None
        self._trace = None
        self._slow_callbacks = _report.SlowCallbacks()
        self._name_lookups = 0

    def metrics(self) -> Metrics:
        """What the loop has counted since it was made; may be called from any thread."""
        from .metrics import snapshot  # takes a few milliseconds to import, and few programs need it

        return snapshot(cast("Loop", self))

    def _start_insight(self) -> None:
        """What the environment asks for."""
        if self._watchdog is None and (threshold := os.environ.get("IRONLOOP_WATCHDOG")):
            self.watch(float(threshold))
        if os.environ.get("IRONLOOP_INSPECT", "0") not in ("", "0"):
            from . import inspect

            inspect.enable()

    def watch(self, threshold: float = 0.25) -> Watchdog:
        """Report callbacks that run for longer than `threshold` seconds, while they run; see `Watchdog`.

        IRONLOOP_WATCHDOG=0.25 in the environment does the same for every loop. A second call replaces the first
        watchdog.
        """
        cast("Loop", self)._check_closed()
        from ._watchdog import Watchdog

        if self._watchdog is not None:
            self._watchdog.stop()
        self._watchdog = Watchdog(cast("Loop", self), threshold)
        return self._watchdog
