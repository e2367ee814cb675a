"""What happens once per TLS connection, before its handshake: `start_tls` takes over from another transport.

The connection itself is native (`_native.TlsConnection`, `_native.TlsTransport`). Nothing of asyncio is changed;
a reader of its streams gives up the bytes that belong to the handshake, as with CPython's own since 3.13.
"""

from __future__ import annotations

from asyncio.streams import StreamReaderProtocol

from ._static import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from . import _native


def check_context(sslcontext: object) -> None:
    """Raise TypeError unless `sslcontext` is an `ssl.SSLContext`, RuntimeError if this Python has none."""
    try:
        import ssl
    except ImportError:
        raise RuntimeError("Python ssl module is not available") from None
    if not isinstance(sslcontext, ssl.SSLContext):
        raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")


def take_over(transport: Any, protocol: asyncio.BaseProtocol, tls: _native.TlsConnection, server_side: bool) -> None:
    """Hand on what the old pair of transport and protocol has: bytes read ahead, and a pause of writing."""
    if server_side and isinstance(protocol, StreamReaderProtocol):
        # The client's first bytes of TLS may be in the reader already: its side of `start_tls` did not wait for ours.
        reader = getattr(protocol, "_stream_reader", None)
        buffer = getattr(reader, "_buffer", None)
        if buffer:
            tls._feed(bytes(buffer))
            buffer.clear()
    if getattr(transport, "_protocol_paused", False):
        tls._inherit_pause()
