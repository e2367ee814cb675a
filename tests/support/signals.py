"""The signals that tests send to their own process."""

from __future__ import annotations

import signal

USED = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
