"""Which host names need a resolver at all.

A literal IP address is parsed by `socket.getaddrinfo` without any look-up, so it needs no thread.
"""

from __future__ import annotations

import socket

#: Look-ups that may be under way at once; more wait for their turn.
THREADS = 8


def is_literal(host: object) -> bool:
    """Whether `host` is an IPv4 or IPv6 address in its usual notation, or None (no host at all)."""
    if host is None:
        return True
    if isinstance(host, bytes):
        try:
            host = host.decode("ascii")
        except UnicodeDecodeError:
            return False
    if not isinstance(host, str) or "\0" in host:
        return False
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, UnicodeError):
            continue
        return True
    return False
