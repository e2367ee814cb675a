"""What a process has open, and how much memory it uses."""

from __future__ import annotations

import os


def open_descriptors() -> dict[int, str]:
    """Number and target of every open descriptor of this process."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor of the listing itself
    return found


def resident_bytes() -> int:
    """The resident set, from /proc/self/statm (proc(5))."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
