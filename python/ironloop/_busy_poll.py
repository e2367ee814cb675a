"""The default of `Loop.busy_poll`: what the environment says, or 50 microseconds.

That is about what it takes to block and to be woken; looking for events for longer than blocking costs gains nothing.
"""

from __future__ import annotations

import os
import warnings

VARIABLE = "IRONLOOP_BUSY_POLL"
SECONDS = 50e-6


def default() -> float:
    """Seconds. A value of the variable that is no number from 0 to 1 is warned of and ignored."""
    text = os.environ.get(VARIABLE)
    if text is None:
        return SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if 0 <= seconds <= 1:
        return seconds
    warnings.warn(f"{VARIABLE} is a number of seconds from 0 to 1, not {text!r}", RuntimeWarning, stacklevel=3)
    return SECONDS
