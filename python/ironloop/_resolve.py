"""Which host names need a resolver at all.

A literal IP address is parsed by `socket.getaddrinfo` without any look-up, so it needs no thread.
"""

from __future__ import annotations

import socket

from ._static import TYPE_CHECKING

if TYPE_CHECKING:
    from socket import AddressFamily, SocketKind
    from typing import Literal, TypeAlias

    #: Family, kind, protocol, canonical name, and an address with its port.
    V4: TypeAlias = tuple[Literal[AddressFamily.AF_INET], SocketKind, int, str, tuple[str, int]]
    #: The same, also with flow label and scope; or raw, where Python was built without IPv6.
    V6: TypeAlias = tuple[
        Literal[AddressFamily.AF_INET6], SocketKind, int, str, tuple[str, int, int, int] | tuple[int, bytes]
    ]
    #: What `socket.getaddrinfo` returns.
    Addresses: TypeAlias = list[V4 | V6]

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
