"""What happens once per TLS connection and before its handshake, and which record layer is in use.

The connection itself is native (`_native.TlsConnection`, `_native.TlsTransport`).
"""

from __future__ import annotations

import ssl
from asyncio.streams import StreamReaderProtocol
from typing import TYPE_CHECKING, Any

from . import _native

if TYPE_CHECKING:
    import asyncio


def take_over(transport: Any, protocol: asyncio.BaseProtocol, tls: _native.TlsConnection, server_side: bool) -> None:
    """Hand on what the old pair of transport and protocol has: bytes read ahead, and a pause of writing."""
    if server_side and isinstance(protocol, StreamReaderProtocol):
        # The client's first bytes of TLS may be in the reader already: its side of `start_tls` did not wait for ours.
        reader = getattr(protocol, "_stream_reader", None)
        buffer = reader._buffer if reader is not None else None
        if buffer:
            tls._feed(bytes(buffer))
            buffer.clear()
    if getattr(transport, "_protocol_paused", False):
        tls._inherit_pause()


def backend() -> str:
    """Which record layer this process uses: "direct" or "fallback"."""
    return _native.tls_backend()[0]


__all__ = ["backend", "ssl", "take_over"]
